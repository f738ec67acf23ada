"""A corpus as it was read: its partitions, with clips, shares, durations and groups.

Legend: N clips, E emotions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from emoshare.data.groups import Groups, cluster_numbers
from emoshare.data.labels import TOO_GOOD


@dataclass(frozen=True, eq=False)
class Partition:
    name: str  # train | devel | test
    files: tuple[str, ...]  # clips as `audio` reads them: file names, in table order
    shares: np.ndarray | None  # (N, E) float32 in [0, 1]; None where labels are hidden
    seconds: np.ndarray  # (N,) float64, duration of each clip
    start: int  # row of its first clip in the corpus-wide order
    places: np.ndarray | None = None  # (N,) the rows of all its clips, where one does not follow the other
    votes: np.ndarray | None = None  # (N,) float32, of how many votes each clip's shares are; None: of none

    @property
    def rows(self) -> np.ndarray:
        """(N,) places of its clips in the corpus-wide order."""
        return self.start + np.arange(len(self.files)) if self.places is None else self.places

    @property
    def counts(self) -> np.ndarray | None:
        """(N, E) the votes for each target; None where shares are of none."""
        if self.votes is None or self.shares is None:
            return None
        return np.rint(self.shares * self.votes[:, None]).astype(np.int64)


@dataclass(frozen=True)
class Folds:
    """A division of train and devel, and which part of it is devel."""

    by: str  # data.folds
    of: int  # how many there are
    fold: int  # the one that is devel, from 0
    undivided: str  # the corpus's fingerprint without folds


@dataclass(frozen=True, eq=False)
class Corpus:
    name: str
    root: Path
    wav: Path  # folder of the clips
    targets: tuple[str, ...]
    partitions: dict[str, Partition]  # train, devel and, unless data.test is null, test
    fingerprint: str  # hex sha256 over names, labels and audio content; of folds also over which clip is in which
    warnings: tuple[str, ...]  # one text per kind of oddity: a counting line, then the first findings
    digests: tuple[bytes, ...] = ()  # sha256 of each clip's file, of a segment also over its place
    groups: Groups = field(default_factory=dict)  # column → (N,) text of each clip, "" where it is not known
    cluster: str | None = None  # the column whose clips belong together
    folds: Folds | None = None
    scale: float | None = None  # what stands for full scale in files of floats; None: 1
    undivided: Corpus | None = None  # without folds, where there are any
    range: Sequence[float] = (0.0, 1.0)  # of the labels in its tables; shares are scaled to 0 to 1

    def path(self, file: str) -> Path:
        """The source that `audio.read` takes: the clip's file, or its segment of it."""
        return self.wav / file

    @cached_property
    def files(self) -> tuple[str, ...]:
        """All clips in corpus-wide order: those of the tables train, devel, test, whatever folds there are."""
        files = [file for part in self.partitions.values() for file in part.files]
        return tuple(files[place] for place in self.order)

    @property
    def audio_fingerprint(self) -> str:
        """Hex sha256 over the bytes of all clips, in corpus-wide order, and the scale of floats."""
        return audio_hash(self.digests, self.scale)

    @cached_property
    def seconds(self) -> np.ndarray:
        """(N,) durations in corpus-wide order."""
        return np.concatenate([part.seconds for part in self.partitions.values()])[self.order]

    @cached_property
    def order(self) -> np.ndarray:
        """(N,) the place of each clip of the corpus-wide order in the partitions one after the other."""
        return np.argsort(np.concatenate([part.rows for part in self.partitions.values()]), kind="stable")

    @property
    def leaks(self) -> list[str]:
        """A line for each kind of oddity that makes scores too good, as clips of one speaker in two partitions."""
        lines = [warning.splitlines()[0] for warning in self.warnings if TOO_GOOD in warning]
        if not self.cluster or not lines:
            return lines
        values = [set(self.groups_of(part)[self.cluster]) - {""} for part in self.partitions]
        apart = len(set.union(*values)) == sum(map(len, values))  # by folds
        return [line for line in lines if not (apart and f"× {self.cluster} in two partitions" in line)]

    def groups_of(self, partition: str) -> Groups:
        """Column → (N,) text of the clips of a partition."""
        rows = self.partitions[partition].rows
        return {column: cells[rows] for column, cells in self.groups.items()}

    def clusters_of(self, partition: str) -> np.ndarray | None:
        """(N,) the number of the cluster of each clip of a partition; None where each clip is on its own."""
        return cluster_numbers(self.groups_of(partition)[self.cluster]) if self.cluster else None


def audio_hash(digests: Sequence[bytes], scale: float | None) -> str:
    """Hex sha256 over the bytes of clips, and the scale of floats."""
    return hashlib.sha256(b"".join(digests) + (f"scale {scale:.9g}".encode() if scale else b"")).hexdigest()


def join_votes(parts: Sequence[Partition]) -> np.ndarray | None:
    """(N,) the votes of the clips of several partitions, one after the other; None where one with clips has none."""
    parts = [part for part in parts if part.files]  # of one table without a partition devel has none
    votes = [part.votes for part in parts if part.votes is not None]
    return np.concatenate(votes) if votes and len(votes) == len(parts) else None
