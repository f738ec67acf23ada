"""Pooling inside a head: the frames of a clip → one vector, or one vector for each of its segments.

Shapes: B clips, T frames (50 per second), D features, A attention heads, S segments of the longest clip, M segments of
all clips, F features of a pooled clip.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from emoshare.core.config import HOP, RATE
from emoshare.core.masks import length_mask

LEAST_VARIANCE = 1e-10  # below it the standard deviation is a constant, so that its gradient stays finite


class Pooling(nn.Module):
    """Frames of a clip → one vector of `size` features, from the frames that count.

    A weight w_t for each frame, Σ w_t = 1, gives the mean μ = Σ w_t h_t and the deviation σ = √(Σ w_t (h_t − μ)²):

    - `mean`, `stats`: w_t = 1 / T. μ, or μ and σ (Snyder et al., 2018, X-vectors, ICASSP).
    - `attention`, `attentive_stats`: w = softmax(q · h_t) with one learned query q. μ, or μ and σ (Okabe et al., 2018,
      Attentive Statistics Pooling, Interspeech; there a small network scores the frames, here the query alone).
    - `multihead`: the μ of A queries, one after the other (Lin et al., 2017, A Structured Self-attentive Sentence
      Embedding, ICLR). With one head it is `attention`.
    - `max`: the largest value of each feature.
    """

    def __init__(self, kind: str, dim: int, heads: int = 1) -> None:
        """heads: A, of `multihead`."""
        super().__init__()
        self.kind = kind
        self.deviation = kind in ("stats", "attentive_stats")
        queries = {"attention": 1, "attentive_stats": 1, "multihead": heads}.get(kind, 0)
        self.score = nn.Linear(dim, queries, bias=False) if queries else None
        self.size = dim * max(queries, 1) * (2 if self.deviation else 1)  # F

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) and (B,) frames that count → (B, F) in float32.

        Means are matrix products in the frames' own precision; softmax and deviations are taken in float32.
        """
        silent = ~length_mask(lengths, frames.shape[1])  # (B, T)
        if self.kind == "max":
            return frames.masked_fill(silent[:, :, None], -torch.inf).amax(1).float()
        weights = self.weights(frames, silent)  # (B, A, T)
        if not self.deviation:
            return (weights.to(frames.dtype) @ frames).flatten(1).float()
        with torch.autocast(frames.device.type, enabled=False):  # squares of half precision are too coarse
            mean, frames = weights @ frames.float(), frames.float()  # (B, 1, D)
            variance = weights @ (frames - mean).square()
            deviation = variance.clamp(min=LEAST_VARIANCE).sqrt()
        return torch.cat([mean, deviation], 2).flatten(1)

    def weights(self, frames: Tensor, silent: Tensor) -> Tensor:
        """(B, T, D) and (B, T) → (B, A, T) float32; they add up to 1 over the frames that count."""
        if self.score is not None:
            scores = (frames @ self.score.weight.to(frames.dtype).T).transpose(1, 2).float()
        else:
            scores = torch.zeros_like(frames[:, :, :1], dtype=torch.float32).transpose(1, 2)
        return scores.masked_fill(silent[:, None], -torch.inf).softmax(2)


class Segments(nn.Module):
    """Frames of a clip → the mean of each of its segments, `head.segment_seconds` long, one every `head.hop_seconds`.

    A segment lies within its clip: frames after the last whole one are left out. A clip shorter than a segment is one
    segment.
    """

    def __init__(self, seconds: float = 0.6, every: float = 0.2) -> None:
        """seconds: length of a segment. every: seconds from one segment to the next."""
        super().__init__()
        self.length = max(round(seconds * RATE / HOP), 1)  # frames
        self.hop = max(round(every * RATE / HOP), 1)

    def counts(self, lengths: Tensor) -> Tensor:
        """(B,) frames that count → (B,) segments of each clip."""
        return 1 + (lengths - self.length).clamp(min=0) // self.hop

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D), (B,) frames that count → means (M, D) in float32, clip by clip; (B, S) true for segments of it."""
        lengths = lengths.to(frames.device)
        counts = self.counts(lengths)
        present = length_mask(counts, int(counts.max()))  # (B, S)
        frames = frames.masked_fill(~length_mask(lengths, frames.shape[1])[:, :, None], 0)
        missing = self.length + (present.shape[1] - 1) * self.hop - frames.shape[1]
        if missing > 0:  # all clips are shorter than a segment
            frames = nn.functional.pad(frames, (0, 0, 0, missing))
        sums = frames.unfold(1, self.length, self.hop)[:, : present.shape[1]].sum(3, dtype=torch.float32)  # (B, S, D)
        means = sums / lengths.clamp(max=self.length)[:, None, None]
        return means[present], present


def mean_of_segments(values: Tensor, present: Tensor) -> Tensor:
    """Values (M, E) of segments, clip by clip, and (B, S) true for those that there are → means of clips (B, E)."""
    spread = values.new_zeros((*present.shape, values.shape[1]))  # (B, S, E)
    spread[present] = values
    return spread.sum(1) / present.sum(1, keepdim=True)
