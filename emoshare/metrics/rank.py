"""Correlations of ranks and of values: SCC (Spearman) and PCC (Pearson).

Shapes: N clips, E targets, B resamples, R runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emoshare.metrics.agreement import moments
from emoshare.metrics.metric import Metric, root_of_reliability

WIDTH, LANES = 32, 200  # resamples at a time; clips at a time, so that a step works in 50 kB


def pearson(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Pearson's correlation coefficient of each column.

        r = Σ (x − μ_x) (y − μ_y) / √(Σ (x − μ_x)² Σ (y − μ_y)²)

    of predictions x and true shares y with means μ. Pearson (1895), Proc. R. Soc. London 58. It does not see a wrong
    scale: predictions of half the spread score 1 if they are on a line.

    >>> pearson(np.array([[0.1], [0.2], [0.4]]), np.array([[0.2], [0.4], [0.8]])).round(9)
    array([1.])

    Args:
        true: (N, E).
        predicted: (N, E).

    Returns:
        (E,) values in [-1, 1]; NaN where a column is constant.
    """
    dx, dy = predicted - predicted.mean(0), true - true.mean(0)
    r = (dx * dy).sum(0) / np.sqrt((dx * dx).sum(0) * (dy * dy).sum(0))
    return np.clip(r, -1, 1)


def resampled_pearson(true: np.ndarray, predicted: Sequence[np.ndarray], counts: np.ndarray) -> np.ndarray:
    """`pearson` within each resample: (N, E), R times (N, E), (N, B) → (R, E, B); noise where a column is constant."""
    scores = []
    for run in predicted:
        _, _, xx, yy, xy = moments(true, run, counts)
        spread = xx * yy
        scores.append(np.divide(xy, np.sqrt(np.maximum(spread, 0)), out=np.zeros_like(xy), where=spread > 1e-30))
    return np.stack(scores)


def spearman(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation coefficient of each column, SCC: Pearson's coefficient of average ranks.

        ρ = r(rank(x), rank(y))

    where tied values share the mean of their ranks. Spearman (1904), The proof and measurement of association between
    two things, Am. J. Psychology 15. The metric of the ComParE 2023 Emotion Share challenge.

    >>> spearman(np.array([[0.1], [0.2], [0.9]]), np.array([[0.3], [0.4], [0.5]]))  # in the same order
    array([1.])

    Args:
        true: (N, E).
        predicted: (N, E).

    Returns:
        (E,) values in [-1, 1]; NaN where a column is constant.
    """
    from scipy.stats import rankdata  # takes half a second to import

    return pearson(np.asarray(rankdata(true, axis=0)), np.asarray(rankdata(predicted, axis=0)))


def area_under_curve(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(N, E) labels of 0 and 1, (N, E) predictions → (E,) areas under the ROC curve.

    The chance that a clip with label 1 is predicted higher than one with label 0, ties counting half (Mann-Whitney's U
    from average ranks). NaN where labels are other numbers or all equal.
    """
    from scipy.stats import rankdata

    positive = true == 1
    ones, zeros = positive.sum(axis=0), (true == 0).sum(axis=0)
    usable = (ones + zeros == len(true)) & (ones > 0) & (zeros > 0) & np.isfinite(predicted).all(axis=0)
    ranks = np.where(positive, rankdata(predicted, axis=0), 0).sum(axis=0)
    below = ranks - ones * (ones + 1) / 2
    return np.divide(below, ones * zeros, out=np.full(len(ones), np.nan), where=usable)


def resampled_spearman(true: np.ndarray, predicted: Sequence[np.ndarray], counts: np.ndarray) -> np.ndarray:
    """`spearman` within each resample: (N, E), R times (N, E) and (N, B) → (R, E, B); 0 where a column is constant.

    It needs ranks *within the resample*; ranks of the whole partition would be another statistic. Nothing is sorted for
    it but the columns, once: the average rank of a value follows from how many clips were drawn below it,

        rank(value) = (clips below) + (clips with this value + 1) / 2,

    exactly, ties included, in O(N) per resample. The sum of squares of the M centred ranks of a resample follows from
    the sizes t of its ties alone: (M³ − Σ t³) / 12.
    """
    labels, runs = map(_orders, (true, np.concatenate(predicted, axis=1)))
    scores = np.empty((len(predicted), true.shape[1], counts.shape[1]))
    ranks = _Ranks(len(true))
    for start in range(0, counts.shape[1], WIDTH):
        columns = slice(start, min(start + WIDTH, counts.shape[1]))
        ranks.load(counts[:, columns])
        for e, label in enumerate(labels):
            ranks.weigh(label)
            yy = ranks.squares(label)
            for r, order in enumerate(runs[e :: len(labels)]):
                spread = ranks.squares(order) * yy
                xy = ranks.product(order)
                coefficients = np.divide(xy, np.sqrt(spread), out=np.zeros_like(xy), where=spread > 0)
                scores[r, e, columns] = coefficients[: columns.stop - start]
    return scores


@dataclass(frozen=True)
class _Order:
    """The N clips of a column by value, its U distinct values in L steps of LANES: lane k holds the k-th L of them.

    Attributes:
        rows: (L, LANES) for each distinct value a row of the counts: its clip, for tied clips one of those that follow
            them, N where there is none.
        tied: the clips that are tied, group after group.
        starts: where each group starts in `tied`.
        place: (N,) index of each clip's value in the flat `rows`.
    """

    rows: np.ndarray
    tied: np.ndarray
    starts: np.ndarray
    place: np.ndarray


def _orders(table: np.ndarray) -> list[_Order]:
    """One for each column of (N, E)."""
    return [_order(column) for column in table.T]


def _order(values: np.ndarray) -> _Order:
    clips = np.argsort(values, kind="stable")
    first = np.append(True, np.diff(values[clips]) != 0)[: len(clips)]  # of the clips with its value
    sizes = np.diff(np.append(np.flatnonzero(first), len(clips)))
    several = sizes > 1
    steps = -(-len(sizes) // LANES)
    rows = np.full(LANES * steps, len(values))
    rows[: len(sizes)] = np.where(several, len(values) + np.cumsum(several), clips[first])
    place = np.empty(len(values), int)
    place[clips] = np.cumsum(first) - 1
    return _Order(
        rows.reshape(LANES, steps).T.copy(),
        clips[np.repeat(several, sizes)],
        np.cumsum(sizes[several]) - sizes[several],
        place % steps * LANES + place // steps,
    )


class _Ranks:
    """Sums over the ranks of N clips within b = WIDTH resamples, in memory that stays in the processor's cache."""

    def __init__(self, clips: int) -> None:
        self.clips = clips
        self.halves, self.weights = np.zeros((2, clips + 1 + clips // 2, WIDTH))  # of clips, of none, of tied clips
        self.ranks = np.empty((-(-clips // LANES) * LANES, WIDTH))

    def load(self, counts: np.ndarray) -> None:
        """counts: (N, b or fewer) how often each clip was drawn."""
        self.halves[: self.clips, counts.shape[1] :] = 0
        np.multiply(counts, 0.5, out=self.halves[: self.clips, : counts.shape[1]])
        halves = self.halves[: self.clips]
        self.drawn, self.cubes = 2 * halves.sum(axis=0), 8 * np.einsum("nb,nb,nb->b", halves, halves, halves)

    def squares(self, order: _Order) -> np.ndarray:
        """(b,) twelve times the sum of squares of the centred ranks of a column."""
        groups, tied = self._merge(order, self.halves), self.halves[order.tied]
        ties = np.einsum("gb,gb,gb->b", groups, groups, groups) - np.einsum("nb,nb,nb->b", tied, tied, tied)
        return self.drawn**3 - self.cubes - 8 * ties

    def weigh(self, order: _Order) -> None:
        """Make the weights of the clips: half their counts times their centred ranks by a column."""
        self._merge(order, self.halves)
        ranks = self.ranks[: order.rows.size].reshape(*order.rows.shape, -1)
        below, here = np.zeros((2, *ranks.shape[1:]))  # clips of a lane below its value
        for rows, rank in zip(order.rows, ranks, strict=True):
            np.take(self.halves, rows, axis=0, out=here, mode="clip")
            np.add(below, here, out=rank)
            np.add(rank, here, out=below)
        ranks += np.cumsum(below, axis=0) - below - self.drawn / 2  # clips of the lanes before it
        weights = np.take(self.ranks, order.place, axis=0, out=self.weights[: self.clips], mode="clip")
        weights *= self.halves[: self.clips]

    def product(self, order: _Order) -> np.ndarray:
        """(b,) 24 times the sum of a column's ranks times the weights."""
        self._merge(order, self.halves)
        self._merge(order, self.weights)
        below, here, weights, total, products = np.zeros((5, LANES, WIDTH))
        for rows in order.rows:
            np.take(self.halves, rows, axis=0, out=here, mode="clip")
            np.take(self.weights, rows, axis=0, out=weights, mode="clip")
            total += weights
            below += here
            weights *= below
            below += here
            products += weights
        before = np.cumsum(below, axis=0) - below
        return 24 * (products.sum(axis=0) + np.einsum("kb,kb->b", before, total))

    def _merge(self, order: _Order, table: np.ndarray) -> np.ndarray:
        """(G, b) the sums of a table's rows over each group of tied clips, which become rows of it."""
        groups = table[self.clips + 1 : self.clips + 1 + len(order.starts)]
        return np.add.reduceat(table[order.tied], order.starts, axis=0, out=groups) if len(groups) else groups


SCC = Metric(
    "scc", "SCC", spearman, correlation=True, resampled=resampled_spearman, meaning="Spearman's correlation",
    hub="spearmanr", attainable=root_of_reliability,
)  # fmt: skip
PCC = Metric(
    "pcc", "PCC", pearson, correlation=True, resampled=resampled_pearson, meaning="Pearson's correlation",
    hub="pearsonr", attainable=root_of_reliability,
)  # fmt: skip
