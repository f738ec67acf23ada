"""Scores of a finished run by metrics that were configured later, computed from its tables."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from emoshare.metrics.metric import score_table
from emoshare.metrics.registry import metrics_of, own_metrics
from emoshare.runs.predictions import verified_shares
from emoshare.runs.results import Results

if TYPE_CHECKING:
    from emoshare.runs.resolved import ResolvedRun


def complete_scores(resolved: ResolvedRun, results: Results) -> Results:
    """A finished run's results with all metrics of its present config; results.json is written where any lacked.

    Raises:
        EmoshareError: a table is missing or damaged, or a metric cannot be used.
    """
    run, config = resolved.run, resolved.config
    asked = list(dict.fromkeys([*results.config["metrics"], *config.metrics]))
    facts = own_metrics(metrics_of(config))
    missing = [
        metric
        for metric in metrics_of(config)
        if metric.name not in results.metrics["devel"] or results.own_metrics.get(metric.name) != facts.get(metric.name)
    ]
    if not missing and asked == results.config["metrics"]:
        return results
    metrics: dict[str, Any] = {}
    for part, scores in results.metrics.items():
        names = (f"{kind}/{part}.csv" for kind in ("reference", "predictions"))
        tables = (verified_shares(run.folder, name, results)[1] for name in names)
        true, predicted = (table.astype(np.float32) for table in tables)
        metrics[part] = scores | score_table(missing, true, predicted, results.targets)
    completed = replace(
        results, metrics=metrics, config=results.config | {"metrics": asked}, own_metrics=results.own_metrics | facts
    )
    with suppress(OSError):  # read-only: the report computes the scores
        completed.write(run.results_path)
    return completed
