"""Targets whose labels are all equal on the clips of a partition or a fold: they have no score there.

N clips, E targets.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from emoshare.core.config import DataConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.spread import is_constant
from emoshare.data import folds
from emoshare.data.labels import Finding, LabelTable, describe_findings, group_by_kind
from emoshare.data.layout import table_titles

if TYPE_CHECKING:
    from emoshare.data.partition import Corpus


def find_constant_labels(
    name: str, shares: np.ndarray | None, targets: Sequence[str], needed: bool
) -> Iterator[Finding]:
    """One warning per target whose labels (N, E) are all equal; one error in their place where that holds for all.

    Args:
        name: of the table or fold.
        shares: None where labels are hidden.
        targets: names of the E targets.
        needed: whether there must be a score: no error without.
    """
    if shares is None or not len(shares):
        return
    same = is_constant(shares)
    if needed and len(shares) == 1:
        yield Finding("partition", name, 0, "one clip alone: a correlation needs at least two")
    elif needed and same.all():
        yield Finding("labels all equal", name, 0, "all labels of every target are equal: no correlation is defined")
    else:
        for target in np.flatnonzero(same).tolist():
            message = f"all {targets[target]} labels are {shares[0, target]:g}: no correlation is defined"
            yield Finding("labels all equal", name, 0, f"{message}, and means leave it out", error=False)


def find_errors(
    tables: Mapping[str, LabelTable], shares: Mapping[str, np.ndarray | None], targets: Sequence[str]
) -> list[Finding]:
    """The errors of label tables: train or devel without any target that has a score."""
    parts = tables.items()
    findings = (find_constant_labels(table.title, shares[part], targets, part != "test") for part, table in parts)
    return [finding for finding in itertools.chain(*findings) if finding.error]


def add_warnings(corpus: Corpus, config: DataConfig) -> Corpus:
    """The corpus, with a warning for what `find_in` finds. Raises EmoshareError where train or devel have no score."""
    findings = list(find_in(corpus, config))
    if any(finding.error for finding in findings):
        raise EmoshareError(describe_findings(config.name, corpus.root, findings))
    return replace(corpus, warnings=(*corpus.warnings, *group_by_kind(findings)))


def find_in(corpus: Corpus, config: DataConfig) -> Iterator[Finding]:
    """Findings of `find_constant_labels` in the partitions; of folds in each of them, an error in `data.fold` alone."""
    tables = table_titles(config)
    divided = ("train", "devel") if corpus.folds else ()
    for part, table in tables.items():
        if part in corpus.partitions and part not in divided:
            yield from find_constant_labels(table, corpus.partitions[part].shares, corpus.targets, part != "test")
    if corpus.undivided is not None:
        parts = [corpus.undivided.partitions[name] for name in divided]
        shares = np.concatenate([part.shares for part in parts if part.shares is not None])
        place, names = folds.divide(corpus.undivided, config, np.concatenate([part.rows for part in parts]))
        for fold, what in enumerate(names):
            for chosen, side in ((place == fold, ""), (place != fold, ", train")):
                name = f"data.fold={fold}{what}{side}"
                yield from find_constant_labels(name, shares[chosen], corpus.targets, fold == config.fold)
