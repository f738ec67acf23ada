"""Metrics of a clip's shares as a distribution: JSD, KLD, cosine, top-1. One number for all targets, a mean over clips.

Shares are divided by their clip's sum first, so that labels that do not add up to 1 are compared by their proportions.
Negative shares count as 0. A clip whose true shares are all 0 has no distribution and does not count; without any
other there is no score (NaN).

Shapes: N clips, E targets, B resamples, R runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from emoshare.metrics.metric import Function, Metric, Resampled

FLOOR = 1e-7  # a predicted share counts as at least, as in `models/loss.py`, so that its logarithm is a number
MARGIN = 1e-6  # shares are float32: those that differ by less are equal
OfClips = Callable[[np.ndarray, np.ndarray], np.ndarray]  # true (N, E), predicted (N, E) → (N,); NaN does not count


def distributions(shares: np.ndarray, floor: float = 0.0) -> np.ndarray:
    """Each clip's shares (N, E), at least `floor`, divided by their sum; NaN where all are 0."""
    kept = np.maximum(shares, floor)
    with np.errstate(divide="ignore", invalid="ignore"):
        return kept / kept.sum(axis=1, keepdims=True)


def divergences(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(N,) Σ t log(t / p) of distributions (N, E), in nats, with 0 log 0 = 0."""
    ratio = np.divide(true, predicted, out=np.ones_like(true), where=true > 0)
    return (true * np.log(ratio)).sum(axis=1)


def kullback_leibler(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Kullback-Leibler divergence of each clip, KLD, in nats: (N, E) and (N, E) → (N,), of which the mean is the score.

        KL(t ‖ p) = Σ t log(t / p)

    of true shares t and predictions p that add up to 1. Kullback and Leibler (1951), On information and sufficiency,
    Ann. Math. Statist. 22; a measure of label distributions since Geng (2016), Label distribution learning, IEEE TKDE
    28. 0 where both are equal; without an upper bound: a prediction counts as at least 1e-7.

    >>> kullback_leibler(np.array([[0.5, 0.5]]), np.array([[0.25, 0.75]])).round(3)  # ½ log 2 + ½ log ⅔
    array([0.144])
    """
    return divergences(distributions(true), distributions(predicted, FLOOR))


def jensen_shannon(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence of each clip, JSD, in nats: (N, E) and (N, E) → (N,), of which the mean is the score.

        JSD(t, p) = ½ KL(t ‖ m) + ½ KL(p ‖ m),  m = ½ (t + p)

    of true shares t and predictions p that add up to 1. Lin (1991), Divergence measures based on the Shannon entropy,
    IEEE Trans. Inf. Theory 37. From 0 to log 2 = 0.693, where no emotion is in both. The square root of it is the
    Jensen-Shannon distance, which scipy's `jensenshannon` gives.

    >>> jensen_shannon(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([[0.0, 1.0], [0.5, 0.5]])).round(3) + 0
    array([0.693, 0.   ])
    """
    t, p = distributions(true), distributions(predicted, FLOOR)
    middle = (t + p) / 2
    return (divergences(t, middle) + divergences(p, middle)) / 2


def cosine_similarity(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Cosine of the angle between true and predicted shares of each clip: (N, E) and (N, E) → (N,); their mean counts.

        cos(t, p) = Σ t p / √(Σ t² Σ p²)

    A measure of label distributions of Geng (2016), Label distribution learning, IEEE TKDE 28. From 0, no emotion in
    both, to 1, equal proportions; 0 where all predictions are 0.

    >>> cosine_similarity(np.array([[0.6, 0.8]]), np.array([[1.0, 0.0]])).round(9)
    array([0.6])
    """
    t, p = distributions(true), distributions(predicted)  # whose squares do not vanish, however small the shares
    cosines = (t * p).sum(axis=1) / np.sqrt((t * t).sum(axis=1) * (p * p).sum(axis=1))
    return np.where(np.isnan(p[:, 0]) & ~np.isnan(t[:, 0]), 0, cosines)


def top_agreement(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Top-1 accuracy against the majority: 1 for each clip whose highest prediction is its highest true share, else 0.

    (N, E) and (N, E) → (N,), of which the mean is the score. A clip with two highest shares has no majority and does
    not count, as clips without agreement are left out of the challenges of MSP-Podcast (Goncalves et al., 2024, Odyssey
    2024 - speech emotion recognition challenge). Of equal predictions the first counts.

    >>> top_agreement(np.array([[0.6, 0.4], [0.2, 0.8], [0.5, 0.5]]), np.array([[0.9, 0.1], [0.7, 0.3], [0.6, 0.4]]))
    array([ 1.,  0., nan])
    """
    t = distributions(true)
    majority = (t > t.max(axis=1, keepdims=True) - MARGIN).sum(axis=1) == 1
    return np.where(majority, predicted.argmax(axis=1) == true.argmax(axis=1), np.nan)


def mean_over_clips(of_clips: OfClips) -> Function:
    """The score of a partition: the mean over the clips that have a value; (N, E) and (N, E) → a number."""

    def score(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        values = of_clips(true, predicted)
        known = values[~np.isnan(values)]
        return np.asarray(known.mean() if len(known) else np.nan)

    return score


def resampled_mean_over_clips(of_clips: OfClips) -> Resampled:
    """The same within each resample: (N, E), R times (N, E), (N, B) → (R, B)."""

    def score(true: np.ndarray, predicted: Sequence[np.ndarray], counts: np.ndarray) -> np.ndarray:
        values = np.stack([of_clips(true, run) for run in predicted])  # (R, N)
        known = ~np.isnan(values)
        drawn = known @ counts
        return np.divide(np.where(known, values, 0) @ counts, drawn, out=np.full(drawn.shape, np.nan), where=drawn > 0)

    return score


def _metric(name: str, label: str, of_clips: OfClips, greater_is_better: bool, meaning: str, hub: str = "") -> Metric:
    return Metric(
        name, label, mean_over_clips(of_clips), greater_is_better, resampled=resampled_mean_over_clips(of_clips),
        meaning=meaning, hub=hub, overall=True,
    )  # fmt: skip


JSD = _metric("jsd", "JSD", jensen_shannon, False, "Jensen-Shannon divergence (JSD)")
KLD = _metric("kld", "KLD", kullback_leibler, False, "Kullback-Leibler divergence (KLD)")
COSINE = _metric("cosine", "Cosine", cosine_similarity, True, "Cosine similarity")
TOP1 = _metric("top1", "Top-1", top_agreement, True, "Top-1 accuracy against the majority", hub="accuracy")
