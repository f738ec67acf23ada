"""Statistics of a study: each cell's scores with intervals, the slices for the paper's questions, the best cell.

Shapes: R runs of a cell, E targets, B resamples, C cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from emoshare.core.kinds import label_of
from emoshare.core.windows import TOLD, recipe_name, window_name, window_of
from emoshare.metrics import bootstrap
from emoshare.metrics.metric import Metric
from emoshare.metrics.registry import principal
from emoshare.metrics.scores import mean_score
from emoshare.models.fusion import FITS
from emoshare.reporting import paper
from emoshare.reporting.comparison import Comparison, compare
from emoshare.reporting.formats import value
from emoshare.reporting.loaded import Cell, LoadedRun
from emoshare.reporting.slices import BACKBONE, HEAD, SECONDS, differing, order_of, pick, slices
from emoshare.reporting.study import Study, collect
from emoshare.runs.resampled import Resampled, mean_over

SHOWN_KEYS = 2  # that a short label names, beside backbone and window


@dataclass(frozen=True)
class Score:
    """A cell's score: mean and standard deviation (R - 1) over its runs, and the 95 % interval over clips.

    `std` is NaN for one run. The interval is that of the mean over the cell's runs, all on the same resample of the
    clips (of speakers with all their clips, where they are known): it says how much the score depends on these clips,
    `std` how much on the seed.
    """

    mean: float
    std: float
    low: float = math.nan
    high: float = math.nan

    def record(self, name: str) -> dict[str, float]:
        """Fields of a table's record: `<name>_mean` and the like."""
        return {f"{name}_{part}": value for part, value in vars(self).items()}


@dataclass(frozen=True)
class Slice:
    """Cells that differ in the axes alone.

    Attributes:
        axes: dotted keys that vary.
        fixed: what the slice holds fixed, of the keys that vary elsewhere in the study.
        cells: in order of the axes' values.
        order: the cells with results.
        comparison: of these; `order[i]` is its cell i.
    """

    axes: tuple[str, ...]
    fixed: dict[str, Any]
    cells: tuple[Cell, ...]
    order: tuple[Cell, ...]
    comparison: Comparison

    @property
    def best(self) -> Cell:
        return self.order[self.comparison.best]

    def verdict(self, cell: Cell) -> str:
        """The verdict of Comparison.verdict, or the state of a cell without results."""
        return self.comparison.verdict(self.order.index(cell)) if cell.runs else cell.state

    def values(self, axis: str) -> list[Any]:
        """The axis' values in order."""
        return sorted({cell.config.get(axis) for cell in self.cells}, key=order_of)


@dataclass(frozen=True)
class Report:
    """A study with its statistics: what tables and figures are made of.

    Attributes:
        varying: dotted keys in which cells differ.
        everything: all cells; `backbones` the slice with most backbones, `windows` the one with most windows (None
            with a single one), `grid` the one with most cells where both vary (None otherwise).
        paper: numbers of the paper; empty for another corpus than the paper's.
        not_paper: why it is empty.
    """

    study: Study
    resamples: int
    resampled: dict[tuple[str, str], Resampled]  # (cell key, partition)
    varying: tuple[str, ...]
    everything: Slice
    backbones: Slice
    windows: Slice | None
    grid: Slice | None
    paper: dict[str, Any]
    not_paper: str

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics of the cells, in the order of tables."""
        return self.study.metrics

    @property
    def main(self) -> Metric:
        """The metric that ranks cells, and by which they are tested: Avg where it is there, else the first."""
        return principal(self.metrics)

    @property
    def first(self) -> Metric:
        """The first metric, shown beside the main one where there is little room."""
        return self.metrics[0]

    @property
    def by_target(self) -> tuple[Metric, ...]:
        """The metrics with a score for each target, but for means of others."""
        return tuple(metric for metric in self.metrics if not (metric.parts or metric.overall))

    @property
    def best(self) -> Cell:
        """The cell with the best devel score."""
        return self.everything.best

    @cached_property
    def run(self) -> LoadedRun:
        """The run of the best cell with the best devel score: the one whose predictions the figures show."""
        return self.best.runs[self.main.best(self.best.scores("devel", self.main.name).tolist())]

    @property
    def top(self) -> str:
        """The best score in words: highest or lowest."""
        return "highest" if self.main.greater_is_better else "lowest"

    @property
    def side(self) -> str:
        """The side of a worse score: below or above."""
        return "below" if self.main.greater_is_better else "above"

    @property
    def best_in_words(self) -> str:
        """`The cell with the highest devel Avg`."""
        return f"The cell with the {self.top} devel {self.main.label}"

    def level(self, cell: Cell) -> float:
        """The worth of a cell's devel score: greater is better, and least without one."""
        return self.main.goodness(self.score(cell, self.main.name).mean)

    @cached_property
    def several_systems(self) -> bool:
        """Whether heads differ, or there is a fusion."""
        return len({cell.system for cell in self.study.cells}) > 1

    @cached_property
    def window_keys(self) -> tuple[str, ...]:
        """The keys that the name of a window tells: those of window=native and window=paper, where all have one."""
        configs = [cell.config for cell in self.study.cells if not cell.is_fusion]
        return TOLD if all(recipe_name(window_of(config)) for config in configs) else ()

    @property
    def units(self) -> str:
        """The units of the bootstrap: `clips`, or `clips, drawn by speaker`; also of test, where that is another."""
        units = {
            part: bootstrap.drawn_units(known.clusters, known.cluster) for part, known in self.study.labels.items()
        }
        others = [f" (on {part}: {unit})" for part, unit in units.items() if unit != units["devel"]]
        return units["devel"] + "".join(others)

    @property
    def tested(self) -> bool:
        """Whether test labels are known."""
        return "test" in self.study.labels

    def score(self, cell: Cell, metric: str, partition: str = "devel", target: str = "mean") -> Score:
        """A cell's score by a metric, mae or auc on a partition with labels; NaN where there is none."""
        what = cell.key, metric, partition, target
        if what not in self._scores:
            self._scores[what] = self._score(cell, metric, partition, target)
        return self._scores[what]

    @cached_property
    def _scores(self) -> dict[tuple[str, str, str, str], Score]:
        """A cache of comparisons: tables and figures need each several times."""
        return {}

    def _score(self, cell: Cell, metric: str, partition: str, target: str) -> Score:
        resampled = self.resampled.get((cell.key, partition))
        if resampled is None:
            return Score(math.nan, math.nan)
        column = None if target == "mean" else self.study.targets.index(target)
        if metric not in (known.name for known in self.metrics):
            values = getattr(resampled, metric)
            return over_runs(mean_score(values, axis=1) if column is None else values[:, column])
        score = over_runs(cell.scores(partition, metric, target))
        return Score(score.mean, score.std, *resampled.interval(metric, column))

    def keys(self, cell: Cell) -> list[str]:
        """The keys that tell a cell from the others, beside system, backbone and window: `key=value`."""
        named = (BACKBONE, SECONDS, HEAD, *self.window_keys)
        keys = [key for key in self.varying if key in cell.config and key not in named]
        return [f"{key}={value(cell.config[key])}" for key in keys]

    def system(self, cell: Cell) -> str:
        """A row of a results table: "wavlm_large + SVR", "Fusion of 4 runs"; the head only where heads differ."""
        if cell.is_fusion:
            results = cell.runs[0].results if cell.runs else None
            rule = results.resolved.weights if results else ""
            fitted = f", {rule} weights" if rule in FITS else ""
            return f"Fusion of {len(results.members)} runs{fitted}" if results and results.members else "Fusion"
        head = f" + {label_of('head', cell.system)}" if self.several_systems else ""
        return f"{cell.config.get(BACKBONE, '?')}{head}"

    def label(self, cell: Cell) -> str:
        """The label of a cell in the study, e.g. "hubert_large, 5.5 s, head.pooling=mean"."""
        return ", ".join([*self._name(cell), *self.keys(cell)])

    def short_label(self, cell: Cell) -> str:
        """The same in one readable line, however many keys vary."""
        keys = self.keys(cell)
        more = len(keys) - SHOWN_KEYS
        if more > 1:
            keys = [*keys[:SHOWN_KEYS], f"and {more} more keys"]
        return ", ".join([*self._name(cell), *keys])

    @cached_property
    def labels(self) -> dict[str, str]:
        """The name of each trained run's folder → the short label of its cell."""
        return {run.folder.name: self.short_label(cell) for cell in self.study.cells for run in cell.trained_runs}

    def _name(self, cell: Cell) -> list[str]:
        return [self.system(cell), *([] if cell.is_fusion else [window_name(window_of(cell.config))])]


def build(folders: Sequence[Path], resamples: int = 1000, keep: bool = True) -> Report:
    """Collect the runs below the folders and work out their statistics.

    Args:
        folders, resamples, keep: as of `collect`.

    Raises:
        EmoshareError: as `collect`, or predictions are missing.
    """
    study = collect(folders, resamples, keep)
    resampled: dict[tuple[str, str], Resampled] = {}
    cells = [cell for cell in study.cells if cell.runs]
    for partition, resampling in study.resampling.items():
        scores = iter(
            resampling.scores([study.stored_predictions(run, partition) for cell in cells for run in cell.runs])
        )
        resampled |= {(cell.key, partition): mean_over([next(scores) for _ in cell.runs]) for cell in cells}
    varying = differing(study.cells)

    main = principal(study.metrics)

    def largest(*axes: str) -> Slice:
        single = [cell for cell in study.cells if not cell.is_fusion] or study.cells
        return make_slice(pick(slices(single, varying, axes), main), axes, varying, resampled, main)

    windows, grid = largest(SECONDS), largest(BACKBONE, SECONDS)
    not_paper = paper.why_not(study)
    return Report(
        study,
        resamples,
        resampled,
        varying,
        make_slice(study.cells, varying, varying, resampled, main),
        largest(BACKBONE),
        windows if len(windows.cells) > 1 else None,
        grid if all(len(grid.values(axis)) > 1 for axis in grid.axes) else None,
        {} if not_paper else paper.load(),
        not_paper,
    )


def make_slice(
    cells: Sequence[Cell],
    axes: tuple[str, ...],
    varying: Sequence[str],
    resampled: dict[tuple[str, str], Resampled],
    main: Metric,
) -> Slice:
    """Cells in order, with the comparison of those that have results."""
    ordered = tuple(sorted(cells, key=lambda cell: [order_of(cell.config.get(axis)) for axis in axes]))
    done = tuple(cell for cell in ordered if cell.runs)
    scores = [main.sign * cell.scores("devel", main.name) for cell in done]
    means = main.sign * np.stack([resampled[cell.key, "devel"].of(main.name) for cell in done])  # (C, B)
    fixed = {key: cells[0].config.get(key) for key in varying if key not in axes}
    return Slice(axes, fixed, ordered, done, compare(scores, means, [cell.seeded for cell in done]))


def over_runs(values: np.ndarray) -> Score:
    """Mean and standard deviation of the scores (R,) of a cell's runs."""
    return Score(float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else math.nan)
