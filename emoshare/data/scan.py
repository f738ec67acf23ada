"""All clips of a corpus, read and hashed once: durations, digests, and what is wrong or odd with them."""

from __future__ import annotations

import hashlib
import itertools
import logging
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emoshare.core.config import RATE
from emoshare.data import audio
from emoshare.data.channels import SILENT, cancellation, mono
from emoshare.data.labels import TOO_GOOD, Finding, LabelTable
from emoshare.data.spans import recording_of

log = logging.getLogger(__name__)
SHORTEST, LONGEST = 0.025, 30.0  # seconds: durations outside are odd
DUPLICATE = {  # whether in one partition → what it is
    True: "same audio twice in a partition: it counts twice",
    False: f"same audio in two partitions: {TOO_GOOD}; leave it out of one",
}
LOUD = 0.1  # of full scale: peaks below are not called clipped
CLIPPED = 0.001  # share of samples inside runs of three or more at the highest or lowest value of the clip


@dataclass(frozen=True)
class Scan:
    """The facts about the clips, in corpus-wide order."""

    seconds: list[float]
    digests: list[bytes]  # sha256 of each clip; empty where it cannot be used
    findings: list[Finding]


def scan_clips(wav: Path, tables: Sequence[LabelTable], max_mb: float, scale: float | None = None) -> Scan:
    """Read, hash and check every clip that the tables name; scale as for `audio.read`."""
    clips = [(table, line, file) for table in tables for file, line in zip(table.files, table.lines, strict=True)]
    if clips:
        log.info("checking %d clips in %s", len(clips), wav)
    paths = [f"{wav}/{file}" for _, _, file in clips]
    batches = [paths[i : i + 64] for i in range(0, len(paths), 64)]
    seconds, digests, findings = [], [], []
    first: dict[bytes, tuple[LabelTable, int, str]] = {}  # the first clip of each digest
    with ThreadPoolExecutor() as pool:  # reading and hashing let go of the interpreter's lock
        scans = pool.map(lambda batch: [scan_clip(path, max_mb, scale) for path in batch], batches)
        for clip, (duration, digest, problems) in zip(clips, itertools.chain.from_iterable(scans), strict=True):
            table, line, file = clip
            seconds.append(duration)
            digests.append(digest)
            findings += [Finding(kind, table.name, line, f"{file}: {text}", not digest) for kind, text in problems]
            other, there, same = first.setdefault(digest, clip) if digest else clip
            if same != file:
                message = f"{file}: the same audio as {same} in {other.name}:{there}"
                findings.append(Finding(DUPLICATE[other is table], table.name, line, message, error=False))
    return Scan(seconds, digests, findings)


def scan_clip(path: str, max_mb: float, scale: float | None) -> tuple[float, bytes, list[tuple[str, str]]]:
    """Seconds, sha256 (nothing if the clip cannot be used), and (kind, message) of what is wrong or odd."""
    try:
        info, data, wave = audio.inspect(path, max_mb, scale)
        mono(wave)
    except FileNotFoundError:
        return 0.0, b"", [("missing wav", "no such file in the wav folder")]
    except OSError as error:
        return 0.0, b"", [("bad wav", f"cannot be read: {error.strerror}")]
    except ValueError as error:
        return 0.0, b"", [("bad wav", str(error))]
    odd = []
    if info.rate != RATE:
        odd.append((f"other sample rate, resampled to {RATE} Hz", f"{info.rate} Hz"))
    if info.channels != 1:
        odd.append(("more than one channel, averaged", f"{info.channels} channels"))
    if lost := cancellation(wave):
        odd.append(("channels that cancel: keep one of them, or turn one round", lost))
    if not SHORTEST <= info.seconds <= LONGEST:
        odd.append((f"duration outside {SHORTEST:g} to {LONGEST:g} s", f"{info.seconds:.4g} s"))
    if info.seconds <= LONGEST:
        odd += level_problems(wave)
    return info.seconds, hashlib.sha256(data).digest(), odd


def level_problems(wave: np.ndarray) -> list[tuple[str, str]]:
    """(kind, message) where samples (N,) or (N, C) are silent or clipped."""
    wave = np.ascontiguousarray(wave.reshape(len(wave), -1).T)  # (C, N)
    deviation = float(wave.std(axis=1).max())
    if deviation < SILENT:
        level = f"{20 * math.log10(deviation):.0f} dB" if deviation > 0 else "no sound at all"
        return [("silent clip: leave it out, or look at its recording", level)]
    share = max(map(clipped_share, wave))
    text = f"{100 * share:.1f} % of its samples"
    return [("clipped clip, its peaks are cut off: leave it out where it matters", text)] if share > CLIPPED else []


def clipped_share(wave: np.ndarray) -> float:
    """(N,) → the share of samples that begin three equal ones at the highest or the lowest value of a loud clip."""
    high, low = wave.max(), wave.min()
    if max(high, -low) < LOUD or len(wave) < 3:
        return 0.0
    ends = [wave == high, wave == low]
    if sum(map(np.count_nonzero, ends)) <= CLIPPED * len(wave):
        return 0.0
    return float(sum(np.mean(at[2:] & at[1:-1] & at[:-2]) for at in ends))


def find_unlisted(wav: Path, files: Sequence[str], tables: Sequence[LabelTable]) -> list[Finding]:
    """One oddity for the sound files, of all files in the wav folder, that no table names."""
    listed = {recording_of(file) for table in tables for file in table.files}
    extra = [file for file in files if file.lower().endswith(audio.SUFFIXES) and file not in listed]
    message = f"{len(extra)} sound files that no table names, e.g. {min(extra)}" if extra else ""
    return [Finding("unlisted sound file", wav.name, 0, message, error=False)] if extra else []


def file_stats(wav: Path, files: Sequence[str]) -> np.ndarray:
    """(1 + N, 2) size and modification time in ns, of the wav folder and each clip's file; -1 where there is none."""
    stats = []
    for path in [str(wav), *(f"{wav}/{recording_of(file)}" for file in files)]:
        try:
            status = os.stat(path)  # noqa: PTH116 (a corpus has many, and a path of each takes longer)
            stats.append((status.st_size, status.st_mtime_ns))
        except (OSError, ValueError):  # ValueError: a NUL byte in the name
            stats.append((-1, -1))
    return np.array(stats)
