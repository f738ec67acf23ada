"""Confidence intervals of scores: the bootstrap over clips, or over clusters of them.

Shapes: N clips, E emotions, U distinct values in a column, B resamples, R runs, K clusters.

Clips of one speaker are not independent: an interval from single clips is too narrow then. The cluster bootstrap
(Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8) draws K speakers with replacement,
each with all of its clips. It needs some tens of clusters; of very few, its intervals are somewhat too narrow, too.

A resample draws N clips with replacement, which is N counts that add up to N. A metric scores resamples by these counts
where it has a form for them (`metric.py: Resampled`), and else clip by clip.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np

from emoshare.core.spread import resolution
from emoshare.metrics.metric import Metric, Resampled, combine
from emoshare.metrics.registry import STANDARD
from emoshare.metrics.scores import settle

RESAMPLES = 1000
T = TypeVar("T")
FEWEST_CLUSTERS = 5  # of fewer, resamples are nearly all alike
CHUNK = 2_500_000  # clips × resamples at a time: 20 MB per array


def enough(clusters: np.ndarray | None) -> np.ndarray | None:
    """The clusters, (N,), where there are enough of them to draw from; None where clips are to be drawn."""
    return clusters if clusters is not None and len(np.unique(clusters)) >= FEWEST_CLUSTERS else None


def enough_in_each(clusters: np.ndarray | None, groups: Iterable[np.ndarray]) -> np.ndarray | None:
    """The clusters, (N,), where each group of clips has enough of them; else None. groups: rows, or (N,) bool."""
    few = clusters is None or any(enough(clusters[rows]) is None for rows in groups)
    return None if few else clusters


def drawn_units(clusters: np.ndarray | None, column: str | None) -> str:
    """The units that a resample draws, in words: `clips`, or `clips, drawn by speaker`. clusters: (N,), of a column."""
    return "clips" if enough(clusters) is None else f"clips, drawn by {column}"


def draw(clips: int, resamples: Sequence[int], seed: int, clusters: np.ndarray | None = None) -> np.ndarray:
    """Each clip's count in each resample, (N, B) float64; each column adds up to N, if clips are drawn.

    Args:
        clips: N.
        resamples: numbers of the B resamples: a resample depends on its number, the seed and N alone.
        seed: any.
        clusters: (N,) the cluster of each clip, numbered from 0 to K - 1: clusters are drawn in place of clips.
    """
    units = clips if clusters is None else int(clusters.max()) + 1
    counts = np.empty((len(resamples), units))
    for row, number in zip(counts, resamples, strict=True):
        drawn = np.random.default_rng([seed, number]).integers(units, size=units)
        row[:] = np.bincount(drawn, minlength=units)
    return counts.T if clusters is None else counts.T[clusters]


def constant_in(values: np.ndarray, counts: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Whether the drawn ones of values (N,) are one number, within float32's resolution: (N, B) counts → (B,) bool.

    Then all clips that a resample drew lie in a span of values as wide as one resolution. True, too, for a resample
    that drew none.

    held: (B,) different clips of each resample.
    """
    constant = held == 0
    ordered, sizes = np.unique(values, return_counts=True)
    if constant.all() or not np.isfinite(ordered).all():
        return constant
    ends = np.searchsorted(ordered, ordered + resolution(np.abs(ordered)), side="right")  # above the last of each span
    clips = np.append(0, np.cumsum(sizes))
    spans = clips[ends] - clips[:-1] >= held[~constant].min()  # a smaller span holds no resample
    spans[1:] &= ends[1:] > ends[:-1]  # not within the one before
    drawn = counts.sum(axis=0) if spans.any() else None
    for first in np.flatnonzero(spans):
        inside = (values >= ordered[first]) & (values <= ordered[ends[first] - 1])
        constant |= counts[inside].sum(axis=0) == drawn
    return constant


def score_resamples(
    metrics: Sequence[Metric], true: np.ndarray, predicted: Sequence[np.ndarray], counts: np.ndarray
) -> dict[str, np.ndarray]:
    """Metric → (R, E, B) within each resample: (N, E), R times (N, E) and (N, B); constants as in `scores`.

    All scores of a run with a prediction that is no number are NaN.
    """
    bad = [not np.isfinite(run).all() for run in predicted]
    constants = functools.cache(lambda: _constants(true, predicted, counts))

    def score(metric: Metric) -> np.ndarray:
        values = (metric.resampled or _by_clips(metric))(true, predicted, counts)
        if values.ndim < 3:  # (R, B), one number for all targets
            values = np.repeat(values[:, None], true.shape[1], axis=1)
        values = settle(values, *constants()) if metric.correlation else values
        values[bad] = np.nan
        return values

    return combine(metrics, score)


def _constants(true: np.ndarray, predicted: Sequence[np.ndarray], counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether predictions (R, E, B) and labels (E, B) are one number in each resample."""
    held = (counts > 0).sum(axis=0)
    tables = [np.stack([constant_in(column, counts, held) for column in table.T]) for table in (*predicted, true)]
    return np.stack(tables[:-1]), tables[-1]


def _by_clips(metric: Metric) -> Resampled:
    """The resampled form of a metric that has none: its function, on the clips of each resample.

    NaN of a resample that holds a single one, which many functions do not take: groups of few clips have such.
    """

    def score(true: np.ndarray, predicted: Sequence[np.ndarray], counts: np.ndarray) -> np.ndarray:
        scores = np.full((len(predicted), true.shape[1], counts.shape[1]), np.nan)
        for b, drawn in enumerate(counts.T.astype(int)):
            clips = np.repeat(np.arange(len(true)), drawn)
            for r, run in enumerate(predicted):
                if np.count_nonzero(drawn) > 1:
                    scores[r, :, b] = metric.score(true[clips], run[clips])
        return scores

    return score


def replicates(
    true: np.ndarray,
    predicted: Sequence[np.ndarray],
    resamples: int = RESAMPLES,
    seed: int = 0,
    *,
    clusters: np.ndarray | None,
    rows: np.ndarray | None = None,
    metrics: Sequence[Metric] = STANDARD,
) -> dict[str, np.ndarray]:
    """Scores of several runs on the same resamples of the clips.

    Equal seeds and equal N give equal resamples, so that replicates of different calls are paired; those of two groups
    of clips, too, whether a cluster has clips in both of them or not.

    Args:
        true: (N, E).
        predicted: R arrays (N, E).
        resamples: B.
        seed: of the draw.
        clusters: (N,) as of `draw`; None, or fewer than FEWEST_CLUSTERS: clips are drawn.
        rows: of the clips that are scored, of all that are drawn; None: all.
        metrics: those whose function is not at hand are left out.

    Returns:
        Metric → (R, E, B), by the rules of `scores` within each resample.
    """
    clips, chosen = len(true), slice(None) if rows is None else rows
    true, predicted = true[chosen].astype(np.float64), [run[chosen].astype(np.float64) for run in predicted]
    usable = [metric for metric in metrics if metric.computable]
    parts = map_resamples(
        lambda counts: score_resamples(usable, true, predicted, counts[chosen]), clips, resamples, clusters, seed
    )
    return {metric.name: np.concatenate([part[metric.name] for part in parts], axis=-1) for metric in usable}


def map_resamples(
    score: Callable[[np.ndarray], T], clips: int, resamples: int, clusters: np.ndarray | None, seed: int = 0
) -> list[T]:
    """Apply `score` to the counts (N, b) of `draw`, for some of the resamples at a time.

    Args:
        score: of counts.
        clips: N.
        resamples: B, how many there are.
        clusters: (N,) as of `replicates`.
        seed: of the draw.
    """
    width, units = max(16, CHUNK // clips), enough(clusters)
    chunks = [range(start, min(start + width, resamples)) for start in range(0, resamples, width)]
    return [
        score(draw(clips, chunk, seed, units)) for chunk in chunks
    ]  # threads would double the CPU time, and gain none


def interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of a statistic's replicates (B,); NaN where fewer than half of them are numbers."""
    known = values[np.isfinite(values)]
    if 2 * len(known) < len(values):
        return math.nan, math.nan
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)
