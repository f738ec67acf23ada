"""Recordings to predict: which files there are, arrays as they come, and the windows that are cut from each.

N samples at 16 kHz.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from emoshare.core.config import RATE, SHORTEST
from emoshare.core.errors import EmoshareError, brief
from emoshare.data.audio import HIGHEST_RATE, LOWEST_RATE, at_16k
from emoshare.data.window import Window

AUDIO = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff")
MAX_MB = 500  # of a file: four hours of 16-bit speech at 16 kHz
LOUDEST = {np.dtype(np.int16): 2.0**15, np.dtype(np.int32): 2.0**31, np.dtype(np.uint8): 2.0**7}  # that stand for 1


@dataclass(frozen=True, eq=False)
class Cut:
    """One window of a recording."""

    start: float  # seconds
    end: float  # seconds
    samples: np.ndarray  # (N,) what the window keeps, without padding


def cuts(wave: np.ndarray, window: Window, step: float | None) -> list[Cut]:
    """The windows of a recording (N,): one as in training, or one every `step` seconds from its beginning to its end.

    The last of several ends with the recording and is shorter where less than a window is left. What is left after it
    and would be shorter than a frame (25 ms) is taken from the recording's last 25 ms.

    Raises:
        ValueError: the recording has no samples.
    """
    if not len(wave):
        raise ValueError("no samples")
    if step is None:
        kept = window.cut(wave)
        start = 0 if window.crop == "start" else max(len(wave) - len(kept), 0) // 2
        return [Cut(start / RATE, min(start + len(kept), len(wave)) / RATE, kept)]
    stride = max(round(step * RATE), 1)
    starts = [0]
    while starts[-1] + window.samples < len(wave):
        starts.append(min(starts[-1] + stride, max(len(wave) - SHORTEST, 0)))
    first = replace(window, crop="start")
    ends = [min(start + window.samples, len(wave)) for start in starts]
    return [Cut(s / RATE, e / RATE, first.cut(wave[s:])) for s, e in zip(starts, ends, strict=True)]


def check_windows(windows: float | None, step: float | None) -> None:
    """Raise EmoshareError for a window or step of no length, or a step that leaves gaps between windows."""
    problems = [
        f"{name}={f'{value:g}' if isinstance(value, numbers.Real) else repr(value)}: must be from 0.025 to 3600 s"
        for name, value in (("windows", windows), ("step", step))
        if value is not None and not (isinstance(value, numbers.Real) and 0.025 <= value <= 3600)
    ]
    if windows is not None and step is not None and step > windows and not problems:
        problems.append(f"step={step:g}: leaves gaps between windows of {windows:g} s; take a smaller one")
    if problems:
        raise EmoshareError("\n".join(problems))


def from_array(values: Any, rate: int | None) -> np.ndarray:
    """(N,) or (N, C) samples at a rate → (M,) float32 mono at 16 kHz, from a list, an array or a tensor.

    Floats in [-1, 1], or int16, int32 or uint8 as in WAV files. Of other integers, as those of a list, nothing says how
    loud the loudest is.

    Raises:
        EmoshareError: no rate, one that no recorder has, another type or shape, no samples, or NaN.
    """
    if rate is None:
        raise EmoshareError("samples need their rate, as in predict(samples, rate=16000)")
    if not isinstance(rate, numbers.Real) or not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise EmoshareError(f"rate={rate!r}: must be from {LOWEST_RATE} to {HIGHEST_RATE} samples per second")
    wave = as_array(values)
    if wave.ndim not in (1, 2) or not wave.size:
        raise EmoshareError(f"samples of shape {wave.shape}: must be (N,) or (N, channels), with one sample at least")
    if wave.ndim == 2 and wave.shape[1] > wave.shape[0]:
        raise EmoshareError(f"samples of shape {wave.shape}: must be (N, channels); transpose them")
    loudest = LOUDEST.get(wave.dtype.newbyteorder("="))
    if loudest is None and wave.dtype.kind != "f":
        raise EmoshareError(f"samples of type {wave.dtype}: must be floats in [-1, 1], int16, int32 or uint8")
    if loudest:
        wave = wave / loudest - (wave.dtype == np.uint8)
    wave = wave.astype(np.float32)
    if not np.isfinite(wave).all():
        raise EmoshareError("samples hold NaN or infinite values")
    return at_16k(wave, int(rate))


def as_array(values: Any) -> np.ndarray:
    """A list, an array, or a tensor of whatever device and precision as an array; EmoshareError where it is none."""
    try:
        if hasattr(values, "detach"):
            values = values.detach().cpu()
            values = values.float() if values.is_floating_point() else values
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise EmoshareError(f"samples: no array can be made of them ({brief(error)})") from error


def files_of(paths: Sequence[str | Path], recursive: bool = False) -> list[Path]:
    """The audio files that paths name, each once: files as they are, of a folder what has an audio suffix, sorted.

    Raises:
        EmoshareError: a path does not exist, or a folder holds no audio; all such paths are named.
    """
    found: list[Path] = []
    problems: list[str] = []
    for name in (Path(path).expanduser() for path in paths):
        if name.is_dir():
            inside = sorted(path for path in name.glob("**/*" if recursive else "*") if path.suffix.lower() in AUDIO)
            inside = [path for path in inside if path.is_file()]
            found += inside
            if not inside:
                deeper = "" if recursive else "; --recursive looks into its folders"
                problems.append(f"{name}: no audio files in this folder{deeper}")
        elif name.exists():
            found.append(name)
        else:
            problems.append(f"{name}: no such file or folder")
    if problems:
        raise EmoshareError("\n".join(problems))
    return list(dict.fromkeys(found))
