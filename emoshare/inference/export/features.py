"""Feature sets in operations that ONNX and OpenVINO have: Fourier transforms are matrix products, clips are batched.

Each class takes the samples of windows and gives the frames of a backbone of `emoshare.backbones`, within rounding.

Shapes: B clips, N samples, T frames, K samples of a frame, F frequencies, D features.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from emoshare.backbones import audeep, deepspectrum, pitch
from emoshare.backbones.logmel import LogMel
from emoshare.backbones.prosody import BINS, ProsodyEncoder
from emoshare.core.config import HOP, RATE, SHORTEST
from emoshare.core.masks import length_mask


def framed(waves: Tensor, width: int, hop: int, count: Any) -> Tensor:
    """The first `count` stretches of `width` samples, one every `hop`: (B, N) → (B, count, width)."""
    starts = torch.arange(count, device=waves.device) * hop
    return waves[:, starts[:, None] + torch.arange(width, device=waves.device)]


class Fourier(nn.Module):
    """torch.fft.rfft of K samples in a transform of `size`, as two matrix products in float64."""

    cosine: Tensor  # (K, F)
    sine: Tensor  # (K, F)

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        turns = torch.arange(width)[:, None] * torch.arange(size // 2 + 1) % size
        angle = turns.double() * (2 * math.pi / size)
        self.register_buffer("cosine", angle.cos())
        self.register_buffer("sine", -angle.sin())

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """(…, K) → real and imaginary parts, (…, F) each, float64."""
        frames = frames.double()
        return frames @ self.cosine, frames @ self.sine

    def power(self, frames: Tensor) -> Tensor:
        """(…, K) → squared magnitudes (…, F), float32."""
        real, imaginary = self(frames)
        return (real.square() + imaginary.square()).float()


class LogMelGraph(nn.Module):
    """`logmel.LogMel`: (B, N) → (B, T, D)."""

    window: Tensor  # (400,)
    bank: Tensor  # (201, D)

    def __init__(self, encoder: LogMel) -> None:
        super().__init__()
        self.fourier = Fourier(SHORTEST, SHORTEST)
        self.register_buffer("window", encoder.mel.spectrogram.window.clone())
        self.register_buffer("bank", encoder.mel.mel_scale.fb.clone())

    def forward(self, waves: Tensor, mask: Tensor | None = None) -> Tensor:
        frames = framed(waves, SHORTEST, HOP, 1 + (waves.shape[1] - SHORTEST) // HOP)
        return (self.fourier.power(frames * self.window) @ self.bank + 1e-6).log()


class ProsodyGraph(ProsodyEncoder):
    """`prosody.ProsodyEncoder`: (B, N), (B,) → (B, T, D), (B,)."""

    low_pass: Tensor  # (1, 1, TAPS)
    inverse: Tensor  # (F, lags + 1), real part
    inverse_imaginary: Tensor

    def __init__(self) -> None:
        super().__init__()
        rate = RATE // pitch.DECIMATION
        self.lags, self.shortest_lag = int(rate / pitch.LOWEST) + 1, int(rate / pitch.HIGHEST)
        size = 1 << (pitch.SPAN + self.lags + pitch.SPAN - 2).bit_length()
        self.fourier = Fourier(SHORTEST, BINS)
        self.head, self.whole = Fourier(pitch.SPAN, size), Fourier(pitch.SPAN + self.lags, size)
        back = Fourier(self.lags + 1, size)
        doubled = torch.full((size // 2 + 1, 1), 2 / size, dtype=torch.float64)
        doubled[0] = doubled[-1] = 1 / size
        self.register_buffer("inverse", back.cosine.T * doubled)
        self.register_buffer("inverse_imaginary", back.sine.T * doubled)
        self.register_buffer("low_pass", pitch.low_pass()[None, None])

    def power(self, waves: Tensor) -> Tensor:
        frames = framed(waves, SHORTEST, HOP, 1 + (waves.shape[1] - SHORTEST) // HOP)
        return self.fourier.power(frames * self.taper) / BINS

    def track(self, waves: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """As `pitch.track`: the same search, with as many zeros after the clip as its last frame may need."""
        rate, hop = RATE // pitch.DECIMATION, HOP // pitch.DECIMATION
        width = pitch.SPAN + self.lags
        front = width // 2 - SHORTEST // pitch.DECIMATION // 2
        padded = functional.pad(waves, (0, pitch.DECIMATION * width)).double()
        taps = self.low_pass[0, 0]
        padded = functional.pad(padded, (pitch.TAPS // 2, pitch.TAPS // 2))
        steps = (waves.shape[1] + pitch.DECIMATION * width + pitch.DECIMATION - 1) // pitch.DECIMATION
        low = (framed(padded, pitch.TAPS, pitch.DECIMATION, steps) @ taps).float()
        stretches = framed(functional.pad(low, (front, 0)), width, hop, frames)  # (B, T, SPAN + lags)
        lag, clarity = pitch.pick(pitch.normalised(self.difference(stretches)), self.shortest_lag)
        return rate / lag, clarity

    def difference(self, frames: Tensor) -> Tensor:
        """As `pitch.difference`."""
        (a, b), (c, d) = self.head(frames[..., : pitch.SPAN]), self.whole(frames)
        correlation = (a * c + b * d) @ self.inverse + (a * d - b * c) @ self.inverse_imaginary
        energy = functional.pad(frames.double().square().cumsum(-1), (1, 0))
        shifted = energy[..., pitch.SPAN : pitch.SPAN + self.lags + 1] - energy[..., : self.lags + 1]
        return (shifted[..., :1] + shifted - 2 * correlation).clamp(min=0).float()


class DeepSpectrumGraph(nn.Module):
    """`deepspectrum.DeepSpectrum`: (B, N), (B,) → (B, 1, D), (B,)."""

    def __init__(self, encoder: deepspectrum.DeepSpectrum) -> None:
        super().__init__()
        self.encoder = encoder
        self.fourier = Fourier(deepspectrum.FFT, deepspectrum.FFT)

    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        fft, step, picture = deepspectrum.FFT, deepspectrum.STEP, self.encoder.picture
        waves = functional.pad(waves, (0, fft))
        counts = 1 + torch.div(lengths.clamp(min=fft) - fft, step, rounding_mode="floor")  # (B,)
        longest: Any = counts.max()
        frames = framed(waves, fft, step, longest) * picture.window
        inside = length_mask(counts, longest)[..., None]  # (B, T, 1)
        levels = 10 * (self.fourier.power(frames) @ picture.bank).clamp(min=deepspectrum.FLOOR).log10()  # (B, T, 128)
        high = torch.where(inside, levels, -torch.inf).amax((1, 2), keepdim=True)
        levels = levels - high
        low = torch.where(inside, levels, torch.inf).amin((1, 2), keepdim=True)
        scaled = (levels - low) / (0 - low).clamp(min=1e-6)
        count = len(picture.colours)
        colours = picture.colours[(scaled.clamp(0, 1) * count).long().clamp(max=count - 1)]  # (B, T, 128, 3)
        colours = colours.permute(0, 3, 2, 1).flip(2)  # (B, 3, 128, T)
        across = resizing(counts, longest, deepspectrum.SIZE)  # (B, 224, T)
        down = resizing(torch.full_like(counts[:1], deepspectrum.BANDS), deepspectrum.BANDS, deepspectrum.SIZE)
        pictures = down[:, None] @ colours @ across.transpose(1, 2)[:, None]
        pictures = (pictures - self.encoder.mean) / self.encoder.std
        return self.encoder.pool(pictures)[:, None], torch.ones_like(lengths)


def resizing(sizes: Tensor, longest: Any, out: int) -> Tensor:
    """Matrices (B, out, longest) that resize (B,) pixels to `out`, bilinear with antialiasing as PyTorch does it."""
    scale = sizes[:, None, None].float() / out
    centre = (torch.arange(out, device=sizes.device)[:, None] + 0.5) * scale
    pixel = torch.arange(longest, device=sizes.device)
    weights = (1 - (pixel + 0.5 - centre).abs() / scale.clamp(min=1)).clamp(min=0) * (pixel < sizes[:, None, None])
    return weights / weights.sum(2, keepdim=True)


class AuDeepGraph(nn.Module):
    """`audeep.AuDeep`: (B, N), (B,) → (B, 1, 4 · R), (B,)."""

    def __init__(self, encoder: audeep.AuDeep) -> None:
        super().__init__()
        self.encoder = encoder
        self.fourier = Fourier(audeep.WIDTH, audeep.WIDTH)

    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        levels = self.levels(self.centred(waves, lengths))  # (B, 74, 128)
        pairs: Any = zip(self.encoder.autoencoders, audeep.THRESHOLDS, strict=True)
        vectors = [autoencoder.encode(audeep.clipped(levels, threshold)) for autoencoder, threshold in pairs]
        return torch.cat(vectors, 1)[:, None], torch.ones_like(lengths)

    def centred(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """(B, N), (B,) → (B, 48000), as `audeep.centred` clip by clip."""
        spare = lengths - audeep.SAMPLES
        start = spare.sign() * torch.div(spare.abs(), 2, rounding_mode="floor")
        place = start[:, None] + torch.arange(audeep.SAMPLES, device=waves.device)
        at = place.clamp(min=0).minimum(lengths[:, None] - 1)
        return torch.where((place >= 0) & (place < lengths[:, None]), waves.gather(1, at), 0.0)

    def levels(self, waves: Tensor) -> Tensor:
        """(B, 48000) → (B, 74, 128) dB, as `audeep.Spectrogram` clip by clip."""
        spectrogram = self.encoder.spectrogram
        waves = torch.cat([waves[:, :1], waves[:, 1:] - audeep.PRE_EMPHASIS * waves[:, :-1]], 1)
        frames = framed(waves, audeep.WIDTH, audeep.STEP, audeep.FRAMES)
        frames = (frames - frames.mean(2, keepdim=True)) * spectrogram.window
        power = self.fourier.power(frames) / audeep.WIDTH @ spectrogram.bank
        least = torch.where(power > 0, power, torch.inf).amin((1, 2), keepdim=True)
        most = power.amax((1, 2), keepdim=True)
        levels = 10 * (torch.where(power > 0, power, least) / most.clamp(min=torch.finfo(torch.float32).tiny)).log10()
        return torch.where(most > 0, levels, 0.0)
