"""The window that the backbone sees of a clip, and how many frames it gives.

N samples at 16 kHz.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from emoshare.core.config import HOP, RATE, SHORTEST, WindowConfig


def frame_count(samples: int) -> int:
    """Frames of a number of samples: one per 20 ms, each of which needs 25 ms."""
    return 1 + (samples - SHORTEST) // HOP


def sample_count(seconds: float) -> int:
    """Samples at 16 kHz of a clip of some seconds, as `audio.read` returns and `Window.length` uses."""
    return math.ceil(seconds * RATE - 1e-6)  # exact for 16 kHz


@dataclass(frozen=True)
class Window:
    """The stretch of a clip that the backbone sees.

    `pad=zeros`: the caller fills up to `samples` with zeros on the right. `pad=none`: a clip shorter than the window
    stays short, cut down to 400 + k · `step` samples: to whole frames by default, so that clips of equal frames can
    share a batch; not at all for step=1, which a backbone's identity can ask for.
    """

    seconds: float
    crop: str = "start"  # start | center | random
    pad: str = "zeros"  # zeros | none
    step: int = HOP  # samples

    @classmethod
    def of(cls, config: WindowConfig, identity: Mapping[str, Any] | None = None) -> Window:
        """The config's window for the backbone of an identity, whose `step` it takes where there is one."""
        return cls(config.seconds, config.crop, config.pad, (identity or {}).get("step", HOP))

    @property
    def samples(self) -> int:
        return round(self.seconds * RATE)

    def length(self, clip: int | float) -> int:
        """Samples of speech, padding not counted, that the window keeps of a clip of `clip` samples.

        A float is a duration in seconds, as `Corpus.seconds` holds it. With `pad=none` at least 400.
        """
        if isinstance(clip, (float, np.floating)):
            clip = sample_count(clip)
        kept = min(int(clip), self.samples)
        return kept if self.pad == "zeros" else SHORTEST + max(kept - SHORTEST, 0) // self.step * self.step

    def start(self, clip: int) -> int:
        """The first sample that the window keeps of a clip of `clip` samples; the centre's for `crop=random`."""
        return 0 if self.crop == "start" else max(clip - self.length(clip), 0) // 2

    def cut(self, wave: np.ndarray, rng: np.random.Generator | None = None, training: bool = False) -> np.ndarray:
        """(N,) → (length(N),). `crop=random` draws from `rng` in training and takes the centre otherwise."""
        kept, start = self.length(len(wave)), self.start(len(wave))
        if self.crop == "random" and training:
            start = int((rng or np.random.default_rng()).integers(max(len(wave) - kept, 0) + 1))
        window = wave[start : start + kept]
        return window if len(window) == kept else np.pad(window, (0, kept - len(window)))
