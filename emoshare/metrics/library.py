"""Classes of torchmetrics as metrics: `metrics=[scc,ccc,torchmetrics.KendallRankCorrCoef]`.

Those of its regression metrics that score a column of numbers; and classes of the user's own below torchmetrics.Metric.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from emoshare.core.errors import EmoshareError
from emoshare.core.outside import extends

LIBRARY = re.compile(r"torchmetrics\.(regression\.)?[A-Z]\w+")  # a run that names one may be read without --allow
REMEDY = "write a function (true (N, E), predicted (N, E)) -> (E,) that calls it"


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
    correlation, direction = code.__name__.endswith("CorrCoef"), code.higher_is_better
    if direction is None and not correlation:
        raise EmoshareError(f"{name}: torchmetrics does not say whether higher is better; {REMEDY}")
    function: Any = _columns(code)
    function.greater_is_better, function.correlation = direction is not False, correlation
    function.label = code.__name__
    return function


def _columns(code: Callable[[], Any]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The function that scores each column by an object of its own, in float64 as far as the class goes along."""

    def score(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        import torch

        scores = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of buffers, and of constant columns, which `Metric.score` settles
            for labels, shares in zip(true.T, predicted.T, strict=True):
                metric = code().set_dtype(torch.float64)
                metric.update(torch.tensor(shares), torch.tensor(labels))  # torchmetrics has predictions first
                scores.append(float(metric.compute()))
        return np.array(scores)

    return score
