"""Lin's concordance correlation coefficient, CCC: for the metric, the loss and the bootstrap.

Shapes: N clips, E targets, B resamples, R runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from emoshare.metrics.metric import Metric, root_of_reliability

Array = TypeVar("Array", bound=Any)  # a numpy array, or a tensor of PyTorch, through which gradients flow


def concordance(true: Array, predicted: Array, epsilon: float = 0.0) -> Array:
    """Lin's concordance correlation coefficient of each column.

        CCC = 2 σ_xy / (σ_x² + σ_y² + (μ_x − μ_y)²)

    of predictions x and true shares y, with population moments (divided by n): Lin (1989), A concordance correlation
    coefficient to evaluate reproducibility, Biometrics 45(1). Identical columns score 1, whatever their number; a
    wrong scale or mean lowers it, as it does not lower a correlation.

    >>> concordance(np.array([[0.1], [0.2], [0.4]]), np.array([[0.2], [0.4], [0.8]])).round(3)
    array([0.471])

    Args:
        true: (N, E), an array of numpy or a tensor.
        predicted: (N, E), of the same clips.
        epsilon: added to the denominator, so that two equal constants give 0 and finite gradients instead of NaN.

    Returns:
        (E,) values in [-1, 1]; NaN where both columns are one and the same constant and epsilon is 0.
    """
    dx, dy = predicted - predicted.mean(0), true - true.mean(0)  # (N, E)
    covariance = (dx * dy).mean(0)  # (E,)
    bias = predicted.mean(0) - true.mean(0)
    spread = (dx * dx).mean(0) + (dy * dy).mean(0) + bias * bias
    return 2 * covariance / (spread + epsilon)


def resampled_concordance(true: np.ndarray, predicted: Sequence[np.ndarray], counts: np.ndarray) -> np.ndarray:
    """`concordance` within each resample: (N, E), R times (N, E), (N, B) → (R, E, B); noise where a column is constant.

    All moments of all resamples are one product of matrices.
    """
    scores = []
    for run in predicted:
        mx, my, xx, yy, xy = moments(true, run, counts)
        below = xx + yy + (mx - my) ** 2
        scores.append(np.divide(2 * xy, below, out=np.zeros_like(below), where=below > 1e-15))
    return np.stack(scores)


def moments(true: np.ndarray, run: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, ...]:
    """Means of predictions and labels, their variances and their covariance within each resample.

    (N, E), (N, E) and (N, B) → five times (E, B), all divided by the number of clips.
    """
    drawn = np.maximum(counts.sum(axis=0), 1)  # clips of each resample
    origin = true.mean(0)  # moments about the middle of the data lose no digits
    x, y = run - origin, true - origin
    means = np.concatenate([x, y, x * x, y * y, x * y], axis=1).T @ counts / drawn  # (5 E, B)
    mx, my, xx, yy, xy = means.reshape(5, true.shape[1], -1)
    return mx, my, xx - mx**2, yy - my**2, xy - mx * my


CCC = Metric(
    "ccc", "CCC", concordance, correlation=True, resampled=resampled_concordance, meaning="Lin's concordance (CCC)",
    attainable=root_of_reliability,
)  # fmt: skip
