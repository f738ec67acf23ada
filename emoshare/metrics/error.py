"""Errors, in the unit of the shares: MAE, MSE and RMSE. Lower is better, and constant labels have one.

Shapes: N clips, E targets, B resamples, R runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from emoshare.metrics.metric import Metric, Resampled


def absolute_error(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Mean absolute error of each column, MAE = (1 / N) Σ |x − y|: (N, E) and (N, E) → (E,).

    >>> absolute_error(np.array([[0.1], [0.5]]), np.array([[0.2], [0.2]])).round(9)
    array([0.2])

    The metric by which the baselines of ComParE 2023 were tuned; a prediction of the median has the least.
    """
    return np.abs(predicted - true).mean(axis=0)


def squared_error(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Mean squared error of each column, MSE = (1 / N) Σ (x − y)²: (N, E) and (N, E) → (E,).

    >>> squared_error(np.array([[0.1], [0.5]]), np.array([[0.2], [0.2]])).round(9)
    array([0.05])
    """
    return np.square(predicted - true).mean(axis=0)


def root_squared_error(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Root mean squared error of each column, RMSE = √MSE: (N, E) and (N, E) → (E,).

    >>> root_squared_error(np.array([[0.1], [0.5]]), np.array([[0.2], [0.2]])).round(3)
    array([0.224])
    """
    return np.sqrt(squared_error(true, predicted))


def resampled_mean(
    error: Callable[[np.ndarray], np.ndarray], finish: Callable[[np.ndarray], np.ndarray] = np.asarray
) -> Resampled:
    """The resampled form of a mean over clips: `finish` of the mean of `error` of the differences x − y."""

    def score(true: np.ndarray, predicted: Sequence[np.ndarray], counts: np.ndarray) -> np.ndarray:
        drawn = counts.sum(axis=0)  # (B,)
        sums = np.stack([error(run - true).T @ counts for run in predicted])  # (R, E, B)
        return finish(np.divide(sums, drawn, out=np.full(sums.shape, np.nan), where=drawn > 0))

    return score


MAE = Metric(
    "mae", "MAE", absolute_error, False, resampled=resampled_mean(np.abs), unit=1,
    meaning="Mean absolute error (MAE)",
)  # fmt: skip
MSE = Metric(
    "mse", "MSE", squared_error, False, resampled=resampled_mean(np.square), unit=2,
    meaning="Mean squared error (MSE)",
)  # fmt: skip
RMSE = Metric(
    "rmse", "RMSE", root_squared_error, False, resampled=resampled_mean(np.square, np.sqrt), unit=1,
    meaning="Root mean squared error (RMSE)",
)  # fmt: skip
