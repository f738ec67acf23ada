"""The corpus: label tables and wav files in the ComParE layout, checked before anything expensive.

Everything is read, hashed and checked once. The outcome is remembered for as long as the tables stay what they were,
byte by byte, and the wav files keep their sizes and modification times.

Legend: N clips, E emotions.
"""

from __future__ import annotations

import hashlib
import logging
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache as once
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emoshare.core.config import DataConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.files import replacing, write_text
from emoshare.core.hashing import digest
from emoshare.core.ranges import to_range
from emoshare.core.text import console_table
from emoshare.data import constant_labels, demo, folds
from emoshare.data.drift import find_drift
from emoshare.data.groups import (
    SPEAKER,
    Groups,
    cluster_column,
    find_shared_speakers,
    group_columns,
    known_cells,
    read_groups,
)  # fmt: skip
from emoshare.data.labels import (
    Finding,
    LabelTable,
    count_votes,
    describe_findings,
    find_duplicates,
    find_same_tables,
    group_by_kind,
    parse_labels,
    unmask,
)  # fmt: skip
from emoshare.data.layout import BAD_TIMES, find_overlaps, name_segments, read_table, read_tables
from emoshare.data.names import UNRESOLVED, list_files, match_names, resolve_names
from emoshare.data.partition import Corpus, Partition, audio_hash
from emoshare.data.scan import file_stats, find_unlisted, scan_clips
from emoshare.data.sound_tables import unpack
from emoshare.data.suggest import suggest_columns
from emoshare.data.table_hash import layout_of, tables_hash
from emoshare.data.tables import table_paths

log = logging.getLogger(__name__)
UNREADABLE = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile)  # a remembered check: not there, or damaged
UNSET = ("", "???")  # omegaconf's mark of a missing value
# Remembered corpus and folds → when it was loaded, its tables, its fingerprint, seconds of its longest clip.
_asked: dict[Path, tuple[float, str, str, float]] = {}


def load(config: DataConfig, cache: Path) -> Corpus:
    """Read and check a corpus; `data=demo` is generated at its first use.

    The outcome is remembered in `cache`/corpora, where that can be written. EmoshareError holds the report of
    everything that is wrong.
    """
    root = corpus_root(config)
    tables = tables_hash(config, root)
    memory = memory_path(config, cache)
    corpus = read_memory(memory, config, root, tables)
    if corpus is None:
        corpus, stats = check_corpus(config, root)
        write_memory(memory, corpus, tables, stats)
    if config.folds:
        corpus = folds.split(corpus, config, None if corpus.cluster else told_speakers(config, root))
        remember_folds(memory, config, corpus.fingerprint)
    return constant_labels.add_warnings(corpus, config)


class KnownCorpus(NamedTuple):
    """The facts about a corpus, whether or not it is at hand."""

    fingerprint: str
    longest: float  # seconds of its longest clip
    read: Corpus | None = None  # where it was read to find that out


def known_corpus(config: DataConfig, cache: Path) -> KnownCorpus:
    """A corpus as `load` found it last.

    EmoshareError where the corpus has mistakes, or is not there and was never seen. A sweep asks once for each run:
    within a minute only the tables are looked at again, not the clips.
    """
    root, memory = root_path(config), memory_path(config, cache)
    if not all(path.exists() for path in (*table_paths(root, config.table or config.train), root / config.wav)):
        try:
            with np.load(memory) as arrays:
                known, longest = str(arrays["prints"][0]), float(arrays["seconds"].max())
            return KnownCorpus(folds_path(memory, config).read_text("utf-8") if config.folds else known, longest)
        except UNREADABLE:
            pass  # never seen: `load` says below what is missing
    key = folds_path(memory, config)
    asked, tables, known, longest = _asked.get(key, (0.0, "", "", 0.0))
    if tables == tables_hash(config, root) and time.monotonic() - asked <= 60:
        return KnownCorpus(known, longest)
    corpus = load(config, cache)
    facts = KnownCorpus(corpus.fingerprint, float(corpus.seconds.max()), corpus)
    _asked[key] = time.monotonic(), tables_hash(config, root), *facts[:2]
    return facts


def check_corpus(config: DataConfig, root: Path) -> tuple[Corpus, np.ndarray]:
    """The corpus, read in full, and the `file_stats` of its clips before that; EmoshareError if anything is wrong."""
    findings: list[Finding] = []
    wav = root / config.wav
    files = list_files(wav)
    tables, shares = read_labels(config, root, files, findings)
    groups = read_groups(config, root, tables, findings)
    findings += find_shared_speakers(config, groups, tables)
    listed = list(tables.values())
    stats = file_stats(wav, [file for table in listed for file in table.files])
    told = {(finding.table, finding.line) for finding in findings if finding.kind in (*UNRESOLVED, BAD_TIMES)}
    scan = scan_clips(wav, listed, config.max_mb, config.scale)
    findings += [finding for finding in scan.findings if (finding.table, finding.line) not in told]
    kinds = {finding.kind for finding in findings}
    findings += [] if "header" in kinds else find_unlisted(wav, files, listed)  # rows of such a table are not known
    if any(finding.error for finding in findings):
        hint = suggest_columns(config) if kinds & {"header", "table"} else ""
        raise EmoshareError(describe_findings(config.name, root, findings) + hint.replace("; ", "\n  "))
    contents = {part: (table.files, shares[part]) for part, table in tables.items()}
    partitions = divide(contents, np.array(scan.seconds))
    partitions = add_votes(partitions, {part: count_votes(table, config) for part, table in tables.items()})
    combined = fingerprint(partitions, config.targets, scan.digests, config.scale)
    warnings = tuple(group_by_kind(findings))
    names, cluster = (config.name, root, wav, tuple(config.targets)), cluster_column(config)
    corpus = Corpus(*names, partitions, combined, warnings, tuple(scan.digests), groups, cluster)
    return replace(corpus, scale=config.scale, range=config.range), stats


def read_labels(
    config: DataConfig, root: Path, files: list[str], findings: list[Finding]
) -> tuple[dict[str, LabelTable], dict[str, np.ndarray | None]]:
    """The tables of the partitions and their shares (N, E); what is wrong with them goes to `findings`.

    files: all files of the wav folder; the tables' names become those of the files that they mean.
    """
    tables = read_tables(config, root, findings)
    unmasked = None
    if config.test and config.unmasked and (root / config.unmasked).exists():
        unmasked = read_table(config, root, config.unmasked, findings, "test")
    findings += resolve_names(root, root / config.wav, list(tables.values()), files)
    if unmasked:
        match_names(unmasked, tables["test"].files)
    for table in (*tables.values(), *([unmasked] if unmasked else [])):
        findings += name_segments(table)
    findings += find_overlaps(tables.values())
    if not config.table:
        findings += find_same_tables(root, {part: table.name for part, table in tables.items()})
    findings += find_duplicates(tables.values())
    shares = {part: parse_labels(table, config, part == "test", findings) for part, table in tables.items()}
    if unmasked:
        shares["test"] = unmask(config, unmasked, tables["test"], findings)
    findings += find_drift(tables, shares, config.targets)
    if not config.folds:  # else `load` looks at the folds
        findings += constant_labels.find_errors(tables, shares, config.targets)
    return tables, shares


def divide(contents: dict[str, tuple[list[str], np.ndarray | None]], seconds: np.ndarray) -> dict[str, Partition]:
    """Partitions from their files and shares, and the durations in corpus-wide order."""
    partitions = {}
    start = 0
    for name, (files, shares) in contents.items():
        partitions[name] = Partition(name, tuple(files), shares, seconds[start : start + len(files)], start)
        start += len(files)
    return partitions


def add_votes(partitions: dict[str, Partition], votes: Mapping[str, np.ndarray | None]) -> dict[str, Partition]:
    """Partitions with how many votes (N,) their clips have; None where labels are no votes, or hidden."""
    return {name: replace(part, votes=votes.get(name)) for name, part in partitions.items()}


def root_path(config: DataConfig) -> Path:
    """Where the corpus is to be; EmoshareError where the config does not say."""
    if config.root in UNSET:
        table = config.table or config.train
        raise EmoshareError(f"data.root is not set: name the folder that holds {table} and {config.wav}/")
    return Path(config.root).expanduser().absolute()


def corpus_root(config: DataConfig) -> Path:
    """The folder of the corpus; EmoshareError where there is none."""
    root = root_path(config)
    if not config.targets:
        raise EmoshareError(f"data.targets is empty: name the label columns{suggest_columns(config)}")
    if config.name == "demo":
        demo.ensure(config)
    if root.is_dir():
        names = [config.table] if config.table else [config.train, config.devel, config.test]
        unpack([path for name in names if name for path in table_paths(root, name)], root / config.wav)
    for key, path in {"data.root": root, "data.wav": root / config.wav}.items():
        if not path.is_dir():
            raise EmoshareError(f"{key}: there is no folder {path}; set data.root to the corpus, data.wav to its clips")
    return root


def memory_path(config: DataConfig, cache: Path) -> Path:
    """The file that remembers the corpus of a place: what the last check of it found."""
    names = [config.train, config.devel, config.test, config.unmasked, config.wav, *layout_of(config)]
    generator = (
        [config.clips, config.seed, *filter(None, [config.habit, config.raters])] if config.name == "demo" else []
    )
    scale = [config.scale] if config.scale else []
    key = digest([str(root_path(config)), *names, list(config.targets), *generator, *scale])
    return Path(cache) / "corpora" / f"{key}.npz"


def write_memory(path: Path, corpus: Corpus, tables: str, stats: np.ndarray) -> None:
    """Remember a checked corpus, its tables and the state of its clips; go on where that cannot be written."""
    arrays = {
        "prints": np.array([corpus.fingerprint, tables]),
        "warnings": np.array(corpus.warnings, dtype=str),
        "seconds": corpus.seconds,
        "digests": np.frombuffer(b"".join(corpus.digests), np.uint8).reshape(-1, 32),
    }
    for name, part in corpus.partitions.items():
        arrays[f"{name}.files"] = np.array(part.files)
        if part.shares is not None:
            arrays[f"{name}.shares"] = part.shares
        if part.votes is not None:
            arrays[f"{name}.votes"] = part.votes
    try:
        with replacing(path) as temporary:
            np.savez(temporary, allow_pickle=False, stats=stats, **arrays)
    except OSError as error:
        warn_once(f"{path}: cannot be written ({error.strerror}), so each run reads every clip: set paths.cache")


@once
def warn_once(text: str) -> None:
    log.warning(text)


def read_memory(path: Path, config: DataConfig, root: Path, tables: str) -> Corpus | None:
    """A corpus as it was checked; None where it was not, or where a table or a clip has changed since."""
    try:
        with np.load(path) as arrays:
            kept = dict(arrays)
        known, known_tables = kept["prints"][[0, -1]].tolist()
        digests = tuple(map(bytes, kept["digests"]))
    except UNREADABLE:
        return None
    names = [name for name in ("train", "devel", "test") if f"{name}.files" in kept]
    contents = {name: (kept[f"{name}.files"].tolist(), kept.get(f"{name}.shares")) for name in names}
    files = [file for listed, _ in contents.values() for file in listed]
    wav = root / config.wav
    if known_tables != tables or not np.array_equal(kept["stats"], file_stats(wav, files)):
        return None
    partitions = divide(contents, kept["seconds"])
    partitions = add_votes(partitions, {name: kept.get(f"{name}.votes") for name in names})
    groups, odd = known_groups(config, root, contents)
    warnings = tuple(dict.fromkeys([*kept["warnings"].tolist(), *odd]))
    cluster = cluster_column(config)
    place = config.name, root, wav, tuple(config.targets)
    corpus = Corpus(*place, partitions, known, warnings, digests, groups, cluster)
    return replace(corpus, scale=config.scale, range=config.range)


def known_groups(
    config: DataConfig, root: Path, contents: Mapping[str, tuple[list[str], Any]]
) -> tuple[Groups, Iterator[str]]:
    """The columns of groups of a corpus that was checked before, perhaps for other ones, and the warnings about them.

    Raises EmoshareError as `load` does.

    contents: partition → its files, and more.
    """
    if not group_columns(config):
        return {}, iter(())
    findings: list[Finding] = []
    tables = read_tables(config, root, [])
    for part, (files, _) in contents.items():
        tables[part].files = files
    groups = read_groups(config, root, tables, findings)
    if any(finding.error for finding in findings):
        raise EmoshareError(describe_findings(config.name, root, findings))
    return groups, group_by_kind(findings)


def told_speakers(config: DataConfig, root: Path) -> np.ndarray:
    """(N,) who speaks in each clip by the label tables, whatever the config names; "" where they do not tell."""
    tables = read_tables(config, root, []).values()
    cells = [cell for table in tables for cell in table.column(SPEAKER) or [""] * len(table.files)]
    return known_cells(cells, config)


def folds_path(memory: Path, config: DataConfig) -> Path:
    """The file that remembers the fingerprint of a corpus with these folds; without folds the corpus's own."""
    if not config.folds:
        return memory
    key = [config.folds, config.split_seed, cluster_column(config), config.metadata, list(config.unknown)]
    return memory.with_name(f"{memory.stem}-{digest(key, 8)}.txt")


def remember_folds(memory: Path, config: DataConfig, fingerprint: str) -> None:
    """Remember a corpus with folds, so that a finished run is found without it."""
    with suppress(OSError):  # of which `write_memory` has warned
        write_text(folds_path(memory, config), fingerprint)


def fingerprint(
    partitions: dict[str, Partition], targets: list[str], digests: Sequence[bytes], scale: float | None = None
) -> str:
    """sha256 over everything that a result depends on: names, order, labels, the bytes of all clips and their scale."""
    combined = hashlib.sha256(repr((targets, audio_hash(digests, scale))).encode())
    for part in partitions.values():
        combined.update(repr((part.name, part.files)).encode())
        combined.update(b"hidden" if part.shares is None else part.shares.tobytes())
        combined.update(b"" if part.votes is None else part.votes.tobytes())
    return combined.hexdigest()


def corpus_summary(corpus: Corpus) -> str:
    """The warnings, then a table: clips, hours, duration quantiles and mean shares of each partition."""
    parts = list(corpus.partitions.values())
    rows = [("clips", *(f"{len(part.files):,}" for part in parts))]
    rows.append(("hours", *(f"{part.seconds.sum() / 3600:.2f}" for part in parts)))
    for label, q in {"shortest": 0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "longest": 1}.items():
        rows.append((f"seconds, {label}", *(f"{np.quantile(part.seconds, q):.2f}" for part in parts)))
    for e, target in enumerate(corpus.targets):
        labels = [None if part.shares is None else to_range(part.shares[:, e], corpus.range) for part in parts]
        means = ["hidden" if column is None else f"{column.mean():.3f}" for column in labels]
        rows.append((f"mean {'share' if list(corpus.range) == [0, 1] else 'label'}, {target}", *means))
    table = console_table(("", *(part.name for part in parts)), rows)
    return "\n".join([*corpus.warnings, f"corpus {corpus.name} in {corpus.root}", table.rstrip("\n")])
