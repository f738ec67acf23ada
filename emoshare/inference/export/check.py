"""Whether an export gives the shares that PyTorch gives: batches of clips, shorter and longer than the window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from emoshare.core.config import RATE
from emoshare.core.errors import EmoshareError, brief
from emoshare.core.ranges import width
from emoshare.inference.bundle import Bundle
from emoshare.inference.model import Model, part_of
from emoshare.inference.part import Part

TOLERANCE = 1e-4  # largest difference of a share from PyTorch's
Engine = Callable[[np.ndarray, np.ndarray], np.ndarray]  # samples (B, N) and lengths (B,) → shares (B, E)


def float32_model(bundle: Bundle, cache: Path | None) -> Model:
    """The model on the CPU with PyTorch in float32 and without rounding: the reference for an export."""
    place = cache or bundle.cache
    cpu = torch.device("cpu")
    parts: list[tuple[Part, float]] = []
    for leaf, weight in bundle.leaves():
        config = leaf.place_config(place)
        extract = replace(config.extract, compute="float32")
        part = part_of(leaf, replace(config, extract=extract), cpu, place)
        parts.append((replace(part, rounded=None), weight))
    return Model(bundle, cpu, place, parts)


def trials(longest: float) -> list[list[np.ndarray]]:
    """Batches of clips (N,) shorter and longer than `longest` seconds, loud, quiet, and with a silent end."""
    rng = np.random.default_rng(0)
    span = int(min(longest, 10.0) * RATE)
    sizes = [[span], [span // 2 + 7], [span + 4321, span // 3 + 1, 500], [300, span * 2], [span // 2] * 2]
    return [[voice(rng, size, level) for size, level in zip(row, (0.3, 0.02, 0.1), strict=False)] for row in sizes]


def voice(rng: np.random.Generator, size: int, level: float) -> np.ndarray:
    """(size,) of a hum with overtones that falls, pauses, and some noise."""
    time = np.arange(size) / RATE
    pitch = 90 + 120 * rng.random() + 40 * np.sin(2 * np.pi * 1.3 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    tones = sum(np.sin(k * phase) / k for k in range(1, 12))
    wave = level * (tones * (np.sin(2 * np.pi * 2.1 * time + rng.random()) > -0.6) + 0.1 * rng.normal(size=size))
    return wave.astype(np.float32)


def largest_error(model: Model, engine: Engine, source: str, name: str, tolerance: float = TOLERANCE) -> float:
    """The largest difference of a share from PyTorch's, over several batches. EmoshareError above the tolerance."""
    largest, tolerance = 0.0, tolerance * width(model.results.range)
    for clips in trials(max(part.window.seconds for part, _ in model.parts)):
        expected = model.windows_of(clips)[3]
        try:
            shares = engine(*pad_clips(clips))
        except Exception as error:  # the engine's own
            raise EmoshareError(f"{source}: {name}: what was exported cannot be run ({brief(error)})") from error
        difference = float(np.abs(shares - expected).max()) if shares.shape == expected.shape else np.inf
        largest = max(largest, difference if np.isfinite(difference) else np.inf)
    if largest > tolerance:
        raise EmoshareError(
            f"{source}: shares of the {name} differ from PyTorch's by {largest:.1e}, more than {tolerance:.0e}; "
            "nothing was written"
        )
    return largest


def pad_clips(clips: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Clips (N,) → samples (B, N) with noise after each clip, which must not change shares, and lengths (B,)."""
    lengths = np.array([len(clip) for clip in clips], np.int64)
    samples = np.full((len(clips), int(lengths.max())), 0.5, np.float32)
    for row, clip in zip(samples, clips, strict=True):
        row[: len(clip)] = clip
    return samples, lengths
