"""The metrics of a report: those of any of its runs' configs, computed from predictions where a run lacks one.

Shapes: N clips of a partition, E targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from emoshare.metrics.metric import Metric, score_table
from emoshare.metrics.registry import with_average
from emoshare.reporting.labels import Labels, read_predictions

if TYPE_CHECKING:
    from emoshare.reporting.loaded import LoadedRun


def metrics_of_runs(runs: Sequence[LoadedRun]) -> tuple[Metric, ...]:
    """The metrics of finished runs' configs, and Avg, in the order of tables."""
    by_name = {name: run.results.metric(name) for run in reversed(runs) for name in run.results.config["metrics"]}
    asked = dict.fromkeys(name for run in runs for name in run.results.config["metrics"])
    return tuple(by_name.get(name) or runs[0].results.metric(name) for name in with_average(list(asked)))


def with_scores(
    run: LoadedRun, metrics: Sequence[Metric], labels: Mapping[str, Labels], targets: tuple[str, ...]
) -> LoadedRun:
    """A finished run with its scores by all metrics whose functions are at hand, as these are now."""
    scores: dict[str, Any] = dict(run.results.metrics)
    for name, known in scores.items():
        missing = [metric for metric in metrics if run.results.lacks(name, metric)]
        if missing and name in labels:
            predicted = read_predictions(run, name, targets, labels[name].files)
            scores[name] = known | score_table(missing, labels[name].shares, predicted, targets)
    return run if scores == run.results.metrics else replace(run, outcome=replace(run.results, metrics=scores))
