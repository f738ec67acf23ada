"""Strata of clips by the entropy of their labels: scores on clips that raters agree on, and on those they do not.

Shapes: N clips, E targets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emoshare.metrics.bootstrap import enough_in_each, interval, replicates
from emoshare.metrics.distribution import distributions
from emoshare.metrics.metric import Metric, mean_scores, score_all
from emoshare.metrics.scores import mean_score

NAMES = {2: ("low", "high"), 3: ("low", "middle", "high")}  # by the number of strata
FEWEST = 10  # clips of a stratum, as of a group


@dataclass(frozen=True)
class StratumScores:
    """The scores of one stratum, means over the targets."""

    clips: int
    scores: dict[str, float]  # by metric
    intervals: dict[str, tuple[float, float]]  # 95 %, by metric


def label_entropy(shares: np.ndarray) -> np.ndarray:
    """(N, E) shares → (N,) Shannon's entropy of each clip's shares, of the largest possible one; NaN where all are 0.

        H(t) / log E = −Σ t log t / log E

    of shares t that add up to 1 (they are divided by their sum). Shannon (1948), A mathematical theory of
    communication; divided by its maximum it is the evenness of Pielou (1966). 0: one emotion has all; 1: all are equal.

    >>> label_entropy(np.array([[1, 0], [0.5, 0.5], [3, 1]])).round(3)
    array([0.   , 1.   , 0.811])
    """
    t = distributions(np.asarray(shares, np.float64))
    logarithms = np.log(t, out=np.zeros_like(t), where=t > 0)
    return np.abs((t * logarithms).sum(axis=1)) / math.log(max(shares.shape[1], 2))


def entropy_strata(shares: np.ndarray) -> dict[str, np.ndarray]:
    """Thirds of a partition's clips by the entropy of their labels, the lowest first: name → rows.

    Equal entropies stay together, so that strata of a few votes may be uneven; of one alone, or of fewer than FEWEST
    clips each, there are none.
    """
    from scipy.stats import rankdata

    entropy = label_entropy(shares).round(6)  # equal labels may differ by rounding
    known = np.flatnonzero(np.isfinite(entropy))
    if shares.shape[1] < 2 or not len(known):
        return {}
    third = (3 * (rankdata(entropy[known]) - 0.5) / len(known)).astype(int)
    strata = [rows for number in range(3) if len(rows := known[third == number]) >= FEWEST]
    names = NAMES.get(len(strata), ())
    ends = [f"{entropy[rows].min():.2f} to {entropy[rows].max():.2f}" for rows in strata]
    return {f"{name}, {told}": rows for name, told, rows in zip(names, ends, strata, strict=False)}


def score_strata(
    true: np.ndarray, predicted: np.ndarray, clusters: np.ndarray | None, metrics: Sequence[Metric]
) -> dict[str, StratumScores]:
    """Scores of predictions by stratum, on the same resamples of all clips.

    Args:
        true: (N, E).
        predicted: (N, E).
        clusters: (N,) as of `bootstrap.replicates`; clips are drawn where a stratum has too few.
        metrics: to score by.
    """
    strata = entropy_strata(true)
    clusters = enough_in_each(clusters, strata.values())
    found = {}
    for name, rows in strata.items():
        drawn = replicates(true, [predicted], clusters=clusters, rows=rows, metrics=metrics)  # (1, E, B)
        ends = {metric: interval(mean_score(values[0], axis=0)) for metric, values in drawn.items()}
        scores = mean_scores(score_all(metrics, true[rows], predicted[rows]))
        found[name] = StratumScores(len(rows), scores, ends)
    return found
