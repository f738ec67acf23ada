"""Recordings to predict: which files there are, arrays as they come, and the windows that are cut from each.

N samples at 16 kHz.
"""

from __future__ import annotations

import numbers
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from emoshare.core.config import RATE, SHORTEST
from emoshare.core.errors import EmoshareError, brief
from emoshare.data import audio
from emoshare.data.audio import HIGHEST_RATE, LOWEST_RATE, SUFFIXES, conversion
from emoshare.data.channels import SILENT, cancellation
from emoshare.data.formats import HEAD, name_of, reader
from emoshare.data.window import Window

MAX_MB = 500  # of a file: four hours of 16-bit speech at 16 kHz
LOUDEST = {np.dtype(np.int16): 2.0**15, np.dtype(np.int32): 2.0**31, np.dtype(np.uint8): 2.0**7}  # of full scale, 1


@dataclass(frozen=True, eq=False)
class Cut:
    """One window of a recording."""

    start: float  # seconds
    end: float  # seconds
    samples: np.ndarray  # (N,) what the window keeps, without padding


def cuts(wave: np.ndarray, window: Window, step: float | None) -> list[Cut]:
    """The windows of a recording (N,): one as in training, or one every `step` seconds from its beginning to its end.

    The last of several ends with the recording and is shorter where less than a window is left; where it would be
    shorter than half a step, the one before it is the last. None is shorter than a frame (25 ms).

    Raises:
        ValueError: the recording has no samples.
    """
    if not len(wave):
        raise ValueError("no samples")
    if step is None:
        samples = window.cut(wave)
        start = window.start(len(wave))
        return [Cut(start / RATE, min(start + len(samples), len(wave)) / RATE, samples)]
    stride = max(round(step * RATE), 1)
    starts = [0]
    while starts[-1] + window.samples < len(wave) and len(wave) - starts[-1] - stride >= stride / 2:
        starts.append(min(starts[-1] + stride, max(len(wave) - SHORTEST, 0)))
    first = replace(window, crop="start")
    ends = [min(start + window.samples, len(wave)) for start in starts]
    return [Cut(s / RATE, e / RATE, first.cut(wave[s:])) for s, e in zip(starts, ends, strict=True)]


@dataclass
class Speechless:
    """Recordings that are used, although nothing can be told from them.

    Attributes:
        short: recording → seconds, of those that are shorter than a frame.
        silent: recordings without any sound.
    """

    short: dict[str, float] = field(default_factory=dict)
    silent: list[str] = field(default_factory=list)

    def note(self, name: str, seconds: float, wave: np.ndarray) -> None:
        """Remember a recording, (N,) or (N, C) at any rate, where it is one of them."""
        if seconds < SHORTEST / RATE:
            self.short[name] = seconds
        elif float(wave.std(axis=0).max()) < SILENT:
            self.silent.append(name)

    def add(self, others: Speechless) -> None:
        self.short |= others.short
        self.silent += others.silent

    def lines(self) -> list[str]:
        """The warning about each kind: it names the first, and counts them."""
        lines = []
        if self.short:
            name, seconds = min(self.short.items())
            others = f"; {len(self.short)} recordings are that short" if len(self.short) > 1 else ""
            frame = f"less than a frame of speech ({1000 * SHORTEST / RATE:g} ms)"
            lines.append(f"{name}: lasts {1000 * seconds:.3g} ms, {frame}: nothing can be told from it{others}")
        if self.silent:
            others = f"; {len(self.silent)} recordings are silent" if len(self.silent) > 1 else ""
            lines.append(f"{min(self.silent)}: silent: nothing can be told from it{others}")
        return lines


def warnings_of(read: Sequence[tuple[str, np.ndarray, str]]) -> list[str]:
    """All that is to be said of recordings that are used: names, samples (N,) at 16 kHz, and a line or "" each."""
    speechless = Speechless()
    for name, wave, _ in read:
        speechless.note(name, len(wave) / RATE, wave)
    return [*(line for _, _, line in read if line), *speechless.lines()]


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


def check_scale(scale: float | None) -> None:
    """Raise EmoshareError for a full scale that is no positive number."""
    if scale is not None and not (isinstance(scale, numbers.Real) and 0 < scale < np.inf):
        raise EmoshareError(f"scale={scale!r}: must be a positive number, as 32768 for samples of 16-bit scale")


def read_file(name: str, scale: float | None = None) -> tuple[np.ndarray, str]:
    """A file's samples (N,) at 16 kHz, and a line where its channels cancel. EmoshareError as `audio.read`."""
    with audio.name_errors(name):
        info, _, wave = audio.inspect(name, MAX_MB, scale)
        resampled = audio.at_16k(wave, info.rate)
    return resampled, about_channels(name, wave)


def about_channels(name: str, wave: np.ndarray) -> str:
    """The warning about a recording (N, C) whose channels cancel; "" where they do not."""
    lost = cancellation(wave)
    return f"{name}: its channels cancel: {lost}; keep one of them, or turn one round" if lost else ""


def from_array(
    values: Any, rate: int | None, scale: float | None = None, name: str = "samples"
) -> tuple[np.ndarray, str]:
    """(N,) or (N, C) samples at a rate → (M,) float32 mono at 16 kHz, from a list, an array or a tensor.

    Without a scale: floats in [-1, 1], or int16, int32 or uint8 as in WAV files. Of other integers, as those of a list,
    nothing says how loud the loudest is.

    Args:
        values: the samples.
        rate: samples per second.
        scale: the value of full scale; the samples of any type are divided by it.
        name: of the recording, for what is said of it.

    Returns:
        The samples, and a line where their channels cancel, or where their type may not tell their scale.

    Raises:
        EmoshareError: no rate, one that no recorder has, another type or shape, no samples, NaN, floats that are louder
            than full scale, or channels that cancel to silence.
    """
    check_scale(scale)
    if rate is None:
        raise EmoshareError("samples need their rate, as in predict(samples, rate=16000)")
    if not isinstance(rate, numbers.Real) or not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise EmoshareError(f"rate={rate!r}: must be from {LOWEST_RATE} to {HIGHEST_RATE} samples per second")
    wave = values = as_array(values)
    if wave.ndim not in (1, 2) or not wave.size:
        raise EmoshareError(f"samples of shape {wave.shape}: must be (N,) or (N, channels), with one sample at least")
    if wave.ndim == 2 and wave.shape[1] > wave.shape[0]:
        raise EmoshareError(f"samples of shape {wave.shape}: must be (N, channels); transpose them")
    if wave.dtype.kind not in "fiu":
        raise EmoshareError(f"samples of type {wave.dtype}: must be floats or integers")
    loudest = LOUDEST.get(wave.dtype.newbyteorder("="))
    if loudest is None and wave.dtype.kind != "f" and scale is None:
        raise EmoshareError(
            f"samples of type {wave.dtype}: must be floats in [-1, 1], int16, int32 or uint8; of others say what full "
            "scale is, as scale=32768"
        )
    centred = wave.astype(np.float64) - 128 * (wave.dtype == np.uint8)  # silence of uint8 is 128
    try:
        known = wave.dtype.kind != "f" and scale is None
        wave = (centred / loudest).astype(np.float32) if known else audio.apply_scale(centred, scale)
        resampled = audio.at_16k(wave, int(rate))
    except ValueError as error:
        raise EmoshareError(f"{name}: {error}") from None
    return resampled, about_channels(name, wave) or (about_int32(name, values) if known else "")


def about_int32(name: str, values: np.ndarray) -> str:
    """The warning about integers of 32 bits that are as soft as if they were of fewer; "" of others."""
    peak = int(np.abs(values.astype(np.int64)).max())
    if values.dtype.itemsize < 4 or not 0 < peak <= 2**23:
        return ""
    likely = 2**15 if peak <= 2**15 else 2**23
    return (
        f"{name}: int32 samples up to {peak}, where 2147483648 is full scale: is it {likely}? Then say scale={likely}"
    )


def as_array(values: Any) -> np.ndarray:
    """A list, an array, or a tensor of whatever device and precision as an array; EmoshareError where it is none."""
    try:
        if hasattr(values, "detach"):
            values = values.detach().cpu()
            values = values.float() if values.is_floating_point() else values
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise EmoshareError(f"samples: no array can be made of them ({brief(error)})") from error


def files_of(paths: Sequence[str | Path], recursive: bool = False, skipped: list[Path] | None = None) -> list[Path]:
    """The audio files that paths name, each once: files as they are, of a folder what has an audio suffix, sorted.

    A file is the same by its name and folder, however the path to that is spelled.

    Args:
        paths: files and folders.
        recursive: look into the folders of a folder, too.
        skipped: gets what folders hold of sound and video in other formats.

    Raises:
        EmoshareError: a path does not exist, or a folder holds no audio; all such paths are named.
    """
    listed: list[Path] = []
    others: list[Path] = []
    problems: list[str] = []
    for name in (Path(path).expanduser() for path in paths):
        if name.is_dir():
            files = sorted(path for path in name.glob("**/*" if recursive else "*") if path.is_file())
            inside = [path for path in files if path.suffix.lower() in SUFFIXES]
            other = [path for path in files if path.suffix.lower() not in SUFFIXES and format_of(path)]
            listed, others = listed + inside, others + other
            if not inside and any((name / file).is_file() for file in ("results.json", "config.yaml")):
                problems.append(f"{name}: a run, and no recording; name one run (does a * fit several?)")
            elif not inside:
                deeper = "" if recursive else "; --recursive looks into its folders"
                problems.append(f"{name}: no audio files in this folder{deeper}")
                problems += skipped_warnings(other)
        elif name.exists():
            listed.append(name)
        else:
            problems.append(f"{name}: no such file or folder")
    if problems:
        raise EmoshareError("\n".join(problems))
    if skipped is not None:
        skipped += dict.fromkeys(others)
    folders = {folder: folder.resolve() for folder in {path.parent for path in listed}}
    first: dict[tuple[Path, str], Path] = {}
    for path in listed:
        first.setdefault((folders[path.parent], path.name), path)
    return list(first.values())


def format_of(path: Path) -> str:
    """The sound or video format of a file of another suffix, by its first bytes; "" for nothing of that."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return ""
    return name_of(head) or ("sound" if reader(head) else "")


def skipped_warnings(files: Sequence[Path]) -> list[str]:
    """The warning about files in folders that are not read: a line for each suffix, with what converts them."""
    lines = []
    for suffix in dict.fromkeys(path.suffix for path in files):
        first, *others = (path for path in files if path.suffix == suffix)
        pattern = f"{shlex.quote(str(first.parent))}/*{suffix}"
        many = f'for f in {pattern}; do ffmpeg -i "$f" "${{f%.*}}.wav"; done'
        name = f"{first} and {len(others)} more" if others else str(first)
        lines.append(f"{name}: {format_of(first)} is not read; convert it: {many if others else conversion(first)}")
    return lines
