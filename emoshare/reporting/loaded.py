"""Runs as a report reads them, and cells of runs that differ in the seed alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from emoshare.runs.folder import ABSENT
from emoshare.runs.results import FUSION, Results

STATES = {  # of runs without results, with their words
    "failed": "failed", ABSENT: ABSENT, "running": "running", "interrupted": "not finished", "waiting": "not started",
}  # fmt: skip


@dataclass(frozen=True)
class LoadedRun:
    """A run as read from its folder.

    Attributes:
        state: done | failed | not at hand (a checkpoint or package is missing) | running | interrupted | waiting
            (listed by its sweep, and never started).
        config: dotted key → value; empty where a run failed before it had one.
        cell: of a finished run what `Run.cell` gives: equal for runs that differ in the seed alone.
        outcome: results.json; None unless done.
        error: why it failed or what is missing, one line.
        command: what repeats it, where there is an error.
        parts: the runs of folds that it is made of, by fold; empty for a run of its own. The folder is the first one's.
    """

    folder: Path
    state: str
    config: dict[str, Any]
    cell: str = ""
    outcome: Results | None = None
    error: str = ""
    command: str = ""
    parts: tuple[LoadedRun, ...] = ()
    unread: Collection[str] = ()  # keys of its config that it does not read
    counts_seed: bool = True  # whether its numbers depend on the seed

    @property
    def seed(self) -> Any:
        """The seed; None where no number depends on it."""
        return self.config.get("seed") if self.seeded else None

    @property
    def with_seed(self) -> str:
        """`, seed 3`; nothing where no number depends on it."""
        return f", seed {self.seed}" if self.seeded else ""

    @property
    def seeded(self) -> bool:
        """Whether numbers depend on the seed: of a fusion, those of any member."""
        if self.is_fusion:
            return self.outcome is None or any(member.seed is not None for member in self.outcome.members)
        return self.counts_seed

    @property
    def results(self) -> Results:
        """The results of a run that is done."""
        assert self.outcome, f"{self.folder} is {self.state}"
        return self.outcome

    @property
    def system(self) -> str:
        """The name of its head, or `fusion`."""
        return self.outcome.system if self.outcome else str(self.config.get("head.name", "?"))

    @property
    def is_fusion(self) -> bool:
        """Whether its shares come from other runs."""
        return self.system == FUSION


@dataclass(frozen=True)
class Cell:
    """Runs that differ in the seed alone, those of folds joined.

    Attributes:
        key: hash of what its runs share.
        config: dotted key → value, of the keys that may change a run's numbers, without the seed.
        runs: finished, by seed, none twice.
        others: without results, of seeds that have none.
        shared: dotted key → the values of several configs that gave these same runs.
    """

    key: str
    config: dict[str, Any]
    runs: tuple[LoadedRun, ...]
    others: tuple[LoadedRun, ...]
    shared: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def seeded(self) -> bool:
        """Whether its scores depend on the seed."""
        return (self.runs or self.others)[0].seeded

    def scores(self, partition: str, metric: str, target: str = "mean") -> np.ndarray:
        """(R,) a score of each finished run; NaN where there is none."""
        return np.array([run.results.score(partition, metric, target) for run in self.runs])

    @property
    def trained_runs(self) -> tuple[LoadedRun, ...]:
        """Its finished runs as they were trained: each fold on its own."""
        return tuple(part for run in self.runs for part in run.parts or (run,))

    @property
    def state(self) -> str:
        """done, or why there is nothing: a key of STATES."""
        states = {run.state for run in self.others}
        return "done" if self.runs else next(state for state in STATES if state in states)

    @property
    def system(self) -> str:
        """The name of its head, or `fusion`."""
        return (self.runs or self.others)[0].system

    @property
    def is_fusion(self) -> bool:
        """Whether its shares come from other runs."""
        return self.system == FUSION
