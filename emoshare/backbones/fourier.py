"""Spectra of short stretches, by PyTorch's Fourier transform; where a model is traced, by products with matrices.

ONNX's engines have no transform that is exact enough, and none in float64.

Shapes: B clips, N samples, T frames, K samples of a frame, F frequencies.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def cut_frames(waves: Tensor, width: int, hop: int, count: Any = None) -> Tensor:
    """Stretches of `width` samples, one every `hop`: (B, N) → (B, count, width), by default all that there are."""
    if not torch.jit.is_tracing():
        return waves.unfold(1, width, hop)[:, :count]
    count = 1 + (waves.shape[1] - width) // hop if count is None else count
    starts = torch.arange(count, device=waves.device) * hop
    return waves[:, starts[:, None] + torch.arange(width, device=waves.device)]


def power(frames: Tensor, size: int) -> Tensor:
    """Squared magnitudes of a transform over `size` samples: (…, K) → (…, F), F = size / 2 + 1."""
    if not torch.jit.is_tracing():
        return torch.fft.rfft(frames, size).abs().square()
    real, imaginary = _transform(frames, size)
    return (real.square() + imaginary.square()).float()


def correlation(stretches: Tensor, span: int, lags: int) -> Tensor:
    """Σ_j x[j] x[j + τ] over the first `span` samples, for τ = 0 to `lags`: (…, span + lags) → (…, lags + 1)."""
    size = 1 << (2 * span + lags - 2).bit_length()
    if not torch.jit.is_tracing():
        spectrum = torch.fft.rfft(stretches[..., :span], size).conj() * torch.fft.rfft(stretches, size)
        return torch.fft.irfft(spectrum, size)[..., : lags + 1]
    (a, b), (c, d) = _transform(stretches[..., :span], size), _transform(stretches, size)
    cosine, sine = _matrices(lags + 1, size)
    doubled = torch.full((size // 2 + 1, 1), 2 / size, dtype=torch.float64)
    doubled[[0, -1]] /= 2
    return (a * c + b * d) @ (cosine.T * doubled) + (a * d - b * c) @ (sine.T * doubled)


def _transform(frames: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """(…, K) → real and imaginary parts (…, F) in float64."""
    cosine, sine = _matrices(frames.shape[-1], size)
    return frames.double() @ cosine, frames.double() @ sine


def _matrices(width: Any, size: int) -> tuple[Tensor, Tensor]:
    """(K, F) each; from NumPy, so that a trace holds them as constants."""
    turns = np.outer(np.arange(int(width)), np.arange(size // 2 + 1)) % size
    angle = turns * (2 * np.pi / size)
    return torch.from_numpy(np.cos(angle)), torch.from_numpy(-np.sin(angle))
