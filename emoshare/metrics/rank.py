"""Correlations of ranks and of values: SCC (Spearman) and PCC (Pearson).

Shapes: N clips, E targets, B resamples, R runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emoshare.metrics.agreement import moments
from emoshare.metrics.metric import Metric


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
    """`spearman` within each resample: (N, E), R times (N, E) and (N, B) → (R, E, B).

    It needs ranks *within the resample*; ranks of the whole partition would be another statistic. Sorting each
    resample is not needed for it: the order of the values never changes, so the average rank of a value follows from
    the cumulative sum of the counts in that order,

        rank(value) = (clips below) + (clips with this value + 1) / 2,

    exactly, ties included, in O(N) per resample. 0 where a column is constant.
    """
    scores = np.empty((len(predicted), true.shape[1], counts.shape[1]))
    work, weighted = np.empty((2, *counts.shape)), np.empty_like(counts)
    for e in range(true.shape[1]):
        y = centred_ranks(sort_once(true[:, e]), counts, work)
        np.multiply(y, counts, out=weighted)
        yy = np.einsum("nb,nb->b", weighted, y)
        for r, run in enumerate(predicted):
            x = centred_ranks(sort_once(run[:, e]), counts, work)
            xy = np.einsum("nb,nb->b", weighted, x)
            x *= x
            spread = np.einsum("nb,nb->b", x, counts) * yy
            scores[r, e] = np.divide(xy, np.sqrt(spread), out=np.zeros_like(xy), where=spread > 0)
    return scores


def sort_once(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,) → clips in order of value (N,), where each distinct value starts (U,), each clip's place in it (N,)."""
    _, place, sizes = np.unique(values, return_inverse=True, return_counts=True)
    return np.argsort(place, kind="stable"), np.cumsum(sizes) - sizes, place


def centred_ranks(order: tuple[np.ndarray, np.ndarray, np.ndarray], counts: np.ndarray, work: np.ndarray) -> np.ndarray:
    """Average rank of each clip within each resample of M clips, minus the mean rank (M + 1) / 2.

    Args:
        order: of `sort_once`.
        counts: (N, B) how often each clip was drawn.
        work: (2, N, B) to work in: memory fresh from the system for every step would take half of the time.

    Returns:
        (N, B), which is work[0]; clips that a resample lacks have a rank too, which their count of 0 keeps out of
        every sum.
    """
    clips, starts, place = order
    same = np.take(counts, clips, axis=0, out=work[0], mode="clip")  # (N, B)
    if len(starts) < len(clips):
        same = np.add.reduceat(same, starts, axis=0)  # (U, B)
    ranks = np.cumsum(same, axis=0, out=work[1][: len(same)])
    same *= 0.5
    ranks -= same
    ranks -= counts.sum(axis=0) / 2  # below + (same + 1) / 2 - (M + 1) / 2, as `ranks` was below + same
    return np.take(ranks, place, axis=0, out=work[0], mode="clip")


SCC = Metric(
    "scc", "SCC", spearman, correlation=True, resampled=resampled_spearman, meaning="Spearman's correlation",
    hub="spearmanr",
)  # fmt: skip
PCC = Metric(
    "pcc", "PCC", pearson, correlation=True, resampled=resampled_pearson, meaning="Pearson's correlation",
    hub="pearsonr",
)  # fmt: skip
