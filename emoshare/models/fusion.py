"""Predictions of several runs made into one: weighted means, and weights that are learned without looking twice.

Shapes: R members, N clips, E emotions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

FOLDS = 5


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


def fold_numbers(clips: int, folds: int = FOLDS, seed: int = 0) -> np.ndarray:
    """(N,) the fold of each clip: a random division into parts that differ by one clip at most."""
    return np.random.default_rng(seed).permutation(clips) % min(folds, clips)


def cross_fitted(predictions: np.ndarray, true: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Out-of-fold fusion: the clips of a fold are fused with weights that were fitted on the other folds.

    Args:
        predictions: (R, N, E).
        true: (N, E).
        folds: (N,) of `fold_numbers`, with two different numbers at least.

    Returns:
        (N, E).
    """
    fused = np.empty(true.shape)
    for fold in np.unique(folds):
        out = folds == fold
        fused[out] = weighted_mean(predictions[:, out], fit_weights(predictions[:, ~out], true[~out]))
    return fused
