"""The noise ceiling of labels that are votes: one half of the raters scored against the other, and what follows.

Votes of a clip are exchangeable: which rater gave which does not matter, so that numbers of votes suffice. In each of
many random splits the votes of every clip are divided into two halves (of an odd number one vote is left out), and the
shares of one half are scored as predictions of those of the other.

Half against half is not the ceiling itself, as halves are noisier than all votes. For correlations it follows. Let r be
the correlation of the halves, that is the part of the variance of a half's shares which raters have in common, and k
how many times more votes there are in all: 2, or a little more where a vote is left out. All votes have the reliability
ρ = k r / (1 + (k − 1) r) (Spearman, 1910; Brown, 1910), and predictions without any noise correlate with them by √ρ, as
a correlation is at most the root of the reliability (Lord and Novick, 1968, Statistical theories of mental test
scores). That holds for Pearson's correlation, and so for CCC, which is never above it and reaches it if predictions
have the labels' mean and spread; for Spearman's it is an approximation. Other metrics are not corrected: by these
predictions may be better than one half of the raters against the other.

Shapes: N clips, E targets, S splits, B resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emoshare.metrics.bootstrap import interval, replicates
from emoshare.metrics.metric import Metric, combine, score_all
from emoshare.metrics.scores import mean_score

SPLITS = 100  # for the score
RESAMPLED = 20  # splits of them, for its interval
SLOWER = 10  # times fewer resamples for a metric that is computed clip by clip: all would take minutes
FEWEST = 10  # clips with two votes or more, below which there is no ceiling


@dataclass(frozen=True)
class Bounded:
    """A mean over the targets with its 95 % interval over clips."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Ceiling:
    """The scores that raters reach by one metric: half against half, and the best against all votes."""

    halves: Bounded
    attainable: Bounded | None  # None where it does not follow from the halves


def split_halves(counts: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The shares of two random halves of each clip's votes: counts (N, E) of two votes or more → twice (N, E)."""
    size = counts.sum(axis=1) // 2
    first = draw_votes(counts, size, rng)
    second = draw_votes(counts - first, size, rng)
    return first / size[:, None], second / size[:, None]


def draw_votes(counts: np.ndarray, wanted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Some of each clip's votes, drawn without replacement: (N, E) and how many (N,) → (N, E)."""
    left, drawn = counts.sum(axis=1), np.zeros_like(counts)
    for e, votes in enumerate(counts.T):
        left = left - votes
        drawn[:, e] = rng.hypergeometric(votes, left, wanted)
        wanted = wanted - drawn[:, e]
    return drawn


def noise_ceiling(
    counts: np.ndarray, metrics: Sequence[Metric], resamples: int, clusters: np.ndarray | None, seed: int = 0
) -> dict[str, Ceiling]:
    """Metric → what raters reach by it: the mean over random splits, and its interval over clips.

    Args:
        counts: (N, E) votes; clips with fewer than two do not count. Empty result where fewer than FEWEST have.
        metrics: those whose function is not at hand are left out.
        resamples: B of the bootstrap.
        clusters: (N,) as of `bootstrap.replicates`.
        seed: of the splits.
    """
    divisible = counts.sum(axis=1) > 1
    if divisible.sum() < FEWEST:
        return {}
    counts, clusters = counts[divisible], None if clusters is None else clusters[divisible]
    clusters = None if clusters is None else np.unique(clusters, return_inverse=True)[1]
    used = [metric for metric in metrics if metric.computable]
    splits = [split_halves(counts, np.random.default_rng([seed, number])) for number in range(SPLITS)]
    scored = [score_all(used, second, first) for first, second in splits]
    points = {metric.name: mean_score(np.stack([run[metric.name] for run in scored]), axis=0) for metric in used}
    drawn = {metric.name: [] for metric in used}  # type: dict[str, list[np.ndarray]]
    fast, slow = ([metric for metric in used if bool(metric.resampled) is known] for known in (True, False))
    for first, second in splits[:RESAMPLED]:
        for some, count in ((fast, resamples), (slow, max(resamples // SLOWER, 1))):
            found = replicates(second, [first], count, clusters=clusters, metrics=some) if some else {}
            for name, values in found.items():
                drawn[name].append(values[0])
    spread = {name: mean_score(np.stack(values), axis=0) for name, values in drawn.items()}  # (E, B)
    halves = {name: _interval_of(points[name], spread[name]) for name in points}
    best = {metric.name: metric for metric in used if metric.attainable or metric.parts}
    votes = counts.sum(axis=1)
    times = float((1 / (votes // 2)).mean() / (1 / votes).mean())  # k: noise has the variance 1 / votes
    known = [_attainable(list(best.values()), scores, times) for scores in (points, spread)]
    return {
        name: Ceiling(halves[name], _interval_of(known[0][name], known[1][name]) if name in known[0] else None)
        for name in points
    }


def _attainable(metrics: Sequence[Metric], halves: dict[str, np.ndarray], times: float) -> dict[str, np.ndarray]:
    """Metric → the best score against all votes, (E, …), of scores of halves; of means of others where all have one."""
    names = {metric.name for metric in metrics}
    known = [metric for metric in metrics if metric.attainable or names.issuperset(metric.parts)]

    def score(metric: Metric) -> np.ndarray:
        assert metric.attainable is not None  # a mean of others is taken of theirs
        return metric.attainable(halves[metric.name], times)

    return combine(known, score)


def _interval_of(points: np.ndarray, spread: np.ndarray) -> Bounded:
    """Of scores (E,) and their replicates (E, B)."""
    return Bounded(float(mean_score(points)), *interval(mean_score(spread, axis=0)))
