"""Groups of clips: how the best cell scores on each, whether a gap between them is one, and what speakers add.

Shapes: R runs of a cell, E targets, B resamples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import stats

from emoshare.metrics import bootstrap
from emoshare.metrics.metric import score_all
from emoshare.metrics.scores import mean_score
from emoshare.metrics.strata import FEWEST, entropy_strata
from emoshare.reporting.analysis import Report, Score
from emoshare.reporting.comparison import LEVEL
from emoshare.reporting.labels import Labels
from emoshare.runs.resampled import Resampled, mean_over

MOST = 12  # groups of a column: the largest
ENTROPY = "label entropy"  # stands for a column


@dataclass(frozen=True, eq=False)
class Group:
    """The clips of a partition with one value in a column, and the best cell's scores on them."""

    column: str
    value: str
    rows: np.ndarray  # of the partition
    points: dict[str, np.ndarray]  # metric → (R, E)
    replicates: dict[str, np.ndarray]  # metric → (E, B) mean over runs
    main: str  # name of the metric that ranks

    @property
    def has_score(self) -> np.ndarray:
        """(E,) whether a target has a score on these clips."""
        return ~np.isnan(self.points[self.main]).any(axis=0)

    def score(self, metric: str) -> Score:
        """The mean over the targets that have one, with the 95 % interval of the mean over runs."""
        values = mean_score(self.points[metric], axis=1)  # (R,)
        std = float(values.std(ddof=1)) if len(values) > 1 else math.nan
        return Score(float(values.mean()), std, *bootstrap.interval(mean_score(self.replicates[metric], axis=0)))


@dataclass(frozen=True)
class Gap:
    """The group with the best score of a column against the one with the worst, on the targets that all have."""

    high: Group
    low: Group
    targets: int  # that the score is the mean of
    levels: tuple[float, float]  # scores of high and low
    difference: float
    bounds: tuple[float, float]  # 95 %, for all pairs of the column at once
    p: float  # two-sided, as above

    @property
    def real(self) -> bool:
        """Whether it is more than the choice of clips explains."""
        return self.p < LEVEL


@dataclass(frozen=True)
class Grouped:
    """The best cell's scores by group on one partition."""

    report: Report
    partition: str

    @cached_property
    def labels(self) -> Labels:
        return self.report.study.labels[self.partition]

    @cached_property
    def predictions(self) -> list[np.ndarray]:
        """The runs' predictions: R arrays (N, E)."""
        return [self.report.study.predictions(run, self.partition) for run in self.report.best.runs]

    def values(self, column: str) -> list[str]:
        """The values of a column with enough clips, the largest first."""
        cells = self.labels.groups[column]
        names, sizes = np.unique(cells[cells != ""], return_counts=True)
        order = np.argsort(-sizes, kind="stable")
        return [str(names[at]) for at in order if sizes[at] >= FEWEST][:MOST]

    @cached_property
    def groups(self) -> dict[str, list[Group]]:
        """Column → its groups, the largest first; columns with one value are left out."""
        columns = {column: self.values(column) for column in self.labels.groups}
        return {c: [self._group(c, value) for value in values] for c, values in columns.items() if len(values) > 1}

    @cached_property
    def strata(self) -> list[Group]:
        """The clips by the entropy of their labels, the lowest first; none where all have about the same."""
        rows = entropy_strata(self.labels.shares)
        clusters = bootstrap.enough_in_each(self.labels.clusters, rows.values())
        return [self._score_group(ENTROPY, name, some, clusters) for name, some in rows.items()]

    def clusters(self, column: str) -> np.ndarray | None:
        """(N,) what is drawn for a column: clusters where each of its groups has enough of them, or else clips."""
        cells = self.labels.groups[column]
        return bootstrap.enough_in_each(self.labels.clusters, (cells == value for value in self.values(column)))

    def _group(self, column: str, value: str) -> Group:
        rows = np.flatnonzero(self.labels.groups[column] == value)
        return self._score_group(column, value, rows, self.clusters(column))

    def _score_group(self, column: str, value: str, rows: np.ndarray, clusters: np.ndarray | None) -> Group:
        true, predicted, metrics = self.labels.shares, self.predictions, self.report.metrics
        scored = [score_all(metrics, true[rows], run[rows]) for run in predicted]
        points = {name: np.stack([run[name] for run in scored]) for name in scored[0]}  # (R, E)
        drawn = bootstrap.replicates(
            true, predicted, self.report.resamples, clusters=clusters, rows=rows, metrics=metrics
        )  # (R, E, B)
        spread = {name: scores.mean(axis=0) for name, scores in drawn.items()}
        return Group(column, value, rows, points, spread, self.report.main.name)

    def gaps(self) -> Iterator[Gap]:
        """One for each column of which two groups have a score; none where the main metric cannot be computed."""
        main = self.report.main
        if not main.computable:
            return
        for groups in self.groups.values():
            scored = [group for group in groups if group.has_score.any()]
            shared = np.logical_and.reduce([group.has_score for group in scored]) if scored else np.zeros(0, bool)
            if len(scored) > 1 and shared.any():
                ordered = sorted(scored, key=lambda group: main.sign * group.points[main.name][:, shared].mean())
                yield self.gap(ordered[-1], ordered[0], math.comb(len(scored), 2), shared)

    def gap(self, high: Group, low: Group, pairs: int, shared: np.ndarray) -> Gap:
        """The difference of score between two groups, with an interval and a p value for one of `pairs` comparisons.

        shared: (E,) the targets that count: those that have a score in all groups.

        Both are scored on the same resamples of the whole partition, so that speakers with clips in both groups cancel
        out (paired), and others do not (unpaired). The difference by the standard deviation of its replicates follows
        Student's t; its degrees of freedom are the clips, or speakers, of both groups minus two. Bonferroni's
        correction covers that the two were chosen among all pairs.
        """
        main = self.report.main.name
        levels = (float(high.points[main][:, shared].mean()), float(low.points[main][:, shared].mean()))
        difference = levels[0] - levels[1]
        replicates = mean_score((high.replicates[main] - low.replicates[main])[shared], axis=0)
        known = replicates[np.isfinite(replicates)]
        deviation = float(known.std(ddof=1)) if 2 * len(known) > len(replicates) else math.nan
        rows, clusters = np.union1d(high.rows, low.rows), self.clusters(high.column)
        units = len(rows) if clusters is None else len(np.unique(clusters[rows]))
        freedom = max(units - 2, 1)
        reach = float(stats.t.isf(0.025 / pairs, freedom)) * deviation
        p = float(min(2 * pairs * stats.t.sf(abs(difference) / deviation, freedom), 1)) if deviation else math.nan
        return Gap(high, low, int(shared.sum()), levels, difference, (difference - reach, difference + reach), p)

    def widening(self, metric: str) -> tuple[Score, Score, float] | None:
        """The best cell's score with its interval over clips, and over clusters, and how much wider that one is.

        None where no clusters are known. The factor is the ratio of the replicates' standard deviations.
        """
        if self.labels.clusters is None:
            return None
        best, report = self.report.best, self.report
        alone, together = self._over_clips.of(metric), report.resampled[best.key, self.partition].of(metric)
        over_clusters = report.score(best, metric, self.partition)
        factor = float(np.nanstd(together) / np.nanstd(alone)) if np.nanstd(alone) else math.nan
        return Score(over_clusters.mean, over_clusters.std, *bootstrap.interval(alone)), over_clusters, factor

    @cached_property
    def _over_clips(self) -> Resampled:
        """The best cell's scores in resamples of single clips; they are kept beside those of clusters."""
        stored = [self.report.study.stored_predictions(run, self.partition) for run in self.report.best.runs]
        stored = [replace(item, path=item.path.with_stem(f"{item.path.stem}-clips")) for item in stored]
        return mean_over(replace(self.report.study.resampling[self.partition], clusters=None).scores(stored))
