"""The summary of a finished run that a tracker shows: its scores with intervals, and its time and disk."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from emoshare.models.classes import class_intervals
from emoshare.runs.logger import Finished
from emoshare.runs.resampled import Predictions, Resampling
from emoshare.runs.results import Results


def summary(results: Results, more: Finished) -> dict[str, Any]:
    """The summary of a finished run: its scores with 95 % intervals, best epoch, seconds, disk.

    `best/<partition>/targets` is the number of targets that the means are over.
    """
    values: dict[str, Any] = results.best_scores()
    for part in results.metrics:
        values[f"best/{part}/targets"] = len(results.targets) - len(results.remarks.get("undefined", {}).get(part, ()))
        if classes := results.classes.get(part):
            values |= {f"best/{part}/accuracy": classes.accuracy, f"best/{part}/uar": classes.uar}
        true, predicted, clusters = more.truth[part], more.predictions[part], more.clusters[part]
        stored = Predictions.of(more.folder, part, predicted)
        (resampled,) = Resampling(true, clusters, results.scoring_metrics).scores([stored])
        ends = {name: resampled.interval(name) for name in resampled.scores}
        if part in results.classes:
            ends |= class_intervals(true, predicted, clusters)
        for name, (low, high) in ends.items():
            values |= {f"best/{part}/{name}_low": low, f"best/{part}/{name}_high": high}
    for part, gains in results.best.gain.items():  # of a fusion over its best member
        for name, gain in gains.items():
            values |= {f"gain/{part}/{name}/{key}": value for key, value in asdict(gain).items()}
    values |= {f"cost/{name}": seconds for name, seconds in results.timings.items()}
    return values | {"cost/frames_gb": results.frames.bytes / 1e9}
