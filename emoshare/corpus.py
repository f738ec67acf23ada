"""The corpus: label tables and wav files in the ComParE layout, checked before anything expensive.

Tables are read and checked at every load. Wav files are read, hashed and checked once; the result is remembered for
as long as names, sizes and modification times stay what they were.

Legend: N clips, E emotions.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from emoshare import audio, demo
from emoshare.config import RATE, DataConfig
from emoshare.errors import EmoshareError
from emoshare.figures import corpus_figure as figure  # noqa: F401  (part of this module's face)
from emoshare.tables import Finding, Table, by_kind, duplicates, labels, read_table, usable

log = logging.getLogger(__name__)
VERSION = 1  # of the audio check: raise it when `inspect` finds or hashes something else
UNSET = ("", "???")  # omegaconf's mark of a missing value
SHORTEST, LONGEST = 0.025, 30.0  # seconds: durations outside are odd


@dataclass(frozen=True, eq=False)
class Partition:
    name: str  # train | devel | test
    files: tuple[str, ...]  # filename column, in table order
    shares: np.ndarray | None  # (N, E) float32 in [0, 1]; None where labels are hidden
    seconds: np.ndarray  # (N,) float64, duration of each clip
    start: int  # row of its first clip in the corpus-wide order


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

    The audio check is remembered in `cache`/corpora. EmoshareError holds the report of everything that is wrong.
    """
    root = folder(config)
    found: list[Finding] = []
    names = {"train": config.train, "devel": config.devel} | ({"test": config.test} if config.test else {})
    tables = {part: read_table(root, name, config.targets, part == "test", found) for part, name in names.items()}
    found += duplicates(tables.values())
    shares = {part: labels(table, config.targets, part == "test", found) for part, table in tables.items()}
    if config.test and config.unmasked and (root / config.unmasked).exists():
        shares["test"] = unmask(root, config, tables["test"], found)
    for part, table in tables.items():
        found += usable(table, shares[part], config.targets, part != "test")
    sound = listen(root / config.wav, list(tables.values()), cache)
    found += sound.findings
    if any(finding.error for finding in found):
        raise EmoshareError(full(config.name, root, found))
    partitions = {}
    start = 0
    for part, table in tables.items():
        seconds = np.array(sound.seconds[start : start + len(table.files)])
        partitions[part] = Partition(part, tuple(table.files), shares[part], seconds, start)
        start += len(table.files)
    return Corpus(
        name=config.name,
        root=root,
        wav=root / config.wav,
        targets=tuple(config.targets),
        partitions=partitions,
        fingerprint=fingerprint(partitions, config.targets, sound.fingerprint),
        audio_fingerprint=sound.fingerprint,
        warnings=tuple(by_kind(found)),
    )


def folder(config: DataConfig) -> Path:
    """The root of the corpus; EmoshareError where there is none."""
    if config.root in UNSET:
        raise EmoshareError(
            f"data.root is not set: name the folder that holds {config.train} and {config.wav}/, as data.root=/path"
        )
    if config.targets in UNSET:
        raise EmoshareError("data.targets is not set: name the label columns, as data.targets=[Anger,Joy]")
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


def listen(wav: Path, tables: list[Table], cache: Path) -> Sound:
    """The audio check of all clips, remembered by names, sizes and modification times."""
    clips = [(table.name, line, file) for table in tables for file, line in zip(table.files, table.lines, strict=True)]
    stats = []
    for *_, file in clips:
        try:
            status = os.stat(f"{wav}/{file}")
            stats.append((status.st_size, status.st_mtime_ns))
        except (OSError, ValueError):  # ValueError: a NUL byte in the name
            stats.append((-1, -1))  # `inspect` says what is wrong
    key = hashlib.sha256(repr((VERSION, str(wav), clips, stats)).encode()).hexdigest()[:16]
    memory = cache / "corpora" / f"{key}.json"
    try:
        seconds, digest, oddities = json.loads(memory.read_text())
        sound = Sound(seconds, digest, [Finding(*fields) for fields in oddities])
    except (OSError, ValueError):  # not there yet
        sound = inspect(wav, clips)
        if not any(finding.error for finding in sound.findings):
            remember(memory, sound)
    return Sound(sound.seconds, sound.fingerprint, sound.findings + unnamed(wav, [file for *_, file in clips]))


def inspect(wav: Path, clips: Sequence[tuple[str, int, str]]) -> Sound:
    """Read, hash and check every wav file. `clips`: table, line and file of each."""
    log.info("checking %d clips in %s", len(clips), wav)
    batches = [clips[i : i + 64] for i in range(0, len(clips), 64)]
    with ThreadPoolExecutor() as pool:  # reading and hashing let go of the interpreter's lock
        heard = itertools.chain.from_iterable(pool.map(lambda batch: [hear(f"{wav}/{c[2]}") for c in batch], batches))
        whole = hashlib.sha256()
        seconds, findings = [], []
        for (table, line, file), (duration, digest, problems) in zip(clips, heard, strict=True):
            whole.update(digest)
            seconds.append(duration)
            findings += [
                Finding(k, table, line, f"{file}: {text}", k in ("missing wav", "bad wav")) for k, text in problems
            ]
    return Sound(seconds, whole.hexdigest(), findings)


def hear(path: str) -> tuple[float, bytes, list[tuple[str, str]]]:
    """Seconds, sha256 of the file, and (kind, message) of whatever is wrong or odd with it."""
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


def unnamed(wav: Path, files: list[str]) -> list[Finding]:
    """One oddity for the wav files that no table names."""
    named = set(files)
    extra = []
    for where, _, inside in os.walk(wav):
        prefix = "" if where == str(wav) else os.path.relpath(where, wav) + "/"
        extra += [prefix + name for name in inside if name.lower().endswith(".wav") and prefix + name not in named]
    message = f"{len(extra)} wav files that no table names, e.g. {min(extra)}" if extra else ""
    return [Finding("unnamed wav", wav.name, 0, message, error=False)] if extra else []


def remember(path: Path, sound: Sound) -> None:
    """Write the outcome of a check, whole or not at all."""
    oddities = [[f.kind, f.table, f.line, f.message, f.error] for f in sound.findings]
    temporary = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps([sound.seconds, sound.fingerprint, oddities]))
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise EmoshareError(f"{path}: cannot be written: {error.strerror}; set paths.cache to another folder") from None


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
    counts = f"{len(errors)} errors, {len(odd)} warnings"
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
