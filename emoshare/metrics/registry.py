"""The metrics by name: ours, and the user's own functions by their dotted names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from emoshare.core.config import AVERAGED, Config
from emoshare.core.errors import EmoshareError
from emoshare.core.schema import declared_keys, value_at, value_text
from emoshare.core.text import near
from emoshare.metrics.agreement import CCC, resampled_concordance
from emoshare.metrics.distribution import COSINE, JSD, KLD, TOP1
from emoshare.metrics.error import MAE, MSE, RMSE
from emoshare.metrics.label_set import MACRO_F1, MICRO_F1
from emoshare.metrics.library import as_function
from emoshare.metrics.metric import Metric, OwnMetric
from emoshare.metrics.outside import allow_named, failure, frames_text, load_object, may_import, source_hash
from emoshare.metrics.rank import PCC, SCC, resampled_spearman


def average(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The mean of SCC and CCC of each column, by which the paper selects: (N, E) and (N, E) → (E,)."""
    return (SCC.score(true, predicted) + CCC.score(true, predicted)) / len(AVERAGED)


def resampled_average(true: np.ndarray, predicted: Sequence[np.ndarray], counts: np.ndarray) -> np.ndarray:
    """`average` within each resample: (N, E), R times (N, E), (N, B) → (R, E, B)."""
    scores = [resampled_spearman(true, predicted, counts), resampled_concordance(true, predicted, counts)]
    return np.add.reduce(scores) / len(AVERAGED)


AVG = Metric(
    "avg", "Avg", average, correlation=True, resampled=resampled_average, parts=AVERAGED,
    meaning="Mean of SCC and CCC (Avg)",
)  # fmt: skip
OURS = {
    metric.name: metric for metric in (SCC, CCC, PCC, MAE, MSE, RMSE, JSD, KLD, COSINE, MACRO_F1, MICRO_F1, TOP1, AVG)
}
STANDARD = (SCC, CCC, AVG)
SELECT = ("train.select", "head.select")  # keys that hold a metric's name
PROBE = np.random.default_rng(0).random((2, 12, 3))  # true and predicted (N, E), by which a function is tried
_outside: dict[str, Metric] = {}  # the user's metrics that this process has loaded


def find(name: str) -> Metric:
    """The metric of a name, as `scc` or `my_kinds.kendall`.

    >>> find("mae").greater_is_better
    False

    Raises:
        EmoshareError: there is none, or the user's function cannot be used.
    """
    if name in OURS:
        return OURS[name]
    if "." not in name:
        raise EmoshareError(
            f"must be one of {', '.join(OURS)}, or a function of yours as my_module.{name}{near(name, [*OURS])}"
        )
    if name not in _outside:
        _outside[name] = _load(name)
    return _outside[name]


def recorded_metric(name: str, told: OwnMetric | None) -> Metric:
    """The metric of a name in a run's files; without its function where that may not be imported, or cannot be.

    told: what results.json holds of it, where it is not ours.
    """
    if name in OURS or name in _outside or may_import(name):
        return find(name)
    if told is None:
        return Metric(name, name)
    return Metric(name, told.label, greater_is_better=told.greater_is_better, overall=told.overall)


def with_average(names: Sequence[str]) -> list[str]:
    """Names of metrics, each once, and Avg after those that it is the mean of, where they are there.

    >>> with_average([*AVERAGED, "mae"])[-2:]
    ['avg', 'mae']
    """
    ordered = [name for name in dict.fromkeys(names) if name != AVG.name]
    if set(AVERAGED) <= set(ordered):
        ordered.insert(max(map(ordered.index, AVERAGED)) + 1, AVG.name)
    return ordered


def names_of(config: Config) -> list[str]:
    """The metrics of a run: those of its config, the one that it selects by, and Avg."""
    return with_average([*config.metrics, *selections(config).values()])


def selections(config: Config) -> dict[str, str]:
    """The keys that select by a metric and are read by the run → its name."""
    keys = {key: declared_keys(Config)[key].key for key in SELECT}
    return {
        name: value_at(config, name)
        for name, key in keys.items()
        if key.blocking_key(lambda other: value_at(config, other)) is None
    }


def metrics_of(config: Config) -> list[Metric]:
    """The metrics of a run of the user's own config, whose modules are imported. EmoshareError as `find`."""
    allow_named(names_of(config))
    return [find(name) for name in names_of(config)]


def asked_metrics(config: Config) -> list[Metric]:
    """The metrics that tables show: those of the config's `metrics`, and Avg."""
    names = with_average(config.metrics)
    return [metric for metric in metrics_of(config) if metric.name in names]


def own_metrics(metrics: Sequence[Metric]) -> dict[str, OwnMetric]:
    """The user's own ones among some metrics, by name."""
    return {
        m.name: OwnMetric(m.label, m.greater_is_better, source_hash(m.name), m.overall)
        for m in metrics
        if m.name not in OURS
    }


def principal(metrics: Sequence[Metric]) -> Metric:
    """The metric by which runs are ranked: Avg where it is among them, else the first."""
    return next((metric for metric in metrics if metric is AVG), metrics[0])


def problems(config: Config) -> Iterator[str]:
    """A line for every metric that a run of the user's own config cannot be scored with or selected by."""
    if not config.metrics:
        yield f"metrics=[]: must name at least one of {', '.join(OURS)}, or a function of yours as my_module.kendall"
        return
    allow_named(names_of(config))
    wrong: dict[str, None] = {}
    for name in dict.fromkeys(name for name in config.metrics if config.metrics.count(name) > 1):
        wrong[f"metrics={value_text(config.metrics)}: {name} is named twice"] = None
    for name in config.metrics:
        wrong |= dict.fromkeys(f"metrics={value_text(config.metrics)}: {line}" for line in _problem(name))
    for key, name in selections(config).items():
        if name == AVG.name and AVG.name not in names_of(config) and not wrong:
            parts = " and ".join(AVERAGED)
            remedy = f"add {key}={config.metrics[0]}, or name both"
            wrong[f"{key}={name}: is the mean of {parts}, and metrics lacks one of them; {remedy}"] = None
        wrong |= dict.fromkeys(f"{key}={name}: {line}" for line in _problem(name) if name not in config.metrics)
    yield from wrong


def _problem(name: str) -> list[str]:
    try:
        find(name)
    except EmoshareError as error:
        text = str(error).partition("\n")[0]
        return [text if "." in name else f"{name} {text}"]
    return []


def _load(name: str) -> Metric:
    """A user's function, or a class of torchmetrics, as a metric, tried on a few random shares."""
    function = as_function(name, load_object(name))
    if not callable(function):
        raise EmoshareError(f"{name}: is no function of (true, predicted)")
    greater, overall = getattr(function, "greater_is_better", True), bool(getattr(function, "overall", False))
    if not isinstance(greater, bool):
        raise EmoshareError(f"{name}: its attribute greater_is_better must be True or False, not {greater!r}")
    metric = Metric(
        name,
        str(getattr(function, "label", name.rpartition(".")[2])),
        _guard(name, function, overall),
        greater,
        bool(getattr(function, "correlation", False)),
        _resampled_form(name, function),
        meaning=str(getattr(function, "label", name)),
        overall=overall,
    )
    metric.score(*PROBE)
    return metric


def _guard(name: str, function: Callable[..., Any], overall: bool) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The function, with an error that shows where the user's code fails, and what is wrong with what it returns."""

    def score(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        values, targets = _call(name, function, true, predicted), true.shape[1]
        if values.shape != (() if overall else (targets,)):
            returned = f"the shape {values.shape}" if values.shape else "one number"
            wanted = "one number, as it is overall" if overall else f"({targets},), a number for each target"
            raise EmoshareError(f"{name}: returns {returned} for shares {true.shape}; must be {wanted}")
        return values

    return score


def _resampled_form(name: str, function: Callable[..., Any]) -> Callable[..., np.ndarray] | None:
    fast = getattr(function, "resampled", None)
    return None if fast is None else lambda *arrays: _call(f"{name}.resampled", fast, *arrays)


def _call(name: str, function: Callable[..., Any], *arrays: Any) -> np.ndarray:
    try:
        return np.asarray(function(*arrays), np.float64)
    except Exception as error:
        raise EmoshareError(f"{name}: {failure(error)}\n{frames_text(error)}".rstrip()) from error
