"""80 log-mel bands of 25 ms every 20 ms: a backbone that has learned nothing, the baseline below all baselines.

Shapes: B clips, N samples, T frames, D bands.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from emoshare.backbones import checkpoint
from emoshare.backbones.base import identify
from emoshare.backbones.float32 import Float32
from emoshare.backbones.fourier import cut_frames, power
from emoshare.backbones.masked import MaskedBackbone
from emoshare.core.config import HOP, RATE, SHORTEST, WindowConfig


class LogMel(Float32):
    """(B, N) → (B, T, D), always in float32: half precision would gain nothing, and give other frames elsewhere."""

    def __init__(self, bands: int) -> None:
        super().__init__()
        from torchaudio.transforms import MelSpectrogram

        self.mel = MelSpectrogram(RATE, n_fft=SHORTEST, hop_length=HOP, n_mels=bands)

    def forward(self, waves: Tensor, lengths: Tensor | None = None) -> Tensor:
        frames = cut_frames(waves.float(), SHORTEST, HOP) * self.mel.spectrogram.window  # (B, T, 400)
        return (power(frames, SHORTEST) @ self.mel.mel_scale.fb + 1e-6).log()  # (B, T, D)


class LogMelBackbone(MaskedBackbone):
    float32_only = True


def load(config: Any, window: WindowConfig) -> LogMelBackbone:
    """Log-mel bands, `backbone.dim` of them."""
    encoder = LogMel(config.dim)
    facts = {"class": "LogMel", "parameters": 0} | checkpoint.policy(config, window, None, None)
    return LogMelBackbone(encoder, identify(config, window, facts, encoder), window, config.frozen)
