"""Frames of several backbones as one: aligned in time, normalised one by one, side by side.

Shapes: P parts, B clips, S frames of one part, T frames of the joined clip, D features of one part.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

EPSILON = 1e-5  # of PyTorch's LayerNorm


def joined_counts(counts: Tensor) -> Tensor:
    """Frames of each part of each clip (P, B) → T of each clip (B,).

    The fewest that a part has, a part with a single frame left aside: 50 a second where a speech encoder is among them.
    """
    several = torch.where(counts > 1, counts, torch.iinfo(counts.dtype).max)
    return torch.where((counts > 1).any(0), several.min(0).values, 1)


def align(frames: Tensor, counts: Tensor, lengths: Tensor) -> Tensor:
    """Frames (B, S, D) that count (B,) → (B, T, D): at each of `lengths` (B,) frames the one that is nearest in time.

    Frame t of T lies at (t + 1/2) / T of the clip, and so in frame ⌊(t + 1/2) · S / T⌋ of S: the same where S = T. A
    single frame is repeated. Zeros follow each clip's own frames.
    """
    place = torch.arange(int(lengths.max()), device=frames.device)[None]  # (1, T)
    nearest = (2 * place + 1) * counts[:, None] // (2 * lengths[:, None])
    index = torch.minimum(nearest, counts[:, None] - 1)  # (B, T)
    aligned_frames = frames.gather(1, index[:, :, None].expand(-1, -1, frames.shape[2]))
    return aligned_frames.masked_fill((place >= lengths[:, None])[:, :, None], 0)


def join(parts: Sequence[tuple[Tensor, Tensor]], normalized: bool) -> tuple[Tensor, Tensor]:
    """Frames (B, S, D) and frames that count (B,) of each part → (B, T, sum of D) float32, and (B,).

    normalized: each frame of each part to zero mean and unit variance over its features, a layer norm without weights.
    """
    lengths = joined_counts(torch.stack([counts for _, counts in parts]))
    joined = []
    for frames, counts in parts:
        frames = frames.float()
        if normalized:
            frames = layer_norm(frames, frames.shape[-1:], eps=EPSILON)
        joined.append(align(frames, counts, lengths))
    return torch.cat(joined, 2), lengths
