"""Scores of labels that are classes: each clip has one target with the whole share, the others with none.

The class of a prediction is the target with the highest share, of equals the first. Accuracy is the share of clips
whose class is right; UAR (unweighted average recall) the mean, over the classes that occur, of the share of a class's
clips that are found. Guessing one class, or at random, has a UAR of 1 / E.

Shapes: N clips, E targets, B resamples, R runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from emoshare.metrics.bootstrap import RESAMPLES, interval, map_resamples
from emoshare.metrics.scores import mean_score, scc_ceiling, score_record

NAMES = ("accuracy", "uar")
CEILING = "SCC ≤: the highest that predictions without ties can reach with these labels"


@dataclass(frozen=True)
class ClassScores:
    """The entry of results.json for a partition with one-hot labels."""

    accuracy: float
    uar: float
    confusion: list[list[int]]  # (E, E) clips: a row for each label, a column for each prediction
    scc_ceiling: dict[str, float | None]  # the highest SCC that predictions without ties can reach: "mean", each target
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)  # 95 %, of accuracy and UAR


def is_one_hot(shares: np.ndarray) -> bool:
    """Whether each clip has exactly one target, with the whole share: (N, E)."""
    return shares.shape[1] > 1 and bool(np.isin(shares, (0, 1)).all() and (shares.sum(axis=1) == 1).all())


def confusion_matrix(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(N, E) one-hot labels, (N, E) predictions → (E, E) counts of clips by label and highest prediction."""
    counts = np.zeros((true.shape[1], true.shape[1]), int)
    np.add.at(counts, (true.argmax(axis=1), predicted.argmax(axis=1)), 1)
    return counts


def class_scores(true: np.ndarray, predicted: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Accuracy and UAR of clips that count (N, B) times: (N, E) and (N, E) → (2, B); NaN where no clip counts."""
    right = true.argmax(axis=1) == predicted.argmax(axis=1)
    clips, hits = true.T @ counts, true.T @ (counts * right[:, None])  # (E, B) each
    recalls = np.divide(hits, clips, out=np.full(clips.shape, np.nan), where=clips > 0)
    total = clips.sum(axis=0)
    accuracy = np.divide(hits.sum(axis=0), total, out=np.full(total.shape, np.nan), where=total > 0)
    return np.stack([accuracy, mean_score(recalls, axis=0)])


def class_replicates(
    true: np.ndarray, predicted: Sequence[np.ndarray], clusters: np.ndarray | None, resamples: int = RESAMPLES
) -> np.ndarray:
    """Accuracy and UAR of R runs on the same resamples: (2, R, B). clusters: as of `bootstrap.replicates`."""

    def score(counts: np.ndarray) -> np.ndarray:
        return np.stack([class_scores(true, run, counts) for run in predicted], axis=1)

    return np.concatenate(map_resamples(score, len(true), resamples, clusters), axis=-1)


def describe_classes(true: np.ndarray, predicted: np.ndarray, targets: Sequence[str]) -> ClassScores:
    """The scores of a partition with one-hot labels: (N, E) and (N, E)."""
    accuracy, uar = class_scores(true, predicted, np.ones((len(true), 1)))[:, 0]
    ceiling: dict[str, Any] = score_record(scc_ceiling(true), targets)
    return ClassScores(float(accuracy), float(uar), confusion_matrix(true, predicted).tolist(), ceiling)


def class_lines(scores: Mapping[str, ClassScores], targets: Sequence[str]) -> list[str]:
    """Accuracy, UAR and the ceiling of SCC for a terminal, a line for each partition, with intervals where known."""
    lines = []
    for part, told in scores.items():
        texts = []
        for name, value, title in (("accuracy", told.accuracy, "accuracy"), ("uar", told.uar, "UAR")):
            ends = " [{:.3f}, {:.3f}]".format(*told.intervals[name]) if name in told.intervals else ""
            texts.append(f"{title} {value:.3f}{ends}")
        lines.append(
            f"{part}: {', '.join(texts)} (a guess: {1 / len(targets):.3f}); SCC ≤ {told.scc_ceiling['mean']:.3f}"
        )
    return [*lines, CEILING] if lines else []


def class_intervals(
    true: np.ndarray, predicted: np.ndarray, clusters: np.ndarray | None
) -> dict[str, tuple[float, float]]:
    """95 % intervals of accuracy and UAR: (N, E) and (N, E). clusters: as of `bootstrap.replicates`."""
    drawn = class_replicates(true, [predicted], clusters)[:, 0]  # (2, B)
    return {name: interval(values) for name, values in zip(NAMES, drawn, strict=True)}
