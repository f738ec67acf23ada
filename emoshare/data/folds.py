"""Cross-validation: train and devel of a corpus divided into folds, of which one is devel in each run.

Test stays what it is. N clips of train and devel in corpus-wide order, K folds.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from emoshare.core.config import DataConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.folds import balanced_folds
from emoshare.data.groups import cluster_column, cluster_numbers
from emoshare.data.partition import Corpus, Folds, Partition, join_votes

FEWEST = 2  # clips of a fold: a correlation needs as many


def split(corpus: Corpus, config: DataConfig) -> Corpus:
    """The corpus with fold `data.fold` as devel and the others as train; frames, test and order stay as they are.

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
    return replace(corpus, partitions=corpus.partitions | made, fingerprint=combined, folds=place, undivided=corpus)


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
