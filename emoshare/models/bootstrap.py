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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from emoshare.core.spread import resolution
from emoshare.models.scores import mean_score, settle

RESAMPLES = 1000
T = TypeVar("T")
FEWEST_CLUSTERS = 5  # of fewer, resamples are nearly all alike
CHUNK = 320_000  # clips × resamples at a time and thread: 2.5 MB per array


def enough(clusters: np.ndarray | None) -> np.ndarray | None:
    """The clusters, (N,), where there are enough of them to draw from; None where clips are to be drawn."""
    return clusters if clusters is not None and len(np.unique(clusters)) >= FEWEST_CLUSTERS else None


def drawn_units(clusters: np.ndarray | None, column: str | None) -> str:
    """What a resample draws, in words: `clips`, or `clips, drawn by speaker`. clusters: (N,), of a column."""
    return "clips" if enough(clusters) is None else f"clips, drawn by {column}"


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


def constant_in(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Whether the drawn ones of values (N,) are one number, within float32's resolution: (N, B) counts → (B,) bool.

    Equal values are found by their ranks. What is left are different values that one resolution spans: all clips that
    a resample drew lie in such a span. True, too, for a resample that drew none.
    """
    found = np.zeros(counts.shape[1], bool)
    ordered = np.unique(values)
    if not np.isfinite(ordered).all():
        return found
    ends = np.searchsorted(ordered, ordered + resolution(np.abs(ordered)), side="right")  # above the last of each span
    spans = ends > np.arange(len(ordered)) + 1
    spans[1:] &= ends[1:] > ends[:-1]  # not within the one before
    drawn = counts.sum(axis=0) if spans.any() else None
    for first in np.flatnonzero(spans):
        inside = (values >= ordered[first]) & (values <= ordered[ends[first] - 1])
        found |= counts[inside].sum(axis=0) == drawn
    return found


def spearman(true: np.ndarray, predicted: Sequence[np.ndarray], counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spearman's correlation within each resample, (N, E), R times (N, E) and (N, B) → twice (R, E, B).

    Constants of a resample as in `scores`; the second array is true where the resample's labels or predictions are
    constant. All scores of a run with a prediction that is no number are NaN.
    """
    scores = np.empty((len(predicted), true.shape[1], counts.shape[1]))
    still = np.zeros(scores.shape, bool)
    work, weighted = np.empty((2, *counts.shape)), np.empty_like(counts)
    for e in range(true.shape[1]):
        y = centred_ranks(sorted_once(true[:, e]), counts, work)
        np.multiply(y, counts, out=weighted)
        yy = np.einsum("nb,nb->b", weighted, y)
        labels = (yy <= 0) | constant_in(true[:, e], counts)
        for r, run in enumerate(predicted):
            x = centred_ranks(sorted_once(run[:, e]), counts, work)
            xy = np.einsum("nb,nb->b", weighted, x)
            x *= x
            xx = np.einsum("nb,nb->b", x, counts)
            same = (xx <= 0) | constant_in(run[:, e], counts)
            found = np.divide(xy, np.sqrt(xx * yy), out=np.zeros_like(xy), where=~(same | labels))
            scores[r, e], still[r, e] = settle(found, same, labels), same | labels
    scores[[not np.isfinite(run).all() for run in predicted]] = np.nan
    return scores, still


def concordance(true: np.ndarray, predicted: Sequence[np.ndarray], counts: np.ndarray) -> np.ndarray:
    """Lin's concordance within each resample, population moments: (N, E), R times (N, E), (N, B) → (R, E, B).

    CCC = 2 cov / (var x + var y + (mean x - mean y)²), Lin (1989), of columns that vary; else the number is noise.
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
        scores.append(np.divide(2 * (xy - mx * my), below, out=np.zeros_like(below), where=below > 1e-15))
    return np.stack(scores)


def both(true: np.ndarray, predicted: Sequence[np.ndarray], counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """SCC and CCC within each resample, (N, E), R times (N, E) and (N, B) → (R, E, B) each, as `scores` has them."""
    scc, still = spearman(true, predicted, counts)
    return scc, np.where(still | np.isnan(scc), scc, concordance(true, predicted, counts))


def replicates(
    true: np.ndarray,
    predicted: Sequence[np.ndarray],
    resamples: int = RESAMPLES,
    seed: int = 0,
    *,
    clusters: np.ndarray | None,
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
        clusters: (N,) as of `draw`; None, or fewer than FEWEST_CLUSTERS: clips are drawn.
        rows: of the clips that are scored, of all that are drawn; None: all.

    Returns:
        SCC and CCC, each (R, E, B), by the rules of `scores` within each resample.
    """
    clips, chosen = len(true), slice(None) if rows is None else rows
    true, predicted = true[chosen].astype(np.float64), [run[chosen].astype(np.float64) for run in predicted]
    parts = resampled(lambda counts: both(true, predicted, counts[chosen]), clips, resamples, clusters, seed)
    scc, ccc = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
    return scc, ccc


def resampled(
    score: Callable[[np.ndarray], T], clips: int, resamples: int, clusters: np.ndarray | None, seed: int = 0
) -> list[T]:
    """What `score` makes of the counts (N, b) of `draw`, for some of the resamples at a time.

    Args:
        score: of counts.
        clips: N.
        resamples: B, how many there are.
        clusters: (N,) as of `replicates`.
        seed: of the draw.
    """
    width, units = max(16, CHUNK // clips), enough(clusters)
    chunks = [range(start, min(start + width, resamples)) for start in range(0, resamples, width)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda chunk: score(draw(clips, chunk, seed, units)), chunks))


def gains(
    true: np.ndarray, pair: Sequence[np.ndarray], clusters: np.ndarray | None, resamples: int = RESAMPLES
) -> dict[str, tuple[float, float]]:
    """The 95 % interval of how much higher the first of two runs scores, by metric: the mean over the targets.

    Both are scored on the same resamples.
    """
    found = with_average(*replicates(true, pair, resamples, clusters=clusters))  # (2, E, B) each
    means = {metric: mean_score(values, axis=1) for metric, values in found.items()}
    return {metric: interval(values[0] - values[1]) for metric, values in means.items()}


def score_intervals(
    true: np.ndarray,
    predicted: np.ndarray,
    targets: Sequence[str],
    clusters: np.ndarray | None,
    resamples: int = RESAMPLES,
) -> dict[str, dict[str, tuple[float, float]]]:
    """95 % intervals of a run's scores: (N, E) and (N, E) → scc, ccc, avg → "mean" and each target.

    clusters: (N,) as of `replicates`.
    """
    found = with_average(*replicates(true, [predicted], resamples, clusters=clusters))  # (1, E, B) each
    return {
        metric: {
            "mean": interval(mean_score(values[0], axis=0)),
            **{target: interval(values[0, e]) for e, target in enumerate(targets)},
        }
        for metric, values in found.items()
    }


def with_average(scc: np.ndarray, ccc: np.ndarray) -> dict[str, np.ndarray]:
    """scc, ccc and avg, by name."""
    return {"scc": scc, "ccc": ccc, "avg": (scc + ccc) / 2}


def scores(true: np.ndarray, predicted: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """SCC and CCC of the clips themselves: (N, E) and R times (N, E) → (R, E) each, by the rules of `scores`."""
    once = np.ones((len(true), 1))
    scc, ccc = both(true.astype(np.float64), [run.astype(np.float64) for run in predicted], once)
    return scc[..., 0], ccc[..., 0]


def interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of a statistic's replicates (B,); NaN where fewer than half of them are numbers."""
    known = values[np.isfinite(values)]
    if 2 * len(known) < len(values):
        return math.nan, math.nan
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)
