"""The window that the backbone sees of a clip, and how many frames it gives.

N samples at 16 kHz.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from emoshare.core.config import HOP, RATE, SHORTEST, WindowConfig


def frame_count(samples: int) -> int:
    """Frames of so many samples: one per 20 ms, each of which needs 25 ms."""
    return 1 + (samples - SHORTEST) // HOP


def sample_count(seconds: float) -> int:
    """Samples at 16 kHz of a clip of so many seconds: what `audio.read` returns and `Window.length` uses."""
    return math.ceil(seconds * RATE - 1e-6)  # exact for 16 kHz


@dataclass(frozen=True)
class Window:
    """The stretch of a clip that the backbone sees.

    `pad=zeros`: the caller fills up to `samples` with zeros on the right. `pad=none`: a clip shorter than the window
    stays short, cut down to whole frames (400 + 320 k samples), so that clips of equal frames can share a batch.
    """

    seconds: float
    crop: str = "start"  # start | center | random
    pad: str = "zeros"  # zeros | none

    @classmethod
    def of(cls, config: WindowConfig) -> Window:
        return cls(config.seconds, config.crop, config.pad)

    @property
    def samples(self) -> int:
        return round(self.seconds * RATE)

    def length(self, clip: int | float) -> int:
        """Samples of speech, padding not counted, that the window keeps of a clip of so many samples.

        A float is a duration in seconds, as `Corpus.seconds` holds it. With `pad=none` at least 400.
        """
        if isinstance(clip, (float, np.floating)):
            clip = sample_count(clip)
        kept = min(int(clip), self.samples)
        return kept if self.pad == "zeros" else SHORTEST + max(kept - SHORTEST, 0) // HOP * HOP

    def cut(self, wave: np.ndarray, rng: np.random.Generator | None = None, training: bool = False) -> np.ndarray:
        """(N,) → (length(N),). `crop=random` draws from `rng` in training and takes the centre otherwise."""
        kept = self.length(len(wave))
        spare = max(len(wave) - kept, 0)
        if self.crop == "start":
            start = 0
        elif self.crop == "random" and training:
            start = int((rng or np.random.default_rng()).integers(spare + 1))
        else:
            start = spare // 2
        window = wave[start : start + kept]
        return window if len(window) == kept else np.pad(window, (0, kept - len(window)))
