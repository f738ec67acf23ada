"""Encoders that take normalised samples and a mask of frames: how a clip is prepared for them.

Shapes: B clips, N samples (16 000 per second), T frames, D features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emoshare.backbones.base import Backbone
from emoshare.core.config import HOP, SHORTEST, WindowConfig
from emoshare.core.masks import length_mask
from emoshare.data.window import Window, frame_count


class MaskedBackbone(Backbone):
    """An encoder `(waves (B, N), mask (B, T) or None) → frames (B, T, width)` with its normalisation and mask.

    The identity says `normalize` and `mask`. An encoder that padding would change, and a mask would not help, takes
    clips of equal length alone (`equal_lengths`).
    """

    float32_only = False

    def __init__(self, encoder: nn.Module, identity: dict[str, Any], window: WindowConfig, frozen: bool) -> None:
        super().__init__(encoder, identity, frozen)
        self.window_samples = Window.of(window).samples
        self.padded = window.pad == "zeros"
        self.normalize: bool = identity["normalize"]
        self.equal_lengths = not self.padded and not identity["mask"]

    def encode(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As `Backbone.forward`; frames are in the precision of the weights.

        Raises ValueError for fewer than 400 samples, and for unequal lengths where `equal_lengths`.
        """
        waves, mask, counts = self.prepare(waves, lengths)
        return self.finish(self.encoder(waves, mask), mask), counts

    def frame_counts(self, samples: np.ndarray) -> np.ndarray:
        """Samples of speech in the window (N,) → frames of each clip (N,), those of the zero padding included."""
        seen = [self.window_samples if self.padded else n for n in samples.tolist()]
        return np.array([frame_count(n) for n in seen], np.int64)

    def prepare(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """What the encoder takes: normalised samples (B, N), a mask of frames (B, T) or None; and frame counts (B,)."""
        waves, lengths = self.heard(waves, lengths)
        frames = frame_count(waves.shape[1])
        if self.normalize:
            waves = normalize(waves.float(), lengths)
        if self.padded or self.equal_lengths:
            return waves, None, torch.full_like(lengths, frames)
        counts = 1 + (lengths - SHORTEST) // HOP
        waves = torch.where(length_mask(lengths, waves.shape[1]), waves, 0.0)
        return waves, length_mask(counts, frames), counts

    def heard(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The samples that the encoder hears, and their lengths on the same device.

        Raises ValueError for fewer than 400 samples, and for unequal lengths where `equal_lengths`.
        """
        if self.equal_lengths:
            if len(lengths.unique()) > 1:
                raise ValueError(
                    f"{self.identity['name']} takes clips of equal length in a batch, not {lengths.tolist()}"
                )
            waves = waves[:, : int(lengths[0])]
        if waves.shape[1] < SHORTEST or (not self.padded and int(lengths.min()) < SHORTEST):
            raise ValueError(f"a backbone needs at least {SHORTEST} samples, not {int(lengths.min())}")
        return waves, lengths.to(waves.device)

    def finish(self, frames: Tensor, mask: Tensor | None) -> Tensor:
        """Zeros in place of the frames that don't count."""
        return frames if mask is None else frames * mask[..., None]


def normalize(waves: Tensor, lengths: Tensor) -> Tensor:
    """Zero mean and unit variance of each clip's speech, zeros after it: (x - mean) / sqrt(var + 1e-7).

    As transformers' Wav2Vec2FeatureExtractor: (B, N), (B,) samples of speech → (B, N).
    """
    speech, count = length_mask(lengths, waves.shape[1]), lengths.clamp(min=1)[:, None]
    centred = torch.where(speech, waves - torch.where(speech, waves, 0.0).sum(1, keepdim=True) / count, 0.0)
    return centred / (centred.square().sum(1, keepdim=True) / count + 1e-7).sqrt()
