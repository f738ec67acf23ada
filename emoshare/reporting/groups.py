"""Groups of clips: how the best cell scores on each, whether a gap between them is one, and what speakers add.

Shapes: R runs of a cell, E targets, B resamples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats

from emoshare.models import bootstrap
from emoshare.reporting.analysis import Report, Score
from emoshare.reporting.comparison import LEVEL
from emoshare.reporting.labels import Labels

FEWEST = 10  # clips of a group, below which a correlation says nothing
MOST = 12  # groups of a column: the largest


@dataclass(frozen=True, eq=False)
class Group:
    """The clips of a partition with one value in a column, and the best cell's scores on them."""

    column: str
    value: str
    rows: np.ndarray  # of the partition
    points: dict[str, np.ndarray]  # scc, ccc, avg → (R,) mean over targets
    replicates: dict[str, np.ndarray]  # scc, ccc, avg → (B,) mean over runs and targets

    def score(self, metric: str) -> Score:
        """With the 95 % interval of the mean over runs."""
        values = self.points[metric]
        std = float(values.std(ddof=1)) if len(values) > 1 else math.nan
        return Score(float(values.mean()), std, *bootstrap.interval(self.replicates[metric]))


@dataclass(frozen=True)
class Gap:
    """The group with the highest Avg of a column against the one with the lowest."""

    high: Group
    low: Group
    difference: float
    bounds: tuple[float, float]  # 95 %, for all pairs of the column at once
    p: float  # two-sided, likewise

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
    def predicted(self) -> list[np.ndarray]:
        """R arrays (N, E)."""
        return [self.report.study.predictions(run, self.partition) for run in self.report.best.runs]

    def values(self, column: str) -> list[str]:
        """The values of a column with enough clips, the largest first."""
        cells = self.labels.groups[column]
        found, sizes = np.unique(cells[cells != ""], return_counts=True)
        order = np.argsort(-sizes, kind="stable")
        return [str(found[at]) for at in order if sizes[at] >= FEWEST][:MOST]

    @cached_property
    def groups(self) -> dict[str, list[Group]]:
        """Column → its groups, the largest first; columns with one value are left out."""
        columns = {column: self.values(column) for column in self.labels.groups}
        return {c: [self._group(c, value) for value in values] for c, values in columns.items() if len(values) > 1}

    def clusters(self, column: str) -> np.ndarray | None:
        """(N,) what is drawn for a column: clusters where each of its groups has enough of them, or else clips."""
        clusters, cells = self.labels.clusters, self.labels.groups[column]
        if clusters is None or any(bootstrap.enough(clusters[cells == value]) is None for value in self.values(column)):
            return None
        return clusters

    def _group(self, column: str, value: str) -> Group:
        rows = np.flatnonzero(self.labels.groups[column] == value)
        true, predicted = self.labels.shares, self.predicted
        point = bootstrap.scores(true[rows], [run[rows] for run in predicted])  # (R, E) each
        clusters = self.clusters(column)
        drawn = bootstrap.replicates(true, predicted, self.report.resamples, clusters=clusters, rows=rows)  # (R, E, B)
        points = dict(zip(("scc", "ccc"), (scores.mean(axis=1) for scores in point), strict=True))
        spread = dict(zip(("scc", "ccc"), (scores.mean(axis=(0, 1)) for scores in drawn), strict=True))
        for found in (points, spread):
            found["avg"] = (found["scc"] + found["ccc"]) / 2
        return Group(column, value, rows, points, spread)

    def gaps(self) -> Iterator[Gap]:
        """One for each column of which two groups have a score."""
        for groups in self.groups.values():
            scored = [group for group in groups if np.isfinite(group.points["avg"].mean())]
            if len(scored) > 1:
                ordered = sorted(scored, key=lambda group: group.points["avg"].mean())
                yield self.gap(ordered[-1], ordered[0], math.comb(len(scored), 2))

    def gap(self, high: Group, low: Group, pairs: int) -> Gap:
        """The difference of Avg between two groups, with an interval and a p value for one of so many pairs.

        Both are scored on the same resamples of the whole partition, so that speakers with clips in both groups cancel
        out (paired), and others do not (unpaired). The difference by the standard deviation of its replicates is held
        against Student's t; its degrees of freedom are the clips, or speakers, of both groups minus two. Bonferroni's
        correction covers that the two were chosen among all pairs.
        """
        difference = float((high.points["avg"] - low.points["avg"]).mean())
        replicates = high.replicates["avg"] - low.replicates["avg"]
        known = replicates[np.isfinite(replicates)]
        deviation = float(known.std(ddof=1)) if 2 * len(known) > len(replicates) else math.nan
        rows, clusters = np.union1d(high.rows, low.rows), self.clusters(high.column)
        units = len(rows) if clusters is None else len(np.unique(clusters[rows]))
        freedom = max(units - 2, 1)
        reach = float(stats.t.isf(0.025 / pairs, freedom)) * deviation
        p = float(min(2 * pairs * stats.t.sf(difference / deviation, freedom), 1)) if deviation else math.nan
        return Gap(high, low, difference, (difference - reach, difference + reach), p)

    def widening(self, metric: str) -> tuple[Score, Score, float] | None:
        """The best cell's score with its interval over clips, and over clusters, and how much wider that one is.

        None where no clusters are known. The factor is the ratio of the replicates' standard deviations.
        """
        clusters = self.labels.clusters
        if clusters is None:
            return None
        best, report = self.report.best, self.report
        scc, ccc = bootstrap.replicates(self.labels.shares, self.predicted, report.resamples)
        alone = {"scc": scc, "ccc": ccc, "avg": (scc + ccc) / 2}[metric].mean(axis=(0, 1))
        together = report.resampled[best.key, self.partition].of(metric)
        found = report.score(best, metric, self.partition)
        factor = float(np.nanstd(together) / np.nanstd(alone)) if np.nanstd(alone) else math.nan
        return Score(found.mean, found.std, *bootstrap.interval(alone)), found, factor
