"""What a study says: each cell's scores with intervals, the slices that answer the paper's questions, the best cell.

Shapes: R runs of a cell, E targets, B resamples.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from emoshare.core.config import EMOTIONS
from emoshare.reporting import bootstrap
from emoshare.reporting.study import Cell, Run, Study, collect

BACKBONE, SECONDS = "backbone.name", "window.seconds"
METRICS = ("scc", "ccc", "avg")


@dataclass(frozen=True)
class Score:
    """A cell's score: mean and standard deviation (R - 1) over its runs, and the 95 % interval over clips.

    `std` is NaN for one run. The interval is that of the mean over the cell's runs, all on the same resample of the
    clips: it says how much the score hangs on these clips, `std` how much on the seed.
    """

    mean: float
    std: float
    low: float
    high: float


@dataclass(frozen=True)
class Replicates:
    """SCC and CCC of a cell on resampled clips, means over its runs; NaN where a column was constant."""

    scc: np.ndarray  # (E, B)
    ccc: np.ndarray  # (E, B)

    def of(self, metric: str, target: int | None = None) -> np.ndarray:
        """(B,) one target's replicates, or those of the mean over targets."""
        values = {"scc": self.scc, "ccc": self.ccc, "avg": (self.scc + self.ccc) / 2}[metric]
        return values.mean(axis=0) if target is None else values[target]


@dataclass(frozen=True)
class Slice:
    """Cells that differ in the axes alone.

    Attributes:
        axes: dotted keys that vary.
        fixed: what the slice holds fixed, of the keys that vary elsewhere in the study.
        cells: in order of the axes' values.
        comparison: of the cells with results, `order[i]` being its cell i.
    """

    axes: tuple[str, ...]
    fixed: dict[str, Any]
    cells: tuple[Cell, ...]
    order: tuple[Cell, ...]
    comparison: bootstrap.Comparison

    @property
    def best(self) -> Cell:
        return self.order[self.comparison.best]

    def verdict(self, cell: Cell) -> str:
        """As Comparison.verdict, or the state of a cell without results."""
        return self.comparison.verdict(self.order.index(cell)) if cell.runs else cell.state

    def values(self, axis: str) -> list[Any]:
        """The axis' values in order."""
        return sorted({cell.config.get(axis) for cell in self.cells}, key=_order)


@dataclass(frozen=True)
class Report:
    """A study with its statistics: what tables and figures are made of.

    Attributes:
        varying: dotted keys in which cells differ.
        everything: all cells; `backbones` the slice with most backbones, `windows` the one with most windows (None
            with a single one), `grid` the one with most cells where both vary (None otherwise).
        paper: numbers of the paper; empty for other targets than its nine.
    """

    study: Study
    resamples: int
    replicates: dict[tuple[str, str], Replicates]  # (cell key, partition)
    varying: tuple[str, ...]
    everything: Slice
    backbones: Slice
    windows: Slice | None
    grid: Slice | None
    paper: dict[str, Any]

    @property
    def best(self) -> Cell:
        """The cell with the highest devel Avg."""
        return self.everything.best

    @cached_property
    def run(self) -> Run:
        """The run of the best cell with the highest devel Avg: the one whose predictions the figures show."""
        return max(self.best.runs, key=lambda run: np.nan_to_num(run.metric("devel", "avg"), nan=-np.inf))

    @property
    def comparable(self) -> bool:
        """Whether a difference from the paper means anything: its nine targets, and not the synthetic corpus."""
        return bool(self.paper) and self.study.corpus["name"] != "demo"

    def score(self, cell: Cell, metric: str, partition: str = "devel", target: str = "mean") -> Score:
        """A cell's score on a partition with labels; NaN where there is none."""
        values = cell.metric(partition, metric, target)
        replicates = self.replicates.get((cell.key, partition))
        if replicates is None or not len(values):
            return Score(math.nan, math.nan, math.nan, math.nan)
        column = None if target == "mean" else self.study.targets.index(target)
        std = float(values.std(ddof=1)) if len(values) > 1 else math.nan
        return Score(float(values.mean()), std, *bootstrap.interval(replicates.of(metric, column)))

    def label(self, cell: Cell) -> str:
        """What tells a cell from the others of the study, e.g. "hubert_large, 5.5 s, head.pooling=mean"."""
        keys = [key for key in self.varying if key not in (BACKBONE, SECONDS)]
        name, seconds = cell.config.get(BACKBONE, "?"), cell.config.get(SECONDS, math.nan)
        return ", ".join([str(name), f"{seconds:g} s", *(f"{key}={cell.config.get(key)}" for key in keys)])

    def published(self, cell: Cell, kind: str) -> dict[str, float]:
        """The paper's numbers for a cell of the `backbones` or the `windows` table; empty where it has none."""
        if not self.paper:
            return {}
        if kind == "backbones":
            return self.paper["backbones"].get(cell.config.get(BACKBONE), {})
        table = self.paper["windows"]
        same = cell.config.get(BACKBONE) == table["backbone"]
        return table["seconds"].get(cell.config.get(SECONDS), {}) if same else {}


def build(folders: Sequence[Path], resamples: int = 1000) -> Report:
    """Collect the runs below the folders and work out their statistics.

    Args:
        folders: sweeps, or anything above run folders.
        resamples: of the bootstrap over clips.

    Raises:
        EmoshareError: as `collect`, or predictions are missing.
    """
    study = collect(folders)
    replicates = {
        (cell.key, partition): resample(study, cell, partition, resamples)
        for cell in study.cells
        for partition in study.truth
        if cell.runs
    }
    varying = differing(study.cells)
    finish = Finisher(varying, replicates)
    backbones = finish.pick(slices(study.cells, varying, (BACKBONE,)), (BACKBONE,))
    windows = finish.pick(slices(study.cells, varying, (SECONDS,)), (SECONDS,))
    grid = finish.pick(slices(study.cells, varying, (BACKBONE, SECONDS)), (BACKBONE, SECONDS))
    return Report(
        study,
        resamples,
        replicates,
        varying,
        finish.slice(study.cells, varying),
        backbones,
        windows if len(windows.cells) > 1 else None,
        grid if all(len(grid.values(axis)) > 1 for axis in grid.axes) else None,
        paper() if study.targets == EMOTIONS else {},
    )


def resample(study: Study, cell: Cell, partition: str, resamples: int) -> Replicates:
    """The bootstrap of one cell on one partition; resamples are the same for all cells."""
    predicted = [study.predictions(run, partition) for run in cell.runs]
    scc, ccc = bootstrap.replicates(study.truth[partition].shares, predicted, resamples)  # (R, E, B)
    return Replicates(scc.mean(axis=0), ccc.mean(axis=0))


def differing(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Dotted keys in which cells differ, backbone and window first, less what a backbone's name already says."""
    keys = dict.fromkeys([BACKBONE, SECONDS, *(key for cell in cells for key in cell.config)])
    varying = [key for key in keys if len({_text(cell.config.get(key)) for cell in cells}) > 1]
    named: dict[str, dict[str, set[str]]] = {}
    for cell in cells:
        for key in varying:
            named.setdefault(key, {}).setdefault(str(cell.config.get(BACKBONE)), set()).add(_text(cell.config.get(key)))
    said = {key for key in varying if key.startswith("backbone.") and all(len(v) == 1 for v in named[key].values())}
    return tuple(key for key in varying if key == BACKBONE or key not in said)


def slices(cells: Sequence[Cell], varying: Sequence[str], axes: Sequence[str]) -> list[list[Cell]]:
    """Groups of cells that differ in the axes alone."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        rest = [_text(cell.config.get(key)) for key in varying if key not in axes]
        groups.setdefault("\n".join(rest), []).append(cell)
    return list(groups.values())


@dataclass(frozen=True)
class Finisher:
    """Turns groups of cells into compared slices."""

    varying: tuple[str, ...]
    replicates: dict[tuple[str, str], Replicates]

    def pick(self, groups: Sequence[Sequence[Cell]], axes: tuple[str, ...]) -> Slice:
        """The group with most cells with results; among equals the one that holds the best cell."""

        def size(group: Sequence[Cell]) -> tuple[int, float]:
            done = [cell for cell in group if cell.runs]
            return len(done), max((_mean(cell) for cell in done), default=-math.inf)

        return self.slice(max(groups, key=size), axes)

    def slice(self, cells: Sequence[Cell], axes: tuple[str, ...]) -> Slice:
        ordered = tuple(sorted(cells, key=lambda cell: [_order(cell.config.get(axis)) for axis in axes]))
        done = tuple(cell for cell in ordered if cell.runs)
        scores = [cell.metric("devel", "avg") for cell in done]
        means = np.stack([self.replicates[cell.key, "devel"].of("avg") for cell in done])  # (C, B)
        fixed = {key: cells[0].config.get(key) for key in self.varying if key not in axes}
        return Slice(axes, fixed, ordered, done, bootstrap.compare(scores, means))


def paper() -> dict[str, Any]:
    """The paper's numbers, paper.yaml."""
    return yaml.safe_load((files("emoshare.reporting") / "paper.yaml").read_text(encoding="utf-8"))


def _mean(cell: Cell) -> float:
    return float(np.nan_to_num(cell.metric("devel", "avg").mean(), nan=-math.inf))


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _order(value: Any) -> tuple[int, float, str]:
    """Numbers by size, before everything else by name."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return (0, float(value), "") if number else (1, 0.0, str(value))
