"""Classes of torchmetrics as metrics: `metrics=[scc,ccc,torchmetrics.KendallRankCorrCoef]`.

Those of its regression metrics that score a column of numbers; and classes of the user's own below torchmetrics.Metric.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from emoshare.core.errors import EmoshareError
from emoshare.core.outside import extends
from emoshare.core.spread import is_constant

LIBRARY = re.compile(r"torchmetrics\.(regression\.)?[A-Z]\w+")  # a run that names one may be read without --allow
REMEDY = "write a function (true (N, E), predicted (N, E)) -> (E,) that calls it"
RELATIVE = {"R2Score", "ExplainedVariance", "RelativeSquaredError"}  # to the labels' variance: none where that is 0


def is_of_library(name: str) -> bool:
    """Whether a dotted name is one of torchmetrics' regression metrics, which are no code of the user's."""
    return bool(LIBRARY.fullmatch(name))


def as_function(name: str, code: Any) -> Any:
    """A class of torchmetrics.Metric as a metric's function, with its direction; anything else as it is.

    Raises:
        EmoshareError: torchmetrics says no direction, or the name is one of its functions, or of no regression metric.
    """
    if name.startswith("torchmetrics.functional"):
        raise EmoshareError(
            f"{name}: takes (predicted, true) as tensors; name the class, as torchmetrics.R2Score, or {REMEDY}"
        )
    if not extends(code, "torchmetrics.metric.Metric"):
        return code
    if code.__module__.startswith("torchmetrics.") and not code.__module__.startswith("torchmetrics.regression."):
        raise EmoshareError(f"{name}: is no regression metric; {REMEDY}")
    if missing := [p.name for p in inspect.signature(code).parameters.values() if p.default is p.empty and p.kind < 2]:
        raise EmoshareError(f"{name}: needs {' and '.join(missing)}; name a class of yours below it that sets that")
    bases = [base.__name__ for base in code.__mro__]  # a class of the user's is as the one below which it is
    correlation, direction = any(name.endswith("CorrCoef") for name in bases), code.higher_is_better
    if direction is None and not correlation:
        raise EmoshareError(f"{name}: torchmetrics does not say whether higher is better; {REMEDY}")
    if code.__name__ == "KendallRankCorrCoef" and code.__module__.startswith("torchmetrics."):
        function: Any = _by_column(_kendall)
    else:
        function = _by_column(_object_of(code), relative=not RELATIVE.isdisjoint(bases))
    function.greater_is_better, function.correlation = direction is not False, correlation
    function.label = code.__name__
    return function


def _by_column(score: Callable[[np.ndarray, np.ndarray], float], relative: bool = False) -> Any:
    """The function that scores each column; relative: of constant labels there is no score."""

    def columns(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        without = is_constant(true) & relative
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of buffers, and of constant columns, which `Metric.score` settles
            pairs = zip(true.T, predicted.T, without, strict=True)
            return np.array([np.nan if none else score(labels, shares) for labels, shares, none in pairs])

    return columns


def _object_of(code: Callable[[], Any]) -> Callable[[np.ndarray, np.ndarray], float]:
    """The function that scores a column by an object of its own, in float64 as far as the class goes along."""

    def score(labels: np.ndarray, shares: np.ndarray) -> float:
        import torch

        metric = code().set_dtype(torch.float64)
        metric.update(torch.tensor(shares), torch.tensor(labels))  # torchmetrics has predictions first
        return float(metric.compute())

    return score


def _kendall(labels: np.ndarray, shares: np.ndarray) -> float:
    """Kendall's τ-b, for which torchmetrics compares each pair of clips: 450 times as long for 10,000 of them."""
    from scipy.stats import kendalltau

    return float(kendalltau(labels, shares, method="asymptotic").statistic)
