"""Calibrated shares, and intervals for single predictions: what a predicted share says of the true one.

A map of each target's predicted shares onto the true ones (linear or isotonic) is fitted on devel. Intervals are
conformal (Vovk, Cross-conformal predictors, Ann. Math. Artif. Intell. 74, 2015): the errors that maps fitted on the
other clips make on each clip are ordered, and the interval of a new clip reaches from its calibrated share plus the
α/2 quantile of these errors to that plus the 1 - α/2 quantile. For clips like those of devel it holds the true share
of a new one with a chance of about 1 - α, whatever the model. devel also chose the model's epoch or setting, which
makes its errors a little too small: what test tells of coverage, where labels are known, is the harder check.

Shapes: N clips, E targets, K knots of a map.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from emoshare.core.folds import random_folds
from emoshare.metrics.agreement import CCC
from emoshare.metrics.scores import mean_score

FOLDS = 5  # of devel: a map is fitted on four and measured on the fifth
FEWEST = 10  # clips of devel: fewer give no map and no interval


def fewest_clips(level: float) -> int:
    """The least number of devel clips: with fewer, intervals of a level would hold all shares."""
    return max(FEWEST, math.ceil(2 / (1 - level) - 1 - 1e-6))


@dataclass(frozen=True)
class Interval:
    """The map and the errors of one target."""

    x: list[float]  # (K,) predicted shares, rising
    y: list[float]  # (K,) true shares on average; between two knots a line, outside the nearest knot's
    low: float  # α/2 quantile of true minus calibrated share
    high: float  # 1 - α/2 quantile

    def calibrate(self, shares: np.ndarray) -> np.ndarray:
        """(N,) predicted → (N,) calibrated shares, within 0 and 1."""
        return apply_map(shares, self.x, self.y)

    def bounds(self, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N,) predicted shares → (N,) lower and upper ends of the intervals of the true ones, within 0 and 1."""
        middle = self.calibrate(shares)
        return np.clip(middle + self.low, 0, 1), np.clip(middle + self.high, 0, 1)


@dataclass(frozen=True)
class Measured:
    """The quality of calibrated shares and their intervals on a partition."""

    coverage: dict[str, float]  # share of clips whose true share lies in its interval: "mean" and each target
    width: dict[str, float]  # of the intervals
    ccc: list[float | None]  # before and after calibration, means over the targets; None where it is not defined
    mae: list[float]


@dataclass(frozen=True)
class Intervals:
    """The map and the errors of every target, fitted on devel, and how they do on each partition with labels."""

    level: float  # share of clips whose true share is to lie in its interval
    calibration: str  # linear | isotonic | none
    targets: dict[str, Interval]
    measured: dict[str, Measured] = field(default_factory=dict)  # devel by cross-fitting

    def apply(self, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Calibrated shares and both ends of their intervals, each (N, E), of predicted ones (N, E)."""
        columns = list(self.targets.values())
        ends = [column.bounds(shares[:, e]) for e, column in enumerate(columns)]
        calibrated = np.stack([column.calibrate(shares[:, e]) for e, column in enumerate(columns)], 1)
        return calibrated, np.stack([low for low, _ in ends], 1), np.stack([high for _, high in ends], 1)


def fit_map(predicted: np.ndarray, true: np.ndarray, kind: str) -> tuple[list[float], list[float]]:
    """The knots of a map of one target, (N,) and (N,) → K and K numbers.

    kind: linear (least squares), isotonic (the rising steps of least squares), or none.
    """
    if kind == "none":
        return [0.0, 1.0], [0.0, 1.0]
    if kind == "isotonic":
        from sklearn.isotonic import IsotonicRegression

        model = IsotonicRegression(y_min=0, y_max=1).fit(predicted, true)
        return model.X_thresholds_.tolist(), model.y_thresholds_.tolist()
    spread = np.var(predicted)
    slope = max(float(np.mean((predicted - predicted.mean()) * (true - true.mean())) / spread), 0.0) if spread else 0.0
    middle, mean = float(np.mean(predicted)), float(np.mean(true))
    return [0.0, 1.0], [mean - slope * middle, mean + slope * (1 - middle)]


def apply_map(shares: np.ndarray, x: list[float], y: list[float]) -> np.ndarray:
    """(N,) predicted shares → (N,) by the knots of a map, cut to 0 and 1: a line may leave them."""
    return np.clip(np.interp(shares, x, y), 0, 1)


def quantiles(errors: np.ndarray, level: float) -> tuple[float, float]:
    """The ends that hold a new error with a chance of `level`: the order statistics of a conformal set.

    Ranks floor((N + 1) α / 2) and ceil((N + 1) (1 - α / 2)); -1 and 1, which is all that shares allow, where there are
    too few errors for one of them.
    """
    ordered, alpha = np.sort(errors), 1 - level
    count = len(ordered)
    low, high = math.floor((count + 1) * alpha / 2 + 1e-9), math.ceil((count + 1) * (1 - alpha / 2) - 1e-9)
    return float(ordered[low - 1]) if low >= 1 else -1.0, float(ordered[high - 1]) if high <= count else 1.0


def fit(
    predicted: Mapping[str, np.ndarray],
    true: Mapping[str, np.ndarray],
    targets: tuple[str, ...],
    clusters: np.ndarray | None = None,
    level: float = 0.9,
    kind: str = "linear",
) -> Intervals | None:
    """Maps and intervals from devel, and how they do on each partition with labels; None where devel is too small.

    Args:
        predicted: partition → (N, E); devel among them.
        true: partition → (N, E), for those with labels.
        clusters: (N,) of devel, numbers of clips that belong together, as those of a speaker: never on both sides.
        level: share of clips whose true share is to lie in its interval.
        kind: of the maps: linear, isotonic or none.
    """
    shares, labels = (part["devel"].astype(np.float64) for part in (predicted, true))
    units = np.arange(len(shares)) if clusters is None else clusters
    if len(np.unique(units)) < FOLDS or len(shares) < fewest_clips(level) or not np.isfinite(shares).all():
        return None
    folds = random_folds(units, FOLDS)
    columns = [_cross_fit(shares[:, e], labels[:, e], folds, level, kind) for e in range(len(targets))]
    middle, low, high = (np.stack([getattr(c, name) for c in columns], 1) for name in ("middle", "low", "high"))
    measured = {"devel": _measure(shares, labels, middle, low, high, targets)}
    maps = {name: column.interval for name, column in zip(targets, columns, strict=True)}
    fitted = Intervals(level, kind, maps, measured)
    for name in true.keys() - {"devel"}:
        new = predicted[name].astype(np.float64)
        measured[name] = _measure(new, true[name].astype(np.float64), *fitted.apply(new), targets)
    return fitted


@dataclass(frozen=True)
class _Fitted:
    interval: Interval  # from all clips of devel
    middle: np.ndarray  # (N,) calibrated shares, each by a map that its fold had no part in
    low: np.ndarray  # (N,) ends of intervals by errors of the other folds alone
    high: np.ndarray


def _cross_fit(predicted: np.ndarray, true: np.ndarray, folds: np.ndarray, level: float, kind: str) -> _Fitted:
    middle, low, high = np.empty((3, len(true)))
    for fold in range(FOLDS):
        inside = folds == fold
        middle[inside] = apply_map(predicted[inside], *fit_map(predicted[~inside], true[~inside], kind))
    for fold in range(FOLDS):
        inside = folds == fold
        ends = quantiles((true - middle)[~inside], level)
        low[inside], high[inside] = (np.clip(middle[inside] + end, 0, 1) for end in ends)
    interval = Interval(*fit_map(predicted, true, kind), *quantiles(true - middle, level))
    return _Fitted(interval, middle, low, high)


def _measure(
    before: np.ndarray, true: np.ndarray, after: np.ndarray, low: np.ndarray, high: np.ndarray, targets: tuple[str, ...]
) -> Measured:
    """All (N, E)."""
    inside = ((low - 1e-9 <= true) & (true <= high + 1e-9)).mean(axis=0)
    coverage, width = (
        {"mean": float(values.mean()), **dict(zip(targets, values.tolist(), strict=True))}
        for values in (inside, (high - low).mean(axis=0))
    )
    pair = (before, after)
    errors = [float(np.abs(shares - true).mean()) for shares in pair]
    return Measured(coverage, width, [_concordance(shares, true) for shares in pair], errors)


def _concordance(x: np.ndarray, y: np.ndarray) -> float | None:
    """Lin's CCC, (N, E) and (N, E), mean over targets; None where it is not defined."""
    value = float(mean_score(CCC.score(y, x)))
    return value if math.isfinite(value) else None
