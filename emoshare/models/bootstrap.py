"""How sure is a score? The bootstrap over clips, or over clusters of them.

Shapes: N clips, E emotions, U distinct values in a column, B resamples, R runs, K clusters.

Clips of one speaker are not independent: an interval from single clips is too narrow then. The cluster bootstrap
(Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8) draws K speakers with replacement,
each with all of its clips. It needs some tens of clusters; of very few, its intervals are somewhat too narrow, too.

A resample draws N clips with replacement, which is N counts that add up to N. Spearman's correlation of a resample
needs ranks *within the resample*; ranks of the whole partition would be another statistic. Sorting each resample is
not needed for it: the order of the values never changes, so the average rank of a value follows from the cumulative
sum of the counts in that order,

    rank(value) = (clips below) + (clips with this value + 1) / 2,

exactly, ties included, in O(N) per resample.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

FEWEST_CLUSTERS = 5  # of fewer, resamples are nearly all alike
CHUNK = 320_000  # clips × resamples at a time and thread: 2.5 MB per array


def enough(clusters: np.ndarray | None) -> np.ndarray | None:
    """The clusters, (N,), where there are enough of them to draw from; None where clips are to be drawn."""
    return clusters if clusters is not None and len(np.unique(clusters)) >= FEWEST_CLUSTERS else None


def draw(clips: int, resamples: Sequence[int], seed: int, clusters: np.ndarray | None = None) -> np.ndarray:
    """How often each clip was drawn in each resample, (N, B) float64; each column adds up to N, if clips are drawn.

    Args:
        clips: N.
        resamples: numbers of the B resamples: a resample depends on its number, the seed and N alone.
        seed: any.
        clusters: (N,) the cluster of each clip, numbered from 0 to K - 1: clusters are drawn in place of clips.
    """
    units = clips if clusters is None else int(clusters.max()) + 1
    counts = np.empty((units, len(resamples)))
    for column, number in enumerate(resamples):
        drawn = np.random.default_rng([seed, number]).integers(units, size=units)
        counts[:, column] = np.bincount(drawn, minlength=units)
    return counts if clusters is None else counts[clusters]


def sorted_once(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,) → clips in order of value (N,), where each distinct value starts (U,), each clip's place in it (N,)."""
    _, place, sizes = np.unique(values, return_inverse=True, return_counts=True)
    return np.argsort(place, kind="stable"), np.cumsum(sizes) - sizes, place


def centred_ranks(order: tuple[np.ndarray, np.ndarray, np.ndarray], counts: np.ndarray, work: np.ndarray) -> np.ndarray:
    """Average rank of each clip within each resample of M clips, minus the mean rank (M + 1) / 2.

    Args:
        order: of `sorted_once`.
        counts: (N, B) of `draw`.
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


def correlation(xy: np.ndarray, xx: np.ndarray, yy: np.ndarray) -> np.ndarray:
    """xy / sqrt(xx yy) of sums of centred products, NaN where a column of the resample is constant."""
    return np.divide(xy, np.sqrt(xx * yy), out=np.full_like(xy, np.nan), where=(xx > 0) & (yy > 0))


def spearman(true: np.ndarray, predicted: Sequence[np.ndarray], counts: np.ndarray) -> np.ndarray:
    """Spearman's correlation within each resample, (N, E), R times (N, E) and (N, B) → (R, E, B)."""
    scores = np.empty((len(predicted), true.shape[1], counts.shape[1]))
    work, weighted = np.empty((2, *counts.shape)), np.empty_like(counts)
    for e in range(true.shape[1]):
        y = centred_ranks(sorted_once(true[:, e]), counts, work)
        np.multiply(y, counts, out=weighted)
        yy = np.einsum("nb,nb->b", weighted, y)
        for r, run in enumerate(predicted):
            x = centred_ranks(sorted_once(run[:, e]), counts, work)
            xy = np.einsum("nb,nb->b", weighted, x)
            x *= x
            scores[r, e] = correlation(xy, np.einsum("nb,nb->b", x, counts), yy)
        scores[[not np.isfinite(run[:, e]).all() for run in predicted], e] = np.nan
    return scores


def concordance(true: np.ndarray, predicted: Sequence[np.ndarray], counts: np.ndarray) -> np.ndarray:
    """Lin's concordance within each resample, population moments: (N, E), R times (N, E), (N, B) → (R, E, B).

    CCC = 2 cov / (var x + var y + (mean x - mean y)²), Lin (1989). NaN where both columns are constant.
    """
    scores = []
    drawn = np.maximum(counts.sum(axis=0), 1)  # clips of each resample
    origin = true.mean(0)  # moments about the middle of the data lose no digits
    y = true - origin
    for run in predicted:
        x = run - origin
        moments = np.concatenate([x, y, x * x, y * y, x * y], axis=1).T @ counts / drawn  # (5 E, B)
        mx, my, xx, yy, xy = moments.reshape(5, true.shape[1], -1)
        below = (xx - mx**2) + (yy - my**2) + (mx - my) ** 2
        scores.append(np.divide(2 * (xy - mx * my), below, out=np.full_like(below, np.nan), where=below > 1e-15))
    return np.stack(scores)


def replicates(
    true: np.ndarray,
    predicted: Sequence[np.ndarray],
    resamples: int = 1000,
    seed: int = 0,
    clusters: np.ndarray | None = None,
    rows: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """SCC and CCC of several runs on the same resamples of the clips.

    Equal seeds and equal N give equal resamples, so that replicates of different calls are paired; those of two groups
    of clips, too, whether a cluster has clips in both of them or not.

    Args:
        true: (N, E).
        predicted: R arrays (N, E).
        resamples: B.
        seed: of the draw.
        clusters: (N,) as of `draw`.
        rows: of the clips that are scored, of all that are drawn; None: all.

    Returns:
        SCC and CCC, each (R, E, B), NaN where a column is constant in a resample.
    """
    clips = len(true)
    width = max(16, CHUNK // clips)
    chunks = [range(start, min(start + width, resamples)) for start in range(0, resamples, width)]
    chosen = slice(None) if rows is None else rows
    true, predicted = true[chosen].astype(np.float64), [run[chosen].astype(np.float64) for run in predicted]

    def score(chunk: range) -> tuple[np.ndarray, np.ndarray]:
        counts = draw(clips, chunk, seed, clusters)[chosen]
        return spearman(true, predicted, counts), concordance(true, predicted, counts)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(pool.map(score, chunks))
    scc, ccc = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
    return scc, ccc


def gains(
    true: np.ndarray, pair: Sequence[np.ndarray], resamples: int = 1000, clusters: np.ndarray | None = None
) -> dict[str, tuple[float, float]]:
    """The 95 % interval of how much higher the first of two runs scores, by metric: the mean over the targets.

    Both are scored on the same resamples.
    """
    scc, ccc = (found.mean(axis=1) for found in replicates(true, pair, resamples, clusters=clusters))  # (2, B) each
    resampled = {"scc": scc, "ccc": ccc, "avg": (scc + ccc) / 2}
    return {metric: interval(values[0] - values[1]) for metric, values in resampled.items()}


def scores(true: np.ndarray, predicted: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """SCC and CCC of the clips themselves: (N, E) and R times (N, E) → (R, E) each."""
    once = np.ones((len(true), 1))
    true, predicted = true.astype(np.float64), [run.astype(np.float64) for run in predicted]
    return spearman(true, predicted, once)[..., 0], concordance(true, predicted, once)[..., 0]


def interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of a statistic's replicates (B,); NaN where fewer than half of them are numbers."""
    known = values[np.isfinite(values)]
    if 2 * len(known) < len(values):
        return math.nan, math.nan
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)
