"""Encoders that take log-mel features of a clip instead of its samples.

Shapes: B clips, N samples (16,000 per second), F frames of 10 ms, T frames of 20 ms.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emoshare.backbones.masked import MaskedBackbone
from emoshare.backbones.spectrum import Spectrum
from emoshare.core.config import WindowConfig
from emoshare.core.masks import length_mask


class MelBackbone(MaskedBackbone):
    """An encoder `(features, mask or None) → frames (B, T, width)` behind a spectrum of the samples.

    With window.pad=zeros the window is a clip whose last samples are zeros, and its features are those of all of it.
    With window.pad=none they are those of the speech alone, and a mask keeps shorter clips of a batch apart.
    """

    def __init__(
        self, encoder: nn.Module, spectrum: Spectrum, identity: dict[str, Any], window: WindowConfig, frozen: bool
    ) -> None:
        super().__init__(encoder, identity, window, frozen)
        self.spectrum = spectrum

    def frame_counts(self, samples: np.ndarray) -> np.ndarray:
        seen = np.full_like(samples, self.window_samples) if self.padded else samples
        return np.asarray(self.spectrum.frames(np.maximum(seen, self.spectrum.shortest)), np.int64)

    def prepare(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Features, a mask of theirs or None; and frame counts (B,). A clip that is too short is followed by zeros."""
        waves, lengths = self.heard(waves, lengths)
        waves = nn.functional.pad(waves, (0, max(self.spectrum.shortest - waves.shape[1], 0)))
        if self.padded:
            lengths = torch.full_like(lengths, waves.shape[1])
        lengths = lengths.clamp(min=self.spectrum.shortest)
        features, own = self.spectrum(torch.where(length_mask(lengths, waves.shape[1]), waves, 0.0), lengths)
        plain = self.padded or self.equal_lengths
        return features, None if plain else own, self.spectrum.frames(lengths)

    def finish(self, frames: Tensor, mask: Tensor | None) -> Tensor:
        step = 1 if mask is None or mask.shape[1] == frames.shape[1] else 2  # mask of 10 ms
        return super().finish(frames, None if mask is None else mask[:, ::step])


def mask_policy(config: Any, window: WindowConfig) -> dict[str, Any]:
    """Samples are never normalised, and a mask is there wherever clips may differ in length: it makes each clip's
    frames those that it has alone, whatever the checkpoint was trained with."""
    return {"conv_norm": None, "normalize": False, "mask": window.pad == "none" and config.mask is not False}
