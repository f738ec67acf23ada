"""Augmentation of frames in training: frames masked, clips mixed.

Draws come from PyTorch's generator of the CPU, which is seeded in every epoch, so that a resumed run draws what an
uninterrupted one does.

Shapes: B clips, T frames, D features, E emotions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from emoshare.core.masks import length_mask

STRETCH = 10  # frames that are masked together, 0.2 s, as SpecAugment does in the backbones: neighbours are much alike


def mask_frames(frames: Tensor, lengths: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Take out about `share` of the frames of each clip, in stretches; a clip that would have none left keeps all.

    Each clip is cut into stretches of STRETCH frames, from a random start, and each of them is masked with probability
    `share`. A masked frame does not count: the others move together.

    Args:
        frames: (B, T, D).
        lengths: (B,) frames that count.

    Returns:
        Frames (B, T', D) and frames that count (B,).
    """
    clips, count = frames.shape[:2]
    start = torch.randint(STRETCH, (clips, 1))
    stretch = (torch.arange(count) + start) // STRETCH  # (B, T)
    masked = torch.rand(clips, count // STRETCH + 2).gather(1, stretch) < share
    speech = length_mask(lengths.to(frames.device), frames.shape[1])  # (B, T)
    remaining = speech & ~masked.to(frames.device)
    remaining = torch.where(remaining.any(1, keepdim=True), remaining, speech)
    lengths = remaining.sum(1)
    order = remaining.int().argsort(dim=1, descending=True, stable=True)[:, : int(lengths.max())]
    return frames.gather(1, order[:, :, None].expand(-1, -1, frames.shape[2])), lengths


def mix(vectors: Tensor, shares: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Mix each clip with another of the batch: λ x_i + (1 − λ) x_j, and their labels in the same way; λ ~ Beta(α, α).

    Zhang et al. (2018), mixup: Beyond Empirical Risk Minimization, ICLR; of pooled clips as in Verma et al. (2019),
    Manifold Mixup, ICML, since clips differ in length. One λ and one order for the batch.

    Args:
        vectors: (B, F) pooled clips.
        shares: (B, E) labels.
    """
    weight = float(torch.distributions.Beta(alpha, alpha).sample())
    other = torch.randperm(len(vectors)).to(vectors.device)
    return weight * vectors + (1 - weight) * vectors[other], weight * shares + (1 - weight) * shares[other]
