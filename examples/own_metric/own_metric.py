"""A metric: Kendall's τ-b, the share of pairs of clips in the right order less that of those in the wrong one."""

import numpy as np
from scipy.stats import kendalltau


def kendall(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Shares (N, E) and (N, E) → (E,) in [-1, 1]."""
    return np.array([kendalltau(t, p).statistic for t, p in zip(true.T, predicted.T, strict=True)])


kendall.label = "Kendall τ"
kendall.greater_is_better = True
