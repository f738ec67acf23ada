"""Cross-validation: train and devel of a corpus divided into folds, of which one is devel in each run.

Test stays what it is. N clips of train and devel in corpus-wide order, K folds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from emoshare.core.config import DataConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.folds import balanced_folds
from emoshare.data.groups import SPEAKER, cluster_column, cluster_numbers
from emoshare.data.labels import TOO_GOOD, Finding, LabelTable, group_by_kind
from emoshare.data.layout import OVERLAP, find_overlaps
from emoshare.data.partition import Corpus, Folds, Partition, join_votes

FEWEST = 2  # clips of a fold: a correlation needs as many


def split(corpus: Corpus, config: DataConfig, speakers: np.ndarray | None = None) -> Corpus:
    """The corpus with fold `data.fold` as devel and the others as train; frames, test and order stay as they are.

    speakers: of all clips, "" where not known, if tables tell them and the config does not: for a warning alone.

    Raises:
        EmoshareError: there are fewer units than folds, no such fold, or a fold of one clip.
    """
    assert config.folds
    parts = [corpus.partitions[name] for name in ("train", "devel")]
    rows = np.concatenate([part.rows for part in parts])
    folds, names = divide(corpus, config, rows)
    sizes = np.bincount(folds)
    if config.fold is None or config.fold >= len(sizes):
        raise EmoshareError(
            f"data.fold={'null' if config.fold is None else config.fold}: data.folds={config.folds} has the folds "
            f"0 to {len(sizes) - 1} here; name one of them"
        )
    if sizes.min() < FEWEST:
        raise EmoshareError(
            f"data.folds={config.folds}: fold {sizes.argmin()}{names[sizes.argmin()]} has one clip alone: a "
            f"correlation needs at least two; name a smaller number of folds"
        )
    made = {name: _join(name, parts, rows, (folds == config.fold) == (name == "devel")) for name in ("train", "devel")}
    combined = hashlib.sha256(repr((corpus.fingerprint, folds.tolist())).encode()).hexdigest()  # one for all folds
    place = Folds(config.folds, len(sizes), config.fold, corpus.fingerprint)
    divided = replace(corpus, partitions=corpus.partitions | made, fingerprint=combined, folds=place, undivided=corpus)
    leaks = find_leaks(corpus, folds, rows, speakers)
    return replace(divided, warnings=(*corpus.warnings, *group_by_kind(list(leaks))))


def divide(corpus: Corpus, config: DataConfig, rows: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The fold of each row (N,), and for each fold what its clips have in common, in brackets."""
    assert config.folds
    if not config.folds.isdigit():
        cells = corpus.groups[config.folds][rows]
        if unknown := np.count_nonzero(cells == ""):
            raise EmoshareError(
                f"data.folds={config.folds}: the {config.folds} of {unknown} clips of train and devel is not known, so "
                f"that they belong to no fold: fill the cells, or set data.folds to a number"
            )
        values, folds = np.unique(cells, return_inverse=True)
        return folds, [f" ({config.folds} {value})" for value in values]
    column, count = cluster_column(config), int(config.folds)
    units = cluster_numbers(corpus.groups[column][rows]) if column else rows
    there = len(np.unique(units))
    if there < count:
        what = f"values of {column}" if column else "clips"
        raise EmoshareError(f"data.folds={count}: train and devel have {there} {what}; name at most {there} folds")
    return balanced_folds(units, count, config.split_seed), [""] * count


def find_leaks(
    corpus: Corpus, folds: np.ndarray, rows: np.ndarray, speakers: np.ndarray | None = None
) -> Iterator[Finding]:
    """One oddity for each clip that another fold knows already: by its sound, its speaker or a stretch of it."""
    places = [f"data.fold={fold}" for fold in folds.tolist()]
    files = [corpus.files[row] for row in rows.tolist()]
    shared: list[tuple[str, list[Any], str]] = [("audio", [corpus.digests[row] for row in rows], "leave one out")]
    count = f"data.folds={folds.max() + 1}"
    if corpus.cluster:
        shared.append((corpus.cluster, corpus.groups[corpus.cluster][rows].tolist(), f"{count} keeps them apart"))
    elif speakers is not None:
        shared.append((SPEAKER, speakers[rows].tolist(), f"data.groups=[{SPEAKER}] {count} keep them apart"))
    for name, values, remedy in shared:
        kind = f"clips of one {name} in two folds: {TOO_GOOD}; {remedy}"
        first: dict[Any, tuple[str, str]] = {}
        for value, place, file in zip(values, places, files, strict=True):
            there, other = first.setdefault(value, (place, file))
            if value and there != place:
                yield Finding(kind, place, 0, f"{file}, as {other} of {there}", error=False)
    tables: dict[str, LabelTable] = {}
    for place, file in zip(places, files, strict=True):
        table = tables.setdefault(place, LabelTable(place, [], [], []))
        table.files.append(file)
        table.lines.append(0)
    yield from (finding for finding in find_overlaps(tables.values()) if finding.kind == OVERLAP[False])


def _join(name: str, parts: list[Partition], rows: np.ndarray, chosen: np.ndarray) -> Partition:
    """The chosen clips of several partitions as one, in corpus-wide order."""
    files = [file for part in parts for file in part.files]
    seconds = np.concatenate([part.seconds for part in parts])
    shares = np.concatenate([part.shares for part in parts if part.shares is not None])
    kept = tuple(file for file, keep in zip(files, chosen, strict=True) if keep)
    votes = join_votes(parts)
    return replace(
        parts[0], name=name, files=kept, shares=shares[chosen], seconds=seconds[chosen], places=rows[chosen],
        votes=None if votes is None else votes[chosen],
    )  # fmt: skip
