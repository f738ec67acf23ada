"""Pitch by YIN: the lag at which a stretch of speech repeats itself best.

A. de Cheveigné and H. Kawahara, "YIN, a fundamental frequency estimator for speech and music",
J. Acoust. Soc. Am. 111 (2002). For a frame x of W samples and a lag τ:

    d(τ)  = Σ_j (x[j] − x[j + τ])²                difference, 0 for a period
    d′(τ) = d(τ) · τ / Σ_{k=1..τ} d(k)            the same relative to shorter lags, 1 on average

The pitch is the rate divided by the smallest τ whose d′ is a local minimum below a threshold and not far above the
smallest one; where there is none, by the τ of the smallest local minimum. A parabola through three values of d′ gives
the lag between two samples. The clarity is 1 − d′: near 1 for a periodic frame, low for noise.

Shapes: B clips, N samples, T frames, K lags.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from emoshare.backbones.fourier import correlation, cut_frames
from emoshare.core.config import HOP, RATE, SHORTEST

DECIMATION = 2  # the search runs at 8,000 samples per second: speech repeats itself below 4 kHz
LOWEST, HIGHEST = 60.0, 600.0  # Hz
THRESHOLD = 0.15  # of d′
MARGIN = 0.05  # how much above the smallest d′ a shorter lag's may lie: a formant on a harmonic gives shallow valleys
SPAN = 256  # samples at the lower rate that are compared: 32 ms
TAPS = 33  # of the low-pass filter before decimation


def low_pass() -> Tensor:
    """(TAPS,) float64: a windowed sinc at 0.9 times half the lower rate, sum 1."""
    position = torch.arange(TAPS, dtype=torch.float64) - TAPS // 2
    taps = torch.sinc(position * 0.9 / DECIMATION) * torch.hann_window(TAPS + 2, False, dtype=torch.float64)[1:-1]
    return taps / taps.sum()


def decimate(waves: Tensor) -> Tensor:
    """(B, N) at 16 kHz → (B, ⌈N / 2⌉) at 8 kHz; zeros are assumed before and after the clip.

    Filtered in float64: the last digits of a product hang on the size of the batch.
    """
    waves = functional.pad(waves.double(), (TAPS // 2, TAPS // 2))
    return (cut_frames(waves, TAPS, DECIMATION) @ low_pass().to(waves.device)).float()


def difference(frames: Tensor, lags: int) -> Tensor:
    """(…, SPAN + lags) samples → d(τ) of the lags 0 to `lags`, (…, lags + 1), by way of the FFT."""
    energy = functional.pad(frames.double().square().cumsum(-1), (1, 0))
    shifted = (energy[..., SPAN : SPAN + lags + 1] - energy[..., : lags + 1]).to(frames.dtype)  # Σ_j x[j + τ]²
    return (shifted[..., :1] + shifted - 2 * correlation(frames, SPAN, lags).to(frames.dtype)).clamp(min=0)


def normalise(differences: Tensor) -> Tensor:
    """d(τ) → d′(τ), both (…, K); 1 at lag 0 and in silence."""
    lag = torch.arange(1, differences.shape[-1], device=differences.device)
    total = differences[..., 1:].cumsum(-1)
    relative = torch.where(total > 0, differences[..., 1:] * lag / total.clamp(min=torch.finfo(total.dtype).tiny), 1.0)
    return functional.pad(relative, (1, 0), value=1.0)


def pick(relative: Tensor, shortest: int) -> tuple[Tensor, Tensor]:
    """d′ (…, K) → lag between samples (…) and clarity (…) in [0, 1].

    `shortest`: the least lag in question. The last of the K is only the neighbour of the one before it.
    """
    before, here, after = relative[..., :-2], relative[..., 1:-1], relative[..., 2:]
    allowed = torch.arange(1, relative.shape[-1] - 1, device=relative.device) >= shortest
    valley = (here < before) & (here <= after) & allowed
    least, best = torch.where(valley, here, torch.inf).min(-1, keepdim=True)
    deep = valley & (here < THRESHOLD) & (here < least + MARGIN)
    choice = torch.where(deep.any(-1, keepdim=True), deep.int().argmax(-1, keepdim=True), best)
    left, middle, right = (values.gather(-1, choice)[..., 0] for values in (before, here, after))
    bend = left - 2 * middle + right
    shift = torch.where(bend > 0, (left - right) / (2 * bend.clamp(min=1e-12)), 0.0).clamp(-1, 1)
    lag = choice[..., 0] + 1 + shift
    depth = middle - (left - right) * shift / 4
    clarity = torch.where(valley.any(-1), 1 - depth, 0.0).clamp(0, 1)
    return lag, clarity


def track(waves: Tensor, frames: Any) -> tuple[Tensor, Tensor]:
    """Samples (B, N), zeros after each clip → pitch in Hz and clarity of each frame, (B, T) each.

    A frame's stretch is centred on its 25 ms. Its pitch means something only where its clarity is high.
    """
    rate, hop = RATE // DECIMATION, HOP // DECIMATION
    lags, shortest = int(rate / LOWEST) + 1, int(rate / HIGHEST)
    width = SPAN + lags
    front = width // 2 - SHORTEST // DECIMATION // 2
    low = decimate(functional.pad(waves, (0, DECIMATION * width)))  # what the last frame may need, and more
    stretches = cut_frames(functional.pad(low, (front, 0)), width, hop, frames)  # (B, T, SPAN + lags)
    lag, clarity = pick(normalise(difference(stretches, lags)), shortest)
    return rate / lag, clarity
