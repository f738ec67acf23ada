"""Values that count as one number, because float32 cannot tell them apart."""

from __future__ import annotations

import numpy as np

FLOOR = 1e-12  # of shares around 0, where a relative one does not hold back the rounding of float64
RESOLUTION = 4 * float(np.finfo(np.float32).eps)  # relative: a few units in the last place, as rounding leaves them


def is_constant(values: np.ndarray) -> np.ndarray:
    """Whether the values of each column are one number within float32's resolution: (N, E) → (E,) bool.

    A spread (largest minus least value) of at most 4 · 2⁻²³ ≈ 5e-7 times the largest magnitude, or of 1e-12, is
    rounding noise, whose ranks say nothing. A column of one value is constant; one with NaN or infinite values is not.
    """
    values = np.asarray(values, np.float64)
    if not len(values):
        return np.ones(values.shape[1:], bool)
    low, high = values.min(axis=0), values.max(axis=0)
    with np.errstate(invalid="ignore"):
        spread = high - low
    return np.isfinite(spread) & (spread <= resolution(np.maximum(np.abs(low), np.abs(high))))


def resolution(magnitude: np.ndarray) -> np.ndarray:
    """The largest difference that counts as none between numbers of this magnitude."""
    return np.maximum(RESOLUTION * magnitude, FLOOR)
