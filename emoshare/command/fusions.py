"""The fusions that a sweep is asked for (`sweep.fuse`), each made when its runs have ended."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from emoshare.core.config import Config
from emoshare.core.ensembles import AskedFusion, asked_fusions
from emoshare.core.errors import EmoshareError
from emoshare.runs.folder import Run

log = logging.getLogger("emoshare")


@dataclass(frozen=True)
class RowFusion:
    """One fusion of rows, by seed or of all seeds, and of one fold where there are folds."""

    folder: Path  # of the sweep; the fusion lies beside its members
    name: str
    seed: int | None  # of its members; None: all
    asked: AskedFusion
    members: dict[int, Config]  # number of a run among the distinct ones of the command, from 0 → its config
    fold: int | None = None  # of its members; None where there are no folds

    @property
    def shown(self) -> str:
        """`late, seed 0, fold 2`: what tells it from the other fusions of the sweep."""
        parts = {"seed": self.seed, "fold": self.fold}
        return ", ".join([self.name, *(f"{key} {value}" for key, value in parts.items() if value is not None)])

    def make(self) -> None:
        """Fuse those of the runs that are finished; fewer than two are a warning.

        Raises:
            EmoshareError: what `fuse` raises.
        """
        from emoshare.training.fusion import fuse

        runs = [(Run.of(config), config.sweep.row) for config in self.members.values()]
        finished = {run.folder: row for run, row in runs if run.finished()}
        rows = len(set(finished.values()))
        if len(finished) < 2:
            log.warning("fusion %s: %d of its runs are finished, it needs two", self.shown, len(finished))
            return
        if rows < len(self.asked.rows):
            log.warning("fusion %s: of %d of its %d rows", self.shown, rows, len(self.asked.rows))
        fuse(list(finished), self.folder, cast("Literal['mean', 'learned', 'greedy']", self.asked.weights), self.name)


def row_fusions(configs: Sequence[Config]) -> list[RowFusion]:
    """The fusions that the runs of a command are asked for, each once.

    Raises:
        EmoshareError: the runs of a fusion are one and the same.
    """
    runs = [Run.of(config).folder for config in configs]
    numbers = {run: number for number, run in enumerate(dict.fromkeys(runs))}
    asked = {
        (run.parent, name): fusion
        for run, config in zip(runs, configs, strict=True)
        for name, fusion in asked_fusions(config.sweep.fuse).items()
    }
    found: dict[tuple[Any, ...], RowFusion] = {}
    for (folder, name), fusion in asked.items():
        groups: dict[tuple[Any, ...], list[tuple[int, Config]]] = {}
        for run, config in zip(runs, configs, strict=True):
            seed, data = config.seed if fusion.seeds == "each" else None, config.data
            members = groups.setdefault((seed, data.folds, data.split_seed, data.fold), [])
            if config.sweep.row in fusion.rows and run.parent == folder:
                members.append((numbers[run], config))
        for key, members in groups.items():
            if len(members) > 1 and len(dict(members)) == 1:
                raise EmoshareError(
                    f"sweep.fuse.{name}: its {len(members)} runs are one, {Run.of(members[0][1]).name}, as what they "
                    "differ in changes no number; a fusion takes two"
                )
            made = RowFusion(folder, name, key[0], fusion, dict(members), key[-1])
            found.setdefault((folder, name, key[-1], *sorted(made.members)), made)
    return list(found.values())
