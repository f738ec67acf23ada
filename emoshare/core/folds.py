"""Clips divided into folds, no unit (a speaker, or each clip by itself) in two of them.

N clips, K folds.
"""

from __future__ import annotations

import numpy as np


def balanced_folds(units: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The fold of each clip, (N,) from 0 to K - 1: no unit in two folds, and folds of about equal size.

    The largest unit first, each to the fold with the fewest clips so far; units of equal size in a random order.

    Args:
        units: (N,) what each clip belongs to, as its speaker; of each clip its own where all are independent.
        count: K, at most as many as there are units.
        seed: of the order.
    """
    _, unit, sizes = np.unique(units, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(sizes))
    fold_of, filled = np.zeros(len(sizes), int), np.zeros(count, int)
    for number in order[np.argsort(-sizes[order], kind="stable")]:
        fold_of[number] = np.argmin(filled)
        filled[fold_of[number]] += sizes[number]
    return fold_of[unit]


def random_folds(units: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """The fold of each clip, (N,) from 0: as many units in each, up to one, whatever their sizes.

    Fewer than K folds where there are fewer units.
    """
    names, place = np.unique(units, return_inverse=True)
    return np.random.default_rng(seed).permutation(np.arange(len(names)) % min(count, len(names)))[place]
