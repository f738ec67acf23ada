"""A metric is one object: its function, its names, and which of two scores is better.

Shapes: N clips, E targets, B resamples, R runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from emoshare.core.spread import is_constant
from emoshare.metrics.scores import mean_score, score_record, settle

Function = Callable[[np.ndarray, np.ndarray], np.ndarray]  # true (N, E), predicted (N, E) → (E,); overall: a number
# true (N, E), R times predicted (N, E), how often each clip was drawn (N, B) → (R, E, B); overall: (R, B)
Resampled = Callable[[np.ndarray, Sequence[np.ndarray], np.ndarray], np.ndarray]


@dataclass(frozen=True)
class OwnMetric:
    """The entry of results.json for a user's own metric."""

    label: str
    greater_is_better: bool
    source: str  # hash of its module
    overall: bool = False


@dataclass(frozen=True)
class Metric:
    """One metric.

    >>> spread = Metric("spread", "Spread", lambda true, predicted: np.ptp(predicted - true, axis=0), False)
    >>> spread.score(np.array([[0.1], [0.3]]), np.array([[0.2], [0.3]])).round(3)
    array([0.1])
    >>> spread.best([0.4, 0.1, math.nan])
    1

    Attributes:
        name: as in the config, in results.json and in metrics.csv: a word, or the dotted name of a user's function.
        label: in tables.
        function: scores of float64 arrays; None where only the scores that a run has noted are known.
        greater_is_better: its direction.
        correlation: whether it follows the rules of `scores`: NaN where labels are constant, 0 where predictions are.
        resampled: a form of `function` that is faster for many resamples; None: the function is called for each.
        parts: names of the metrics whose mean it is, so that it need not be computed where they are.
        meaning: what it is, in words.
        overall: whether it is one number for all targets together, as a divergence of a clip's shares is: it stands for
            each target in arrays, and in results.json and tables as the mean alone.
        attainable: the score of one half of the raters against the other, and how many times more there are in all →
            the best that predictions can have against all, as `ceiling.py` has it; None: not known.
        unit: its power of the labels' unit: 1 for an absolute error, 2 for a squared one, 0 for a correlation.
        hub: what the model hub calls it; empty: as `name`.
    """

    name: str
    label: str
    function: Function | None = None
    greater_is_better: bool = True
    correlation: bool = False
    resampled: Resampled | None = None
    parts: tuple[str, ...] = ()
    meaning: str = ""
    hub: str = ""
    overall: bool = False
    attainable: Callable[[np.ndarray, float], np.ndarray] | None = None
    unit: int = 0

    @property
    def sign(self) -> int:
        """The factor, 1 or -1, that makes the greatest score the best."""
        return 1 if self.greater_is_better else -1

    @property
    def mode(self) -> Literal["max", "min"]:
        """The direction as Lightning and PyTorch name it: max or min."""
        return "max" if self.greater_is_better else "min"

    @property
    def computable(self) -> bool:
        """Whether predictions can be scored; else only the scores that a run has noted are known."""
        return self.function is not None

    @property
    def facts(self) -> dict[str, Any]:
        """Everything about the metric but its function, JSON-able."""
        return {"label": self.label, "greater_is_better": self.greater_is_better, "unit": self.unit}

    def score(self, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """(N, E) and (N, E) → (E,) float64."""
        assert self.function is not None, f"{self.name}: its function is not at hand"
        true, predicted = np.asarray(true, np.float64), np.asarray(predicted, np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.asarray(self.function(true, predicted), np.float64)
        if self.overall:
            return np.full(true.shape[1], values)
        return settle(values, is_constant(predicted), is_constant(true)) if self.correlation else values

    def goodness(self, score: float | None) -> float:
        """A score, or what it is worth: greater is better, and one that is no number is worth least."""
        return -math.inf if score is None or math.isnan(score) else self.sign * score

    def best(self, scores: Sequence[float]) -> int:
        """The place of the best score, of equals the first."""
        return max(range(len(scores)), key=lambda place: self.goodness(scores[place]))


def root_of_reliability(halves: np.ndarray, times: float = 2) -> np.ndarray:
    """√(k r / (1 + (k − 1) r)) of the correlation r of two halves of the raters: the highest correlation with all.

    k: times as many as in a half (`ceiling.py`). 0 for r below 0.

    >>> root_of_reliability(np.array([0.5, 1.0, -0.1])).round(3)
    array([0.816, 1.   , 0.   ])
    """
    r = np.maximum(halves, 0)
    return np.sqrt(times * r / (1 + (times - 1) * r))


def combine(metrics: Sequence[Metric], score: Callable[[Metric], np.ndarray]) -> dict[str, np.ndarray]:
    """Metric → its scores, those with parts from the scores of these where they are all there.

    score: of a metric, arrays of one shape.
    """
    names = {metric.name for metric in metrics}
    scores: dict[str, np.ndarray] = {}
    for metric in sorted(metrics, key=lambda metric: len(metric.parts)):
        if metric.parts and names.issuperset(metric.parts):
            scores[metric.name] = np.add.reduce([scores[part] for part in metric.parts]) / len(metric.parts)
        else:
            scores[metric.name] = score(metric)
    return {metric.name: scores[metric.name] for metric in metrics}


def score_all(metrics: Sequence[Metric], true: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    """Metric → (E,): (N, E) and (N, E). A metric whose function is not at hand is left out."""
    return combine([m for m in metrics if m.computable], lambda metric: metric.score(true, predicted))


def score_table(
    metrics: Sequence[Metric], true: np.ndarray, predicted: np.ndarray, targets: Sequence[str]
) -> dict[str, dict[str, float]]:
    """`{metric: {"mean": …, target: …}}` of a whole partition; of an overall metric the mean alone.

    (N, E), (N, E) and the names of the E targets.
    """
    overall = {metric.name for metric in metrics if metric.overall}
    return {
        name: {"mean": float(values[0])} if name in overall else score_record(values, targets)
        for name, values in score_all(metrics, true, predicted).items()
    }


def mean_scores(values: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Metric → the mean over the targets, of scores (E,)."""
    return {name: float(mean_score(scores)) for name, scores in values.items()}
