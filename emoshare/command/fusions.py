"""The fusions of a sweep (`sweep.fuse`), each made when its runs have ended."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from emoshare.core.config import Config
from emoshare.core.ensembles import FusionRequest, requested_fusions
from emoshare.runs import listing
from emoshare.runs.resolved import ResolvedRun
from emoshare.runs.results import Results

log = logging.getLogger("emoshare")


@dataclass(frozen=True)
class RowFusion:
    """One fusion of rows, by seed or of all seeds, and of one fold where there are folds."""

    folder: Path  # of the sweep; the fusion lies beside its members
    name: str
    seed: int | None  # of its members; None: all
    asked: FusionRequest
    members: dict[int, ResolvedRun]  # number of a run among the distinct ones of the command, from 0 → the run
    fold: int | None = None  # of its members; None where there are no folds

    @property
    def label(self) -> str:
        """`late, seed 0, fold 2`: what tells it from the other fusions of the sweep."""
        parts = {"seed": self.seed, "fold": self.fold}
        return ", ".join([self.name, *(f"{key} {value}" for key, value in parts.items() if value is not None)])

    def folders(self) -> set[Path]:
        """The runs that it would take; one that the command names twice counts once."""
        return {member.run.folder for member in self.members.values()}

    def make(self) -> Results | None:
        """Fuse those of the runs that are finished; fewer than two are a warning.

        Raises:
            EmoshareError: what `fuse` raises.
        """
        from emoshare.training.fusion import fuse

        runs = [(member.run, member.config.sweep.row) for member in self.members.values()]
        finished = {run.folder: row for run, row in runs if run.is_finished()}
        rows = len(set(finished.values()))
        if len(finished) < 2:
            log.warning("fusion %s: %d of its runs are finished, it needs two", self.label, len(finished))
            return None
        if rows < len(self.asked.rows):
            log.warning("fusion %s: of %d of its %d rows", self.label, rows, len(self.asked.rows))
        weights = cast("Literal['mean', 'learned', 'greedy']", self.asked.weights)
        logger = next(iter(self.members.values())).config.logger
        return fuse(list(finished), self.folder, weights, self.name, logger)


def row_fusions(runs: Sequence[ResolvedRun]) -> list[RowFusion]:
    """The fusions that the runs of a command name, each once."""
    numbers = {folder: number for number, folder in enumerate(dict.fromkeys(run.run.folder for run in runs))}
    asked = {
        (run.run.folder.parent, name): fusion
        for run in runs
        for name, fusion in requested_fusions(run.config.sweep.fuse).items()
    }
    fusions: dict[tuple[Any, ...], RowFusion] = {}
    for (folder, name), fusion in asked.items():
        groups: dict[tuple[Any, ...], list[tuple[int, ResolvedRun]]] = {}
        for run in runs:
            seed, data = run.config.seed if fusion.seeds == "each" else None, run.config.data
            members = groups.setdefault((seed, data.folds, data.split_seed, data.fold), [])
            if run.config.sweep.row in fusion.rows and run.run.folder.parent == folder:
                members.append((numbers[run.run.folder], run))
        for key, members in groups.items():
            made = RowFusion(folder, name, key[0], fusion, dict(members), key[-1])
            fusions.setdefault((folder, name, key[-1], *sorted(made.members)), made)
    return list(fusions.values())


def fusion_problems(runs: Sequence[ResolvedRun], searching: bool) -> Iterator[str]:
    """A line for every fusion and reference of a sweep that its runs cannot give, whatever comes of them.

    searching: the runs are not known beforehand.
    """
    configs = [run.config for run in runs]
    asked = {name: fusion for config in configs for name, fusion in requested_fusions(config.sweep.fuse).items()}
    if searching:
        if asked:
            yield "sweep.fuse: a search chooses its runs as it goes; fuse them afterwards with `emoshare fuse`"
        return
    rows = list(dict.fromkeys(config.sweep.row for config in configs if config.sweep.row is not None))
    for name, fusion in asked.items():
        where, leave = f"sweep.fuse.{name}", f"~sweep.fuse.{name} leaves the fusion out"
        if name in rows:
            yield f"{where}: {name} is a row of runs; give the fusion another name"
        if unknown := [row for row in fusion.rows if row not in rows]:
            yield f"{where}: no run has the row {' or '.join(unknown)}; {_rows_text(rows)}; {leave}"
            continue
        few = [f for f in row_fusions(runs) if f.name == name and len(f.folders()) < 2]
        if few:
            asked_for = sum(config.sweep.row in fusion.rows for config in configs)
            equal = "" if asked_for == 1 else " (what its configs differ in changes no number)"
            more = ", or take the runs of all seeds with seeds: all" if fusion.seeds == "each" else ""
            yield f"{where}: a fusion needs two runs, and {few[0].label} has one{equal}; name more rows{more}; {leave}"
    for reference in dict.fromkeys(config.sweep.reference for config in configs):
        if reference is not None and reference not in {*rows, *asked, *_listed_rows(configs)}:
            yield f"sweep.reference={reference}: no run has that row; {_rows_text(rows)}"


def _rows_text(rows: Sequence[str]) -> str:
    """The rows that there are, in words."""
    return f"there are: {', '.join(rows)}" if rows else "there is none: set sweep.row, as sweep.row='${backbone.name}'"


def _listed_rows(configs: Sequence[Config]) -> set[str]:
    """The rows of earlier calls of the same sweeps."""
    folders = {Path(config.paths.outputs) / config.sweep.name for config in configs}
    jobs = (job for folder in folders for job in listing.listed_runs(folder))
    return {job.config.get("sweep", {}).get("row") for job in jobs} - {None}
