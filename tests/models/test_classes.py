"""Accuracy, UAR and confusion of one-hot labels against scikit-learn's, resample by resample."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics

from emoshare.metrics import bootstrap
from emoshare.models.classes import (
    class_intervals,
    class_lines,
    class_replicates,
    confusion_matrix,
    describe_classes,
    is_one_hot,
)

TARGETS = ("Anger", "Fear", "Joy")


def shares(clips: int = 80, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels of three classes of unequal size, and predictions that follow them somewhat."""
    rng = np.random.default_rng(seed)
    true = np.eye(3)[rng.choice(3, clips, p=[0.7, 0.25, 0.05])]
    return true, 0.5 * true + rng.random((clips, 3))


def test_scores_are_scikit_learns() -> None:
    true, predicted = shares()
    classes = true.argmax(1), predicted.argmax(1)
    found = describe_classes(true, predicted, TARGETS)
    assert found.accuracy == pytest.approx(metrics.accuracy_score(*classes))
    assert found.uar == pytest.approx(metrics.balanced_accuracy_score(*classes))
    assert found.confusion == metrics.confusion_matrix(*classes).tolist()
    assert (confusion_matrix(true, predicted) == found.confusion).all()


@pytest.mark.parametrize("clusters", [None, np.arange(80) // 8])
def test_resamples_are_those_of_the_other_scores(clusters: np.ndarray | None) -> None:
    true, predicted = shares()
    found = class_replicates(true, [predicted, true], clusters, resamples=40)
    assert found.shape == (2, 2, 40)
    assert (found[:, 1] == 1).all()
    counts = bootstrap.draw(80, range(40), 0, clusters)
    for b in range(40):
        clips = np.repeat(np.arange(80), counts[:, b].astype(int))
        y, x = true[clips].argmax(1), predicted[clips].argmax(1)
        recalls = [np.mean(x[y == k] == k) for k in np.unique(y)]  # of the classes that were drawn
        assert found[0, 0, b] == pytest.approx(np.mean(x == y))
        assert found[1, 0, b] == pytest.approx(np.mean(recalls))


def test_one_hot() -> None:
    true, _ = shares()
    assert is_one_hot(true)
    assert not is_one_hot(true[:, :2])  # clips of none
    assert not is_one_hot(0.9 * true)
    assert not is_one_hot(np.ones((4, 1)))


def test_a_line_for_the_terminal() -> None:
    true, predicted = shares()
    told = describe_classes(true, predicted, TARGETS)
    line, ceiling = class_lines({"devel": told}, TARGETS)
    scores = f"accuracy {told.accuracy:.3f}, UAR {told.uar:.3f} (a guess: 0.333)"
    assert line == f"devel: {scores}; SCC ≤ {told.scc_ceiling['mean']:.3f}"
    assert "without ties" in ceiling
    told = replace(told, intervals=class_intervals(true, predicted, None))
    assert f"accuracy {told.accuracy:.3f} [" in class_lines({"devel": told}, TARGETS)[0]
    assert class_lines({}, TARGETS) == []
