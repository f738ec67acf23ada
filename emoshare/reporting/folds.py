"""Runs of folds as one: the predictions of each fold's own clips joined, as those of one run on all of them.

Shapes: N clips of a partition, E targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from emoshare.data.partition import Folds
from emoshare.metrics.metric import Metric, score_table
from emoshare.models import conformal
from emoshare.reporting.labels import Labels, predictions_of, read_labels, read_predictions
from emoshare.reporting.loaded import LoadedRun
from emoshare.runs.resampled import Resampling
from emoshare.runs.results import Best, Gain


@dataclass(frozen=True)
class Joined:
    """Finished runs, those of folds joined.

    Attributes:
        runs: one for each cell and seed.
        parted: finished folds of which others are missing: they are not counted.
        missing: for each such cell and seed a placeholder without results; its error says which folds are missing.
    """

    runs: list[LoadedRun]
    parted: list[LoadedRun]
    missing: list[LoadedRun]


def join(runs: Sequence[LoadedRun], targets: tuple[str, ...]) -> Joined:
    """Put the folds of each cell and seed together.

    runs: finished; each cell, seed and fold once.
    """
    sets: dict[Any, list[LoadedRun]] = {}
    result = Joined([], [], [])
    cells = {run.folder.name: (run.cell, run.seed) for run in runs}
    for run in runs:
        if run.results.corpus.folds:
            sets.setdefault(run.results.fusion_key(cells) or (run.cell, run.seed), []).append(run)
        else:
            result.runs.append(run)
    for parts in sets.values():
        parts.sort(key=lambda run: folds_of(run).fold)
        count = folds_of(parts[0]).of
        absent = sorted(set(range(count)) - {folds_of(run).fold for run in parts})
        if absent:
            several = "folds" if len(absent) > 1 else "fold"
            error = f"{several} {', '.join(map(str, absent))} of {count} missing, so no score"
            result.parted.extend(parts)
            result.missing.append(replace(parts[0], state="interrupted", outcome=None, cell="", error=error))
        else:
            result.runs.append(whole(parts, targets))
    return result


def folds_of(run: LoadedRun) -> Folds:
    """The division that a run is of."""
    assert run.results.corpus.folds
    return run.results.corpus.folds


def whole(parts: Sequence[LoadedRun], targets: tuple[str, ...]) -> LoadedRun:
    """The run that the folds make together: scored on the devel clips of all, and on test by their mean prediction."""
    first = parts[0].results
    joined = replace(parts[0], parts=tuple(parts))
    labels = {name: item for name in first.metrics if (item := read_labels([joined], name, targets))}
    true = {name: item.shares for name, item in labels.items()}
    predicted = {name: read_predictions(joined, name, targets, item.files) for name, item in labels.items()}
    used = [first.metric(name) for name in first.metrics["devel"]]
    metrics: dict[str, Any] = {name: score_table(used, true[name], predicted[name], targets) for name in labels}
    intervals = first.intervals
    if intervals and "devel" in labels:
        kinds = intervals.level, intervals.calibration
        intervals = conformal.fit(predicted, true, targets, labels["devel"].clusters, *kinds)
    timings = {key: sum(part.results.timings.get(key, 0.0) for part in parts) for key in first.timings}
    best = Best(first.best.epoch, metrics.get("devel", {}).get(first.main.name, {}).get("mean", first.best.score))
    clips = first.corpus.clips | {"devel": sum(part.results.corpus.clips["devel"] for part in parts)}
    corpus = replace(first.corpus, clips=clips)
    return replace(
        joined, outcome=replace(first, metrics=metrics, timings=timings, best=best, corpus=corpus, intervals=intervals)
    )


def with_gain(
    run: LoadedRun, runs: Sequence[LoadedRun], labels: Mapping[str, Labels], resampling: Mapping[str, Resampling],
    main: Metric,
) -> LoadedRun:  # fmt: skip
    """A fusion of all folds with its gain over its best member of all folds, as training/fusion.py has it for one run.

    The run as it is where it is none, or where not all of its members are among `runs`.
    """
    names = {member.run for part in run.parts for member in part.results.members}
    members = [other for other in runs if names & {part.folder.name for part in other.parts}]
    if not names or names - {part.folder.name for other in members for part in other.parts}:
        return run
    best = members[main.best([other.results.score("devel", main.name) for other in members])]
    targets, gain = tuple(run.results.targets), dict[str, dict[str, Gain]]()
    for name in run.results.metrics.keys() & labels.keys():
        read = [predictions_of(item, name, targets, labels[name].files) for item in (run, best)]
        mine, theirs = resampling[name].scores(read)
        differences = {m: run.results.score(name, m) - best.results.score(name, m) for m in mine.scores}
        gain[name] = {m: Gain(difference, *mine.gain(theirs, m)) for m, difference in differences.items()}
    fusion_best = replace(run.results.best, member=best.results.run, gain=gain)
    return replace(run, outcome=replace(run.results, best=fusion_best))
