"""Predictions of several runs made into one: weighted means, and weights fitted on clips that they are not scored on.

Shapes: R members, N clips, E emotions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from scipy.optimize import nnls

from emoshare.metrics.metric import Metric
from emoshare.metrics.registry import AVG
from emoshare.metrics.scores import mean_score

FOLDS = 5
ROUNDS = 25  # of the greedy selection: the smallest weight is 1 / 25


def weighted_mean(predictions: np.ndarray, weights: Sequence[float] | np.ndarray) -> np.ndarray:
    """Σ w_r p_r / Σ w_r: (R, N, E) and (R,) → (N, E). ValueError where the weights add up to 0."""
    values = np.asarray(weights, np.float64)
    if not np.isfinite(values).all() or abs(values.sum()) <= 1e-9 * np.abs(values).sum():
        raise ValueError(f"weights {values.tolist()} add up to 0 or are no numbers")
    return np.tensordot(values / values.sum(), predictions.astype(np.float64), axes=1)


def fit_weights(predictions: np.ndarray, true: np.ndarray) -> np.ndarray:
    """The weights (R,) ≥ 0 with sum 1 whose weighted mean has the least squared error, over all clips and emotions.

    Stacked regression (Breiman, 1996), one weight per member. With Σ w = 1 the error of the mean is the mean of the
    errors d_r = p_r − y, so that ‖Σ w_r d_r‖² is to be made least. Of x ≥ 0, ‖Σ x_r d_r‖² + (Σ x_r − 1)² is least at a
    multiple of that w: for x = s w the best s gives a / (1 + a) with a = ‖Σ w_r d_r‖², which grows with a. This is a
    problem of non-negative least squares, and its solution divided by its sum is w, exactly.

    Args:
        predictions: (R, N, E).
        true: (N, E).
    """
    members = len(predictions)
    errors = (predictions.astype(np.float64) - true).reshape(members, -1) / np.sqrt(true.size)  # (R, N·E)
    scale = np.sqrt(np.square(errors).sum(1).min()) or 1.0  # so that `a` is about 1, whatever the labels' spread
    x, _ = nnls(np.vstack([errors.T / scale, np.ones(members)]), np.append(np.zeros(errors.shape[1]), 1.0))
    return x / x.sum()


def select_greedily(
    predictions: np.ndarray, true: np.ndarray, rounds: int = ROUNDS, metric: Metric = AVG
) -> np.ndarray:
    """The weights (R,) ≥ 0 with sum 1 of a greedy selection with replacement, by a metric, as Avg = (SCC + CCC) / 2.

    Each round adds the member whose addition gives the mean of all added ones the best score, averaged over emotions;
    a member can be added again. Of the selections after 1, 2, … rounds the one with the best score is kept, the
    smallest among equals, and a member's weight is its part in it. Caruana et al. (2004), Ensemble Selection from
    Libraries of Models, ICML. Constant predictions count 0, and emotions with constant labels are left out.

    Args:
        predictions: (R, N, E).
        true: (N, E).
        rounds: how many members are added, at least 1.
        metric: that a selection is scored by.
    """
    members = predictions.astype(np.float64)
    counts, total = np.zeros(len(members)), np.zeros(true.shape)
    best, selection = -np.inf, counts
    for added in range(1, rounds + 1):
        scores = [float(mean_score(metric.score(true, run))) for run in (total + members) / added]  # R
        chosen = metric.best(scores)
        counts[chosen] += 1
        total += members[chosen]
        if added == 1 or metric.goodness(scores[chosen]) > best:
            best, selection = metric.goodness(scores[chosen]), counts.copy()
    return selection / selection.sum()


Fit = Callable[[np.ndarray, np.ndarray], np.ndarray]  # predictions (R, N, E) and true shares (N, E) → weights (R,)
FITS = ("learned", "greedy")


def fit_of(rule: str, metric: Metric = AVG) -> Fit:
    """The function that fits the weights of one of FITS. metric: that selects."""
    return partial(select_greedily, metric=metric) if rule == "greedy" else fit_weights


def cross_fit(
    predictions: np.ndarray, true: np.ndarray, folds: np.ndarray,
    fit: Fit = fit_weights,
) -> np.ndarray:  # fmt: skip
    """Out-of-fold fusion: the clips of a fold are fused with weights that were fitted on the other folds.

    Args:
        predictions: (R, N, E).
        true: (N, E).
        folds: (N,) of `random_folds`, with two different numbers at least.
        fit: predictions and true shares → weights, as of `fit_of`.

    Returns:
        (N, E).
    """
    fused = np.empty(true.shape)
    for fold in np.unique(folds):
        out = folds == fold
        fused[out] = weighted_mean(predictions[:, out], fit(predictions[:, ~out], true[~out]))
    return fused
