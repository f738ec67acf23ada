"""Log-mel spectra as transformers' feature extractors compute them, of each clip by itself, in a batch.

Shapes: B clips, N samples (16,000 per second), F frames of 10 ms, M mel bands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emoshare.backbones.float32 import Float32
from emoshare.backbones.fourier import cut_frames, power
from emoshare.core.config import RATE
from emoshare.core.errors import EmoshareError
from emoshare.core.masks import length_mask

WIDTH, STEP = 400, 160  # samples of a frame and between frames
FLOOR = 1.192092955078125e-07  # of a mel band, as transformers writes Kaldi's
VERSION = 1  # of the features: raise it when the same samples give others


class Spectrum(Float32):
    """Samples → log-mel features, whatever precision the encoder computes in.

    `shortest`: samples that it takes at least. `time`: the axis of its features that is F, or F / 2 where two frames
    are joined side by side.
    """

    shortest = WIDTH
    time = 1
    filters: Tensor  # (bins, M)

    def frames(self, samples: Any) -> Any:
        """Samples of a clip → frames of the encoder: 20 ms each. Also of a tensor."""
        raise NotImplementedError


class WhisperSpectrum(Spectrum):
    """As WhisperFeatureExtractor without its padding to 30 s: (B, N) → (B, M, F), zeros after each clip's own frames.

        x = log₁₀(max(mel(|STFT|²), 1e-10));  (max(x, max(x) − 8) + 4) / 4

    Frames are centred; beyond its ends a clip is mirrored. The maximum is the clip's own.
    """

    time = 2
    taper: Tensor  # (400,)

    def __init__(self, bands: int, pool: int = 1) -> None:
        """pool: frames of 20 ms that one of the encoder's is the mean of."""
        super().__init__()
        from transformers import WhisperFeatureExtractor

        self.pool, self.shortest = pool, max(WIDTH, (2 * pool - 1) * STEP)  # one frame of the encoder's

        filters = WhisperFeatureExtractor(feature_size=bands).mel_filters
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)
        self.register_buffer("taper", torch.hann_window(WIDTH), persistent=False)

    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N) and samples of each clip (B,) → features (B, M, F), and how many are each clip's (B,)."""
        place = torch.arange(-WIDTH // 2, waves.shape[1] + WIDTH // 2, device=waves.device).abs()  # mirrored at 0
        last = lengths[:, None] - 1
        place = torch.where(place > last, 2 * last - place, place).clamp(0, waves.shape[1] - 1)  # and at each end
        mirrored = waves.float().gather(1, place)
        frames = cut_frames(mirrored, WIDTH, STEP, waves.shape[1] // STEP) * self.taper  # (B, F, 400)
        levels = (self.filters.T @ power(frames, WIDTH).transpose(1, 2)).clamp(min=1e-10).log10()  # (B, M, F)
        counts = lengths // STEP
        own = length_mask(counts, levels.shape[2])  # (B, F)
        loudest = levels.masked_fill(~own[:, None], -torch.inf).amax((1, 2), keepdim=True)
        levels = (levels.maximum(loudest - 8) + 4) / 4
        return torch.where(own[:, None], levels, 0.0), counts

    def frames(self, samples: Any) -> Any:
        return (samples // STEP + 1) // 2 // self.pool


class KaldiSpectrum(Spectrum):
    """As SeamlessM4TFeatureExtractor: (B, N) → (B, F / 2, 2·M), each mel band of a clip at mean 0 and variance 1.

    Kaldi's filter bank of 16-bit samples: each frame without its mean, with pre-emphasis 0.97 and Povey's window; two
    frames are joined side by side. A last single frame counts in mean and variance alone, as there.
    """

    shortest = WIDTH + STEP  # two frames
    taper: Tensor  # (400,)

    def __init__(self, bands: int) -> None:
        super().__init__()
        from transformers import SeamlessM4TFeatureExtractor

        own = SeamlessM4TFeatureExtractor(feature_size=bands, num_mel_bins=bands)
        self.register_buffer("filters", torch.from_numpy(own.mel_filters).float(), persistent=False)
        self.register_buffer("taper", torch.from_numpy(own.window).float(), persistent=False)

    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N) and samples of each clip (B,) → features (B, T, 2·M), and how many are each clip's (B,)."""
        frames = cut_frames(waves.float(), WIDTH, STEP) * 2**15  # (B, F, 400)
        frames = frames - frames.mean(2, keepdim=True)
        earlier = torch.cat([frames[..., :1], frames[..., :-1]], 2)
        frames = (frames - 0.97 * earlier) * self.taper
        levels = (power(frames, 512) @ self.filters).clamp(min=FLOOR).log()  # (B, F, M)
        counts = 1 + (lengths - WIDTH) // STEP
        own = length_mask(counts, levels.shape[1])[..., None]
        mean = torch.where(own, levels, 0.0).sum(1, keepdim=True) / counts[:, None, None]
        centred = torch.where(own, levels - mean, 0.0)
        variance = centred.square().sum(1, keepdim=True) / (counts[:, None, None] - 1)
        features = centred / (variance + 1e-7).sqrt()
        pairs = features.shape[1] // 2
        valid = length_mask(counts // 2, pairs)
        features = features[:, : 2 * pairs].reshape(features.shape[0], pairs, -1)  # (B, T, 2·M)
        return torch.where(valid[..., None], features, 0.0), counts // 2

    def frames(self, samples: Any) -> Any:
        return (1 + (samples - WIDTH) // STEP) // 2


def check_preprocessor(folder: Path | None, actual: dict[str, Any] | None, expected: dict[str, Any]) -> None:
    """Raise EmoshareError where a checkpoint's preprocessor file describes other features than `expected`."""
    actual = actual or {}
    different = [f"{key} is {actual[key]}" for key, value in expected.items() if actual.get(key, value) != value]
    if different:
        wanted = ", ".join(f"{key} {value}" for key, value in expected.items())
        raise EmoshareError(
            f"{folder}: its preprocessor file is of other features ({', '.join(different)}) than its encoder, which "
            f"takes {wanted}; fetch the checkpoint again or name another"
        )


def facts(spectrum: Spectrum) -> dict[str, Any]:
    """All that features depend on besides the samples, for an identity."""
    return {"class": type(spectrum).__name__, "bands": spectrum.filters.shape[1], "rate": RATE, "version": VERSION}
