"""Masks of the samples or frames in a batch that are a clip's own."""

from __future__ import annotations

import torch
from torch import Tensor


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """Lengths of clips (B,) → (B, size), true at positions below each length."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]
