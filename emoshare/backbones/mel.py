"""Encoders that take log-mel features of a clip instead of its samples.

Shapes: B clips, N samples (16,000 per second), F frames of 10 ms, T frames of 20 ms.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emoshare.backbones import checkpoint
from emoshare.backbones.base import identify
from emoshare.backbones.masked import MaskedBackbone
from emoshare.backbones.spectrum import Spectrum, facts
from emoshare.core.config import WindowConfig
from emoshare.core.masks import length_mask


class MelBackbone(MaskedBackbone):
    """An encoder behind a spectrum of the samples.

    With window.pad=zeros the window is a clip whose last samples are zeros, and its features are those of all of it.
    With window.pad=none they are those of the speech alone.
    """

    def __init__(
        self, encoder: nn.Module, spectrum: Spectrum, identity: dict[str, Any], window: WindowConfig, frozen: bool
    ) -> None:
        super().__init__(encoder, identity, window, frozen)
        self.spectrum, self.shortest = spectrum, spectrum.shortest

    def frame_counts(self, samples: np.ndarray) -> np.ndarray:
        seen = np.full_like(samples, self.window_samples) if self.padded else samples
        return np.asarray(self.spectrum.frames(np.maximum(seen, self.shortest)), np.int64)

    def prepare(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features, how many are each clip's (B,), and frame counts (B,). Zeros follow a clip too short for a frame."""
        if waves.shape[1] < self.shortest:
            waves = nn.functional.pad(waves, (0, self.shortest - waves.shape[1]))
        if self.padded:
            lengths = torch.full_like(lengths, waves.shape[1])
        waves = torch.where(length_mask(lengths, waves.shape[1]), waves, 0.0)
        lengths = lengths.clamp(min=self.shortest)
        return *self.spectrum(waves, lengths), self.spectrum.frames(lengths)


def mask_policy(window: WindowConfig) -> dict[str, Any]:
    """Samples are never normalised; as `checkpoint.policy`."""
    return {"conv_norm": None, "normalize": False, "mask": window.pad == "none"}


def load_encoder(
    config: Any, window: WindowConfig, dtype: torch.dtype, seed: int, found: tuple[Path | None, Any],
    spectrum: Spectrum, encoder: Callable[[Any, str], nn.Module], rate: float,
) -> MelBackbone:  # fmt: skip
    """The encoder of a checkpoint behind its spectrum. Raises EmoshareError for a checkpoint that lacks a tensor.

    Args:
        found: the checkpoint's folder, and transformers' config of it.
        encoder: makes ours of transformers' model and `backbone.layer`.
        rate: frames per second.
    """
    folder, theirs = found
    with torch.random.fork_rng(devices=[]):
        model = checkpoint.build(config, theirs, folder, seed)
    own = mask_policy(window) | checkpoint.facts_of(config, model, theirs, folder, seed)
    own |= {"spectrum": facts(spectrum), "frames_per_second": rate}
    ours = encoder(model, config.layer)
    return MelBackbone(ours.to(dtype), spectrum, identify(config, window, own, ours), window, config.frozen)
