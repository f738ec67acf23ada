"""The corpus: label tables and wav files in the ComParE layout, checked before anything expensive.

Everything is read, hashed and checked once. The outcome is remembered for as long as the tables stay what they were,
byte by byte, and the wav files keep their sizes and modification times.

Legend: N clips, E emotions.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import zipfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from emoshare.core.config import RATE, DataConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.files import replacing
from emoshare.data import audio, demo
from emoshare.data.labels import Finding, Table, by_kind, duplicates, labels, read_table, usable

log = logging.getLogger(__name__)
VERSION = 1  # of the check: raise it when it finds or hashes something else
UNSET = ("", "???")  # omegaconf's mark of a missing value
SHORTEST, LONGEST = 0.025, 30.0  # seconds: durations outside are odd


@dataclass(frozen=True, eq=False)
class Partition:
    name: str  # train | devel | test
    files: tuple[str, ...]  # filename column, in table order
    shares: np.ndarray | None  # (N, E) float32 in [0, 1]; None where labels are hidden
    seconds: np.ndarray  # (N,) float64, duration of each clip
    start: int  # row of its first clip in the corpus-wide order

    @property
    def rows(self) -> np.ndarray:
        """(N,) places of its clips in the corpus-wide order."""
        return self.start + np.arange(len(self.files))


@dataclass(frozen=True, eq=False)
class Corpus:
    name: str
    root: Path
    wav: Path  # folder of the clips
    targets: tuple[str, ...]
    partitions: dict[str, Partition]  # train, devel and, unless data.test is null, test
    fingerprint: str  # hex sha256 over names, labels and audio content
    audio_fingerprint: str  # over the audio content alone, in corpus-wide order
    warnings: tuple[str, ...]  # one text per kind of oddity: a counting line, then the first findings

    def path(self, file: str) -> Path:
        return self.wav / file

    @cached_property
    def files(self) -> tuple[str, ...]:
        """All clips in corpus-wide order: train, devel, test."""
        return tuple(file for part in self.partitions.values() for file in part.files)

    @cached_property
    def seconds(self) -> np.ndarray:
        """(N,) durations in corpus-wide order."""
        return np.concatenate([part.seconds for part in self.partitions.values()])


@dataclass(frozen=True)
class Sound:
    """What the check knows of all wav files, in corpus-wide order."""

    seconds: list[float]
    fingerprint: str
    findings: list[Finding]


def load(config: DataConfig, cache: Path) -> Corpus:
    """Read and check a corpus; `data=demo` is generated at its first use.

    The outcome is remembered in `cache`/corpora. EmoshareError holds the report of everything that is wrong.
    """
    root = folder(config)
    key = hashlib.sha256(repr((VERSION, root, config.wav, config.targets)).encode())
    for name in (config.train, config.devel, config.test, config.unmasked):
        key.update(repr((name, content(root / name) if name else None)).encode())
    memory = cache / "corpora" / f"{key.hexdigest()[:16]}.npz"
    corpus = recall(memory, config, root)
    if corpus is None:
        corpus, found = check(config, root)
        remember(memory, corpus, found)
    return corpus


def content(table: Path) -> bytes | None:
    try:
        return table.read_bytes()
    except OSError:  # `check` says what is wrong
        return None


def check(config: DataConfig, root: Path) -> tuple[Corpus, np.ndarray]:
    """The corpus, read in full, and the `state` of its files before that; EmoshareError if anything is wrong."""
    found: list[Finding] = []
    names = {"train": config.train, "devel": config.devel} | ({"test": config.test} if config.test else {})
    tables = {part: read_table(root, name, config.targets, part == "test", found) for part, name in names.items()}
    found += duplicates(tables.values())
    shares = {part: labels(table, config.targets, part == "test", found) for part, table in tables.items()}
    if config.test and config.unmasked and (root / config.unmasked).exists():
        shares["test"] = unmask(root, config, tables["test"], found)
    for part, table in tables.items():
        found += usable(table, shares[part], config.targets, part != "test")
    wav = root / config.wav
    before = state(wav, [file for table in tables.values() for file in table.files])
    sound = listen(wav, tables.values())
    found += sound.findings + unnamed(wav, tables.values())
    if any(finding.error for finding in found):
        raise EmoshareError(full(config.name, root, found))
    contents = {part: (table.files, shares[part]) for part, table in tables.items()}
    partitions = divide(contents, np.array(sound.seconds))
    whole = fingerprint(partitions, config.targets, sound.fingerprint)
    warnings = tuple(by_kind(found))
    corpus = Corpus(config.name, root, wav, tuple(config.targets), partitions, whole, sound.fingerprint, warnings)
    return corpus, before


def divide(contents: dict[str, tuple[list[str], np.ndarray | None]], seconds: np.ndarray) -> dict[str, Partition]:
    """Partitions from their files and shares, and the durations in corpus-wide order."""
    partitions = {}
    start = 0
    for name, (files, shares) in contents.items():
        partitions[name] = Partition(name, tuple(files), shares, seconds[start : start + len(files)], start)
        start += len(files)
    return partitions


def folder(config: DataConfig) -> Path:
    """The root of the corpus; EmoshareError where there is none."""
    if config.root in UNSET:
        raise EmoshareError(
            f"data.root is not set: name the folder that holds {config.train} and {config.wav}/, as data.root=/path"
        )
    if not config.targets:
        raise EmoshareError("data.targets=[]: name the label columns, as data.targets=[Joy,Fear]")
    if config.name == "demo":
        demo.ensure(config)
    root = Path(config.root).expanduser().absolute()
    for key, path in {"data.root": root, "data.wav": root / config.wav}.items():
        if not path.is_dir():
            raise EmoshareError(f"{key}: there is no folder {path}; set data.root to the corpus, data.wav to its clips")
    return root


def unmask(root: Path, config: DataConfig, test: Table, found: list[Finding]) -> np.ndarray | None:
    """Test labels (N, E) from the unmasked table, in the order of the masked one."""
    assert config.unmasked
    table = read_table(root, config.unmasked, config.targets, False, found)
    shares = labels(table, config.targets, False, found)
    rows = {file: row for row, file in enumerate(table.files)}
    lines = dict(zip(test.files, test.lines, strict=True))
    strange = [(file, line) for file, line in zip(table.files, table.lines, strict=True) if file not in lines]
    absent = [(file, line) for file, line in lines.items() if file not in rows]
    found += [Finding("unmasked", table.name, line, f"{file} is not in {test.name}") for file, line in strange]
    found += [Finding("unmasked", test.name, line, f"{file} is not in {table.name}") for file, line in absent]
    if len(rows) < len(table.files):
        found += duplicates([table])
    return None if shares is None or absent else shares[[rows[file] for file in test.files]]


def listen(wav: Path, tables: Iterable[Table]) -> Sound:
    """Read, hash and check every wav file."""
    clips = [(table.name, line, file) for table in tables for file, line in zip(table.files, table.lines, strict=True)]
    log.info("checking %d clips in %s", len(clips), wav)
    batches = [clips[i : i + 64] for i in range(0, len(clips), 64)]
    whole = hashlib.sha256()
    seconds, findings = [], []
    with ThreadPoolExecutor() as pool:  # reading and hashing let go of the interpreter's lock
        heard = itertools.chain.from_iterable(pool.map(lambda batch: [hear(f"{wav}/{c[2]}") for c in batch], batches))
        for (table, line, file), (duration, digest, problems) in zip(clips, heard, strict=True):
            whole.update(digest)
            seconds.append(duration)
            findings += [Finding(kind, table, line, f"{file}: {text}", not digest) for kind, text in problems]
    return Sound(seconds, whole.hexdigest(), findings)


def hear(path: str) -> tuple[float, bytes, list[tuple[str, str]]]:
    """Seconds, sha256 of the file (nothing if it cannot be used), and (kind, message) of what is wrong or odd."""
    try:
        with open(path, "rb") as file:
            data = file.read()
        header = audio.parse(data)
    except FileNotFoundError:
        return 0.0, b"", [("missing wav", "no such file in the wav folder")]
    except OSError as error:
        return 0.0, b"", [("bad wav", f"cannot be read: {error.strerror}")]
    except ValueError as error:
        return 0.0, b"", [("bad wav", str(error))]
    odd = []
    if header.rate != RATE:
        odd.append((f"other sample rate, resampled to {RATE} Hz", f"{header.rate} Hz"))
    if header.channels != 1:
        odd.append(("more than one channel, averaged", f"{header.channels} channels"))
    if not SHORTEST <= header.seconds <= LONGEST:
        odd.append((f"duration outside {SHORTEST:g} to {LONGEST:g} s", f"{header.seconds:.4g} s"))
    return header.seconds, hashlib.sha256(data).digest(), odd


def unnamed(wav: Path, tables: Iterable[Table]) -> list[Finding]:
    """One oddity for the wav files that no table names."""
    named = {file for table in tables for file in table.files}
    extra = []
    for where, _, inside in os.walk(wav):
        prefix = "" if where == str(wav) else os.path.relpath(where, wav) + "/"
        extra += [prefix + name for name in inside if name.lower().endswith(".wav") and prefix + name not in named]
    message = f"{len(extra)} wav files that no table names, e.g. {min(extra)}" if extra else ""
    return [Finding("unnamed wav", wav.name, 0, message, error=False)] if extra else []


def state(wav: Path, files: Sequence[str]) -> np.ndarray:
    """(1 + N, 2) size and modification time in ns, of the wav folder and of each clip; -1 where there is none."""
    found = []
    for path in [str(wav), *(f"{wav}/{file}" for file in files)]:
        try:
            status = os.stat(path)
            found.append((status.st_size, status.st_mtime_ns))
        except (OSError, ValueError):  # ValueError: a NUL byte in the name
            found.append((-1, -1))
    return np.array(found)


def remember(path: Path, corpus: Corpus, found: np.ndarray) -> None:
    """Write a checked corpus and the state it was found in, whole or not at all."""
    prints = [corpus.fingerprint, corpus.audio_fingerprint]
    arrays = {"prints": np.array(prints), "warnings": np.array(corpus.warnings, dtype=str), "seconds": corpus.seconds}
    for name, part in corpus.partitions.items():
        arrays[f"{name}.files"] = np.array(part.files)
        if part.shares is not None:
            arrays[f"{name}.shares"] = part.shares
    try:
        with replacing(path) as temporary:
            np.savez(temporary, allow_pickle=False, state=found, **arrays)
    except OSError as error:
        raise EmoshareError(f"{path}: cannot be written: {error.strerror}; set paths.cache to another folder") from None


def recall(path: Path, config: DataConfig, root: Path) -> Corpus | None:
    """A corpus as it was checked; None where it was not, or where a clip has changed since."""
    try:
        with np.load(path) as arrays:
            kept = dict(arrays)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile):  # not there, or damaged
        return None
    names = [name for name in ("train", "devel", "test") if f"{name}.files" in kept]
    contents = {name: (kept[f"{name}.files"].tolist(), kept.get(f"{name}.shares")) for name in names}
    wav = root / config.wav
    if not np.array_equal(kept["state"], state(wav, [file for files, _ in contents.values() for file in files])):
        return None
    whole, heard = kept["prints"].tolist()
    partitions = divide(contents, kept["seconds"])
    warnings = tuple(kept["warnings"].tolist())
    return Corpus(config.name, root, wav, tuple(config.targets), partitions, whole, heard, warnings)


def fingerprint(partitions: dict[str, Partition], targets: list[str], heard: str) -> str:
    """sha256 over everything that a result depends on: names, order, labels, audio."""
    whole = hashlib.sha256(repr((targets, heard)).encode())
    for part in partitions.values():
        whole.update(repr((part.name, part.files)).encode())
        whole.update(b"hidden" if part.shares is None else part.shares.tobytes())
    return whole.hexdigest()


def full(name: str, root: Path, found: list[Finding]) -> str:
    """The report of a corpus that cannot be used: counts first."""
    errors = [finding for finding in found if finding.error]
    odd = [finding for finding in found if not finding.error]
    counts = f"errors: {len(errors)}, warnings: {len(odd)}"
    texts = [f"corpus {name} in {root}: {counts}", *by_kind(errors)]
    return "\n".join([*texts, *(["warnings:", *by_kind(odd)] if odd else [])])


def report(corpus: Corpus) -> str:
    """The warnings, then a table: clips, hours, duration quantiles and mean shares of each partition."""
    parts = list(corpus.partitions.values())
    rows = [["", *(part.name for part in parts)], ["clips", *(f"{len(part.files):,}" for part in parts)]]
    rows.append(["hours", *(f"{part.seconds.sum() / 3600:.2f}" for part in parts)])
    for label, q in {"shortest": 0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "longest": 1}.items():
        rows.append([f"seconds, {label}", *(f"{np.quantile(part.seconds, q):.2f}" for part in parts)])
    for e, target in enumerate(corpus.targets):
        means = ["hidden" if part.shares is None else f"{part.shares[:, e].mean():.3f}" for part in parts]
        rows.append([f"mean share, {target}", *means])
    width = max(len(row[0]) for row in rows)
    lines = [row[0].ljust(width) + "".join(cell.rjust(10) for cell in row[1:]) for row in rows]
    return "\n".join([*corpus.warnings, f"corpus {corpus.name} in {corpus.root}", *lines])
