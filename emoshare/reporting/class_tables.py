"""The report's tables of one-hot labels, where each clip is of one class: accuracy, UAR and confusion of the best cell.

Shapes: R runs of a cell, E targets, B resamples.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from emoshare.metrics import bootstrap
from emoshare.models.classes import class_replicates, class_scores, confusion_matrix
from emoshare.reporting.analysis import Report, Score, over_runs
from emoshare.reporting.formats import Entry, Table, interval, number, score
from emoshare.reporting.score_tables import with_std

TITLES = {"accuracy": "Accuracy", "uar": "UAR"}


def tables_of_classes(report: Report) -> list[Table]:
    """Empty where labels are shares."""
    if not report.study.labels["devel"].one_hot:
        return []
    return [classes(report), confusion(report)]


def score_classes(report: Report, partition: str) -> dict[str, Score]:
    """Accuracy and UAR of the best cell on a partition, with their intervals."""
    labels = report.study.labels[partition]
    predicted = [report.study.predictions(run, partition) for run in report.best.runs]
    once = np.ones((len(labels.files), 1))
    points = np.stack([class_scores(labels.shares, run, once)[:, 0] for run in predicted], axis=1)  # (2, R)
    drawn = class_replicates(labels.shares, predicted, labels.clusters, report.resamples).mean(axis=1)  # (2, B)
    scores = {}
    for name, values, resampled in zip(TITLES, points, drawn, strict=True):
        point = over_runs(values)
        scores[name] = Score(point.mean, point.std, *bootstrap.interval(resampled))
    return scores


def classes(report: Report) -> Table:
    """Accuracy and UAR of the best cell on each partition, beside what guessing reaches."""
    rows, records = [], []
    targets = report.study.targets
    for part in [name for name, labels in report.study.labels.items() if labels.one_hot]:
        scores, shares = score_classes(report, part), report.study.labels[part].shares
        largest = int(shares.sum(axis=0).argmax())
        common = float(shares[:, largest].mean())
        entries = [Entry(with_std(item), interval(item.low, item.high)) for item in scores.values()]
        rows.append([Entry(part), *entries, Entry(score(common), targets[largest]), Entry(score(1 / len(targets)))])
        record: dict[str, Any] = {"partition": part, "largest": common, "guess_uar": 1 / len(targets)}
        for name, item in scores.items():
            record |= item.record(name)
        records.append(record)
    note = f"{report.short_label(report.best)}. A clip's class is the emotion with the highest share. UAR: unweighted "
    note += f"average recall. In brackets the 95 % bootstrap interval over {report.units}. Largest class: the accuracy "
    note += "of always naming it; guess: the UAR of that, or of any guess."
    header = ("Partition", *TITLES.values(), "Largest class", "UAR of a guess")
    return Table("classes", "Emotions as classes", note, header, rows, records)


def confusion(report: Report) -> Table:
    """Counts of devel's clips by emotion (rows) and highest predicted share (columns), and each emotion's recall."""
    targets, true = report.study.targets, report.study.labels["devel"].shares
    counts = confusion_matrix(true, report.study.predictions(report.run, "devel"))
    rows, records = [], []
    for target, line in zip(targets, counts, strict=True):
        clips, right = int(line.sum()), int(line[targets.index(target)])
        recall = right / clips if clips else float("nan")
        cells = [Entry(number(int(n), 0), bold=other == target) for other, n in zip(targets, line, strict=True)]
        rows.append([Entry(target), *cells, Entry(number(clips, 0)), Entry(score(recall))])
        records.append({"target": target, **dict(zip(targets, line.tolist(), strict=True)), "recall": recall})
    note = f"Devel, the best run of {report.short_label(report.best)}{report.run.with_seed}. "
    note += "Rows: the clip's emotion; columns: the one with the highest predicted share. In bold what is right."
    return Table("recalls", "Confusion of emotions", note, ("Emotion", *targets, "Clips", "Recall"), rows, records)
