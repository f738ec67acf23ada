"""w2v-BERT 2.0: samples (B, N) → mel features (B, T, 160) → frames (B, T, D), 50 per second.

Its convolutions look back in time alone and heed the mask, so a mask makes a clip's frames those that it has alone. The
mel bands of a clip are normalised whatever window.normalize says: that is part of the features.

Shapes: B clips, N samples (16,000 per second), T frames of 20 ms, D features.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from emoshare.backbones import architecture, checkpoint
from emoshare.backbones.mel import MelBackbone, mask_policy
from emoshare.backbones.spectrum import STEP, VERSION, WIDTH, KaldiSpectrum, check_preprocessor, facts
from emoshare.backbones.ssl import encoder_of
from emoshare.core.config import WindowConfig
from emoshare.core.errors import EmoshareError

__all__ = ["VERSION", "check", "load"]  # the version of the features is part of what is noted of a backbone


def load(config: Any, window: WindowConfig, dtype: torch.dtype, seed: int, cache: Path) -> MelBackbone:
    """The encoder of a checkpoint. Raises EmoshareError as `check`, and for one that lacks a tensor."""
    folder, theirs = check(config, window)
    spectrum = KaldiSpectrum(theirs.feature_projection_input_dim // 2)
    own = mask_policy(window) | {"spectrum": facts(spectrum)}
    encoder, identity = encoder_of(config, window, theirs, folder, seed, own)
    return MelBackbone(encoder.to(dtype), spectrum, identity, window, config.frozen)


def check(config: Any, window: WindowConfig) -> tuple[Path | None, Any]:
    """Folder and transformers' config of a checkpoint. Raises EmoshareError for one that takes other features."""
    folder = checkpoint.locate(config)
    theirs = architecture.describe(config, folder)
    bands = theirs.feature_projection_input_dim // 2
    if bands * 2 != theirs.feature_projection_input_dim:
        raise EmoshareError(f"{folder}: feature_projection_input_dim is odd, not two frames of mel bands; name another")
    expected = {"num_mel_bins": bands, "stride": 2}
    check_preprocessor(folder, checkpoint.preprocessor(folder), expected)
    architecture.check_masks(config, window, lambda samples: (1 + (samples - WIDTH) // STEP) // 2, config.dim)
    return folder, theirs
