"""openSMILE's feature sets as a backbone: (B, N) → (B, T, D); a clip's functionals are one frame, T = 1.

The package `opensmile` is an extra, because its licence allows research alone. Each clip goes through it by itself, so
neither batch nor order changes a number.

Shapes: B clips, N samples (16,000 per second), T frames, D features.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import joblib
import numpy as np
import torch
from torch import Tensor, nn

from emoshare.backbones.base import Backbone, identify
from emoshare.core.config import RATE, WindowConfig
from emoshare.core.errors import EmoshareError, NotAtHandError, UnusableClips

log = logging.getLogger("emoshare")

FEATURE_SETS = ("ComParE_2016", "eGeMAPSv02")
LEVELS = ("functionals", "lld")  # a vector per clip | low-level descriptors, 100 frames per second
SHORTEST = 960  # samples: openSMILE gives NaN for less than 60 ms
LOUDEST = 32767 / 32768  # openSMILE works on 16-bit integers, where 1 would become −1
MISSING = "backbone opensmile: its package is missing; pip install 'emoshare[opensmile]'"
STEP = 160  # samples between two low-level descriptors: 10 ms


class OpenSmileEncoder(nn.Module):
    """Samples → one of FEATURE_SETS at one of LEVELS, in float32 and on the CPU.

    ComParE_2016 has 6,373 functionals of 65 descriptors, eGeMAPSv02 88 of 25.
    """

    def __init__(self, feature_set: str = "ComParE_2016", level: str = "functionals") -> None:
        """Raises EmoshareError where the package is missing."""
        super().__init__()
        self.smile = make(feature_set, level)
        self.feature_set, self.level = feature_set, level
        self.dim = int(self.smile.num_features)

    def facts(self) -> dict[str, Any]:
        """All that the frames depend on."""
        return {
            "class": type(self).__name__,
            "parameters": 0,
            "dim": self.dim,
            "stored": "float32",  # functionals reach 2e10, which float16 has no number for
            "step": 1,  # whole clips
            "weights": None,
            "feature_set": self.feature_set,
            "level": self.level,
            "opensmile": importlib.metadata.version("opensmile"),
        }

    def frame_count(self, samples: int) -> int:
        """Frames of a clip of a number of samples."""
        return 1 if self.level == "functionals" else max(2 + (samples - SHORTEST) // STEP, 1)

    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Samples (B, N) and samples of each clip (B,) → frames (B, T, D) float32, and frames that count (B,).

        Frames that don't count are zeros. Raises UnusableClips for clips under 60 ms, and for any that openSMILE
        answers with NaN.
        """
        if short := [row for row, length in enumerate(lengths.tolist()) if length < SHORTEST]:
            raise UnusableClips(short, f"openSMILE needs at least {SHORTEST / RATE:g} s")
        clips = [wave[:length].numpy() for wave, length in zip(waves.float().cpu(), lengths.tolist(), strict=True)]
        with ThreadPoolExecutor(min(joblib.cpu_count(), len(clips))) as pool:  # openSMILE releases Python's lock
            frames = list(pool.map(self.extract, clips))
        if bad := [row for row, values in enumerate(frames) if not np.isfinite(values).all()]:
            raise UnusableClips(bad, "openSMILE gives NaN")
        padded = nn.utils.rnn.pad_sequence([torch.tensor(values) for values in frames], batch_first=True)
        counts = torch.tensor([len(values) for values in frames])
        return padded.to(waves.device), counts.to(waves.device)

    def extract(self, wave: np.ndarray) -> np.ndarray:
        """(N,) → (T, D) float32."""
        wave = wave.clip(-1, LOUDEST)
        return self.smile.process_signal(wave, RATE).to_numpy(np.float32)


def make(feature_set: str, level: str) -> Any:
    """opensmile.Smile. Raises EmoshareError where the package is missing."""
    try:
        import opensmile
    except ImportError:
        raise NotAtHandError(MISSING) from None
    mention_licence()
    levels = {"functionals": opensmile.FeatureLevel.Functionals, "lld": opensmile.FeatureLevel.LowLevelDescriptors}
    return opensmile.Smile(opensmile.FeatureSet[feature_set], levels[level])


@functools.cache
def mention_licence() -> None:
    log.info("openSMILE: audEERING's research licence; no commercial use, nor of features made with it")


def check(config: Any, window: WindowConfig) -> None:
    """Raise EmoshareError for windows that openSMILE cannot take, NotAtHandError where the package is missing."""
    if importlib.util.find_spec("opensmile") is None:
        raise NotAtHandError(MISSING)
    if round(window.seconds * RATE) < SHORTEST:
        raise EmoshareError(
            f"window.seconds={window.seconds:g}: openSMILE needs at least {SHORTEST / RATE:g} s; set it to that or more"
        )


def load(config: Any, window: WindowConfig) -> Backbone:
    """The backbone of a config. The package says how many features there are, whatever `backbone.dim` is."""
    encoder = OpenSmileEncoder(config.feature_set, config.level)
    identity = identify(replace(config, dim=encoder.dim), window, encoder.facts(), encoder)
    return Backbone(encoder, identity, frame_count=encoder.frame_count)
