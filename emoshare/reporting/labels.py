"""The inputs of scores: labels, groups and predictions of a partition, joined over folds where there are any.

Shapes: N clips of a partition, E targets.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from emoshare.core.errors import EmoshareError
from emoshare.core.hashing import check_file, file_digests
from emoshare.core.ranges import to_unit
from emoshare.data.groups import cluster_numbers, speaker_column
from emoshare.metrics import bootstrap
from emoshare.models.classes import is_one_hot
from emoshare.reporting.loaded import LoadedRun
from emoshare.runs.groups import read_groups
from emoshare.runs.predictions import VOTES
from emoshare.runs.resampled import Predictions, scores_path
from emoshare.runs.results import REMEDY


@dataclass(frozen=True)
class Labels:
    """A partition's labels: N clips, E targets."""

    files: tuple[str, ...]
    shares: np.ndarray  # (N, E)
    seconds: np.ndarray  # (N,)
    votes: np.ndarray | None = None  # (N,) of how many votes a clip's shares are; None: of none
    groups: dict[str, np.ndarray] = field(default_factory=dict)  # column → (N,) text, "" where it is not known
    cluster: str | None = None  # the column whose clips belong together

    @cached_property
    def one_hot(self) -> bool:
        """Whether each clip has exactly one target, with the whole share: classes rather than shares."""
        return is_one_hot(self.shares)

    @cached_property
    def counts(self) -> np.ndarray | None:
        """(N, E) the votes for each target; None where shares are of none."""
        return None if self.votes is None else np.rint(self.shares * self.votes[:, None]).astype(np.int64)

    @cached_property
    def clusters(self) -> np.ndarray | None:
        """(N,) the number of each clip's cluster; None where clips are on their own, or clusters too few to draw."""
        return bootstrap.enough(cluster_numbers(self.groups[self.cluster])) if self.cluster else None


def read_labels(runs: Sequence[LoadedRun], partition: str, targets: tuple[str, ...]) -> Labels | None:
    """The labels that the runs were scored with; None where no run has them."""
    for run in runs:
        name, parts = f"reference/{partition}.csv", sources(run, partition)
        if all((part.folder / name).exists() for part in parts):
            tables = [read_csv(part, name, ("filename", *targets, "seconds"), (VOTES,)) for part in parts]
            table = {name: np.concatenate([columns[name] for columns in tables]) for name in tables[0]}
            files = tuple(table["filename"].tolist())
            groups = groups_of(runs, partition, files)
            shares = np.stack([table[target] for target in targets], 1)  # (N, E)
            return Labels(files, shares, table["seconds"], table.get(VOTES), groups, cluster_of(runs, groups))
    return None


def sources(run: LoadedRun, partition: str) -> Sequence[LoadedRun]:
    """The runs that hold the clips of a partition, one after the other: of devel one for each fold."""
    return run.parts if run.parts and partition == "devel" else (run,)


def groups_of(runs: Sequence[LoadedRun], partition: str, files: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Column → (N,) the groups of a partition's clips, as the runs tell of them."""
    groups: dict[str, np.ndarray] = {}
    seen: set[tuple[str, ...]] = set()  # the runs of a sweep have equal tables
    for run in runs:
        tables = [part.folder / "groups" / f"{partition}.csv" for part in sources(run, partition)]
        content = tuple(file_digests(t.parent, [t.name])[t.name] for t in tables if t.is_file())
        if content in seen:
            continue
        seen.add(content)
        parts = [item for part in sources(run, partition) if (item := read_groups(part.folder, partition))]
        if tuple(file for clips, _ in parts for file in clips) == files:
            columns = set.intersection(*(set(columns) for _, columns in parts))
            groups |= {name: np.concatenate([columns[name] for _, columns in parts]) for name in sorted(columns)}
    return groups


def cluster_of(runs: Sequence[LoadedRun], groups: dict[str, np.ndarray]) -> str | None:
    """The column whose clips belong together: as the runs' configs name it, or the speaker."""
    named = [str(run.config["data.cluster"]) for run in runs if run.config.get("data.cluster")]
    columns = [*named, speaker_column(groups)]
    return next((name for name in columns if name in groups and any(groups[name] != "")), None)


def read_predictions(run: LoadedRun, partition: str, targets: tuple[str, ...], files: tuple[str, ...]) -> np.ndarray:
    """(N, E) predicted shares. Of folds: on devel those of each fold's own clips, on test the mean over the folds.

    Raises:
        EmoshareError: a file is unreadable, or its clips are not those of the labels.
    """
    parts, name = run.parts or (run,), f"predictions/{partition}.csv"
    tables = [read_csv(part, name, ("filename", *targets)) for part in parts]
    shares = [np.stack([table[target] for target in targets], 1) for table in tables]
    joined = run.parts and partition == "devel"
    clips = [file for table in tables for file in table["filename"].tolist()]
    if clips != (list(files) if joined else list(files) * len(parts)):
        raise EmoshareError(
            f"{parts[0].folder / name}: not the clips of the corpus that results.json names; train the run again"
        )
    return np.concatenate(shares) if joined else shares[0] if len(shares) == 1 else np.mean(shares, axis=0)


def predictions_of(run: LoadedRun, partition: str, targets: tuple[str, ...], files: tuple[str, ...]) -> Predictions:
    """The result of `read_predictions`, for resampling; scores of joined folds are kept in the folder of the first.

    Raises:
        EmoshareError: predictions are not what the run has written.
    """
    name, digests = f"predictions/{partition}.csv", []
    for part in run.parts or (run,):
        known, path = part.results.files.get(name), part.folder / name
        check_file(path, known, REMEDY)
        digests.append(known or (file_digests(part.folder, [name])[name] if path.is_file() else ""))
    place = scores_path(run.folder, f"{partition}-folds" if run.parts else partition)
    return Predictions(place, digests, lambda: read_predictions(run, partition, targets, files))


def read_csv(
    run: LoadedRun, name: str, columns: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, np.ndarray]:
    """Columns of a table in a run's folder, with those of `optional` that it has.

    filename is text, the others are float64; labels and shares are from 0 to 1.
    """
    path = run.folder / name
    check_file(path, run.results.files.get(name), REMEDY)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
        columns += tuple(name for name in optional if rows and name in rows[0])
        kinds = {name: str if name == "filename" else np.float64 for name in columns}
        table = {name: np.array([row[name] for row in rows], kind) for name, kind in kinds.items()}
    except KeyError as error:
        raise EmoshareError(f"{path}: not readable (no column {error}); train the run again") from None
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise EmoshareError(f"{path}: not readable ({error}); train the run again") from None
    targets = set(run.results.targets)
    return {name: to_unit(cells, run.results.range) if name in targets else cells for name, cells in table.items()}
