"""How sure is a score? The bootstrap over clips.

Shapes: N clips, E emotions, U distinct values in a column, B resamples, R runs.

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

CHUNK = 320_000  # clips × resamples at a time and thread: 2.5 MB per array


def draw(clips: int, resamples: Sequence[int], seed: int) -> np.ndarray:
    """How often each clip was drawn in each resample, (N, B) float64; each column adds up to N.

    Args:
        clips: N.
        resamples: numbers of the B resamples: a resample hangs on its number, the seed and N alone.
        seed: any.
    """
    counts = np.empty((clips, len(resamples)))
    for column, number in enumerate(resamples):
        drawn = np.random.default_rng([seed, number]).integers(clips, size=clips)
        counts[:, column] = np.bincount(drawn, minlength=clips)
    return counts


def sorted_once(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,) → clips in order of value (N,), where each distinct value starts (U,), each clip's place in it (N,)."""
    _, place, sizes = np.unique(values, return_inverse=True, return_counts=True)
    return np.argsort(place, kind="stable"), np.cumsum(sizes) - sizes, place


def centred_ranks(order: tuple[np.ndarray, np.ndarray, np.ndarray], counts: np.ndarray, work: np.ndarray) -> np.ndarray:
    """Average rank of each clip within each resample, minus the mean rank (N + 1) / 2.

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
    ranks -= len(clips) / 2  # below + (same + 1) / 2 - (N + 1) / 2, as `ranks` was below + same
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
    origin = true.mean(0)  # moments about the middle of the data lose no digits
    y = true - origin
    for run in predicted:
        x = run - origin
        moments = np.concatenate([x, y, x * x, y * y, x * y], axis=1).T @ counts / len(true)  # (5 E, B)
        mx, my, xx, yy, xy = moments.reshape(5, true.shape[1], -1)
        below = (xx - mx**2) + (yy - my**2) + (mx - my) ** 2
        scores.append(np.divide(2 * (xy - mx * my), below, out=np.full_like(below, np.nan), where=below > 1e-15))
    return np.stack(scores)


def replicates(
    true: np.ndarray, predicted: Sequence[np.ndarray], resamples: int = 1000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """SCC and CCC of several runs on the same resamples of the clips.

    Equal seeds and equal N give equal resamples, so that replicates of different calls are paired.

    Args:
        true: (N, E).
        predicted: R arrays (N, E).
        resamples: B.
        seed: of the draw.

    Returns:
        SCC and CCC, each (R, E, B), NaN where a column is constant in a resample.
    """
    width = max(16, CHUNK // len(true))
    chunks = [range(start, min(start + width, resamples)) for start in range(0, resamples, width)]
    true, predicted = true.astype(np.float64), [run.astype(np.float64) for run in predicted]

    def score(chunk: range) -> tuple[np.ndarray, np.ndarray]:
        counts = draw(len(true), chunk, seed)
        return spearman(true, predicted, counts), concordance(true, predicted, counts)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(pool.map(score, chunks))
    scc, ccc = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
    return scc, ccc


def interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of a statistic's replicates (B,); NaN where fewer than half of them are numbers."""
    known = values[np.isfinite(values)]
    if 2 * len(known) < len(values):
        return math.nan, math.nan
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)
