"""How sure is a score, and is a difference between two cells one? The bootstrap over clips.

Shapes: N clips, E emotions, U distinct values in a column, B resamples, C cells.

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
from dataclasses import dataclass

import numpy as np
from scipy import stats

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


@dataclass(frozen=True)
class Comparison:
    """All pairs of C cells, tested on one statistic.

    Attributes:
        best: the cell with the highest score.
        p: (C, C) two-sided p of each pair, NaN where a score is not a number.
        adjusted: (C, C) the same, Holm-corrected over all pairs.
        seed_std: pooled standard deviation of a score over training seeds; NaN where no cell has two runs.
        freedom: degrees of freedom of `seed_std`: runs minus cells, over the cells with two runs or more.
        level: adjusted p below it are called significant.
    """

    best: int
    p: np.ndarray
    adjusted: np.ndarray
    seed_std: float
    freedom: int
    level: float = 0.05

    def verdict(self, cell: int) -> str:
        """best | tied | worse | unsettled | untested: what may be said of a cell against the best.

        `tied`: not significantly below it. `unsettled`: worse on these clips, but with one run per cell nobody knows
        how much of it is the seed's doing.
        """
        if cell == self.best:
            return "best"
        p = self.adjusted[self.best, cell]
        if not np.isfinite(p):
            return "untested"
        if p >= self.level:
            return "tied"
        return "worse" if self.freedom else "unsettled"


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down correction of a family of p values (M,) → (M,); NaN stays NaN and is not counted."""
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known])]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1) if len(order) else steps
    return adjusted


def compare(scores: Sequence[np.ndarray], means: np.ndarray) -> Comparison:
    """Paired bootstrap test of every pair of cells, two-sided, Holm-corrected over all pairs.

    Two things make a difference between cells uncertain, and their variances add up:
    - the clips: the variance of the difference over resamples that both cells share (so what makes a clip hard for
      both cancels out);
    - the training: s² (1 / R_a + 1 / R_b), with s² the variance of the score between runs that differ in the seed
      alone, pooled over all cells. Resampling two or three runs, the other way to account for it, has ten distinct
      outcomes at most and a variance that is a third to a half too small.
    The difference over its standard error is held against Student's t with Welch and Satterthwaite's degrees of
    freedom. A count of resamples beyond zero would say the same, but 1,000 of them cannot show a p below 0.002, and
    Holm over the 55 pairs of eleven windows asks for 0.0009.

    All pairs count, not those with the best alone, because the best is picked by looking at the same scores.

    Limits: without two runs in any cell the training is not covered (`verdict` then says `unsettled`); pooling
    takes the seed to matter equally in all cells; runs' own noise over clips enters both terms, which makes the test
    somewhat conservative. In 600 simulated studies each (300 clips, 3 targets, equal cells), some cell was called
    worse than the best in 1 to 4 % (2 or 8 cells, 3 or 5 runs each) and in 6 % (2 cells, 2 runs).

    Args:
        scores: C arrays (R,): the score of each run of a cell on the whole partition.
        means: (C, B) mean over a cell's runs of the score in each resample, resamples shared by all cells.
    """
    centre = np.array([run.mean() for run in scores])
    runs = np.array([len(run) for run in scores])
    spread = np.array([np.sum((run - run.mean()) ** 2) for run in scores])
    counted = (runs > 1) & np.isfinite(spread)
    freedom = int((runs[counted] - 1).sum())
    variance = spread[counted].sum() / freedom if freedom else 0.0

    clips = _paired_variance(means)  # (C, C)
    training = variance * np.add.outer(1 / runs, 1 / runs)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(np.subtract.outer(centre, centre)) / np.sqrt(clips + training)
        degrees = freedom * ((clips + training) / training) ** 2 if variance else np.full_like(t, np.inf)
    p = np.where(np.subtract.outer(centre, centre) == 0, 1.0, 2 * stats.t.sf(t, degrees))

    adjusted = np.ones_like(p)
    upper = np.triu_indices(len(p), 1)
    adjusted[upper] = adjusted.T[upper] = holm(p[upper])
    best = int(np.argmax(np.where(np.isfinite(centre), centre, -np.inf)))
    return Comparison(best, p, adjusted, math.sqrt(variance) if freedom else math.nan, freedom)


def _paired_variance(means: np.ndarray) -> np.ndarray:
    """(C, B) → (C, C) variance over resamples of each pair's difference; NaN for cells that are mostly NaN."""
    usable = np.isfinite(means).mean(axis=1) > 0.5
    shared = means[usable][:, np.isfinite(means[usable]).all(axis=0)]
    covariance = np.full((len(means), len(means)), np.nan)
    if shared.shape[1] > 1:
        covariance[np.ix_(usable, usable)] = np.cov(shared)
    variances = covariance.diagonal()
    return np.maximum(np.add.outer(variances, variances) - 2 * covariance, 0)
