"""Metrics of the set of emotions that a clip carries: those with more than an equal part of its shares, 1/K of K.

As speech emotion recognition scores soft labels where a clip may carry several emotions: Riera et al. (2019), No
sample left behind: towards a comprehensive evaluation of speech emotion recognition systems; Chou et al. (2024),
Minority views matter, IEEE Trans. Affective Computing; Wu et al. (2024), EMO-SUPERB. Shares are divided by their
clip's sum first.

Shapes: N clips, E targets, B resamples, R runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from emoshare.metrics.distribution import MARGIN, distributions
from emoshare.metrics.metric import Metric, Resampled


def emotion_set(shares: np.ndarray) -> np.ndarray:
    """(N, E) shares → (N, E) bool, whether an emotion has more than 1/E of its clip's sum; none where all are 0.

    >>> emotion_set(np.array([[0.4, 0.4, 0.2], [1, 1, 1]])).tolist()
    [[True, True, False], [False, False, False]]
    """
    return distributions(shares) > 1 / shares.shape[1] + MARGIN


def hits_and_errors(true: np.ndarray, predicted: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True positives, and false ones of both kinds, where clips count (N, B) times: (N, E), (N, E) → twice (E, B)."""
    t, p = emotion_set(true), emotion_set(predicted)
    return (t & p).T @ counts, (t ^ p).T @ counts


def f1(hits: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """2 TP / (2 TP + FP + FN); NaN where an emotion is in no set, neither the true nor the predicted."""
    below = 2 * hits + errors
    return np.divide(2 * hits, below, out=np.full(below.shape, np.nan), where=below > 0)


def macro_f1(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """F1 of each emotion, of the clips in whose sets it is: (N, E) and (N, E) → (E,), whose mean is the macro-F1.

        F1 = 2 TP / (2 TP + FP + FN)

    A set holds the emotions with more than 1/K of a clip's shares, of K targets (Riera et al., 2019; Chou et al., 2024;
    Wu et al., 2024, EMO-SUPERB). An emotion that is in no set, neither true nor predicted, has no F1 (NaN), and the
    mean is over the others; from 0 to 1.

    >>> macro_f1(np.array([[0.8, 0.2], [0.3, 0.7]]), np.array([[0.6, 0.4], [0.7, 0.3]])).round(3)
    array([0.667, 0.   ])
    """
    return f1(*hits_and_errors(true, predicted, np.ones((len(true), 1))))[:, 0]


def micro_f1(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """F1 of all emotions and clips together: (N, E) and (N, E) → a number, NaN where all sets are empty.

        F1 = 2 Σ TP / (2 Σ TP + Σ FP + Σ FN)

    of the same sets as macro-F1, summed over the emotions, so that frequent ones weigh more.

    >>> float(micro_f1(np.array([[0.8, 0.1, 0.1], [0.4, 0.4, 0.2]]), np.array([[0.8, 0.1, 0.1], [0.6, 0.2, 0.2]])))
    0.8
    """
    return f1(*(values.sum() for values in hits_and_errors(true, predicted, np.ones((len(true), 1)))))


def resampled_f1(pool: Callable[[np.ndarray], np.ndarray]) -> Resampled:
    """F1 within each resample, of counts (E, B) after `pool`."""

    def score(true: np.ndarray, predicted: Sequence[np.ndarray], counts: np.ndarray) -> np.ndarray:
        return np.stack([f1(*map(pool, hits_and_errors(true, run, counts))) for run in predicted])

    return score


MACRO_F1 = Metric(
    "macro_f1", "Macro-F1", macro_f1, resampled=resampled_f1(np.asarray),
    meaning="Macro-F1 of the emotions above 1/K", hub="f1",
)  # fmt: skip
MICRO_F1 = Metric(
    "micro_f1", "Micro-F1", micro_f1, resampled=resampled_f1(lambda values: values.sum(axis=0)),
    meaning="Micro-F1 of the emotions above 1/K", hub="f1", overall=True,
)  # fmt: skip
