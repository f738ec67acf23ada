"""A backbone: how loud each 20 ms are, in several bands of the spectrum."""

import numpy as np
import torch
from torch import Tensor, nn

HOP, SIZE = 320, 400  # samples at 16 kHz: 20 ms from one frame to the next, 25 ms in a frame


class Loudness(nn.Module):
    """Samples (B, N) and lengths (B,) → frames (B, T, D) and those that count (B,)."""

    def __init__(self, bands: int = 12) -> None:
        super().__init__()
        self.width = bands

    def frame_counts(self, samples: np.ndarray) -> np.ndarray:
        return 1 + (np.maximum(samples, SIZE) - SIZE) // HOP

    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        power = torch.fft.rfft(waves.unfold(1, SIZE, HOP)).abs().square()  # (B, T, SIZE / 2 + 1)
        bands = torch.stack([band.mean(2) for band in power.tensor_split(self.width, dim=2)], dim=2)
        counts = 1 + (lengths.clamp(min=SIZE) - SIZE) // HOP
        return (bands + 1e-6).log(), counts
