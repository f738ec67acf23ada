"""The rules of scores: constants, the mean over targets, and the ceiling of SCC, against what they say."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import spearmanr

from emoshare.core.spread import is_constant
from emoshare.metrics.scores import count_text, mean_score, remark_lines, remarks, scc_ceiling, score_record


@pytest.mark.parametrize("level", [1e-6, 0.0024, 1 / 3, 1.0, 300.0])
def test_a_spread_that_float32_cannot_tell_is_none(level: float) -> None:
    row = np.linspace(0, 1, 7)
    columns = [level * (1 + spread * row) for spread in (0.0, 1e-16, 3e-16, 1e-8, 1.2e-7, 1e-5, 1e-3)]
    assert is_constant(np.stack(columns, 1)).tolist() == [True] * 5 + [False] * 2
    neighbours = np.full(4, level, np.float32)
    neighbours[2] = np.nextafter(neighbours[2], np.float32(1e9))
    assert is_constant(neighbours[:, None]).all()


def test_small_numbers_that_differ_are_no_constant() -> None:
    assert not is_constant(np.array([[1e-10], [2e-10], [0.0]])).any()  # of a sigmoid
    assert is_constant(np.array([[1e-17], [-2e-17], [0.0]])).all()  # of a regression that predicts 0
    assert not is_constant(np.array([[-1e-9], [1e-9]])).any()
    assert is_constant(np.array([[0.3, 0.0]])).all()  # one clip
    assert not is_constant(np.array([[np.nan, 0.3], [0.3, np.inf]])).any()


def test_the_mean_is_over_what_is_defined() -> None:
    nan = np.nan
    assert mean_score(np.array([0.2, nan, 0.4])) == pytest.approx(0.3)
    np.testing.assert_allclose(mean_score(np.array([[0.2, nan], [nan, nan], [0.6, 0.5]]), axis=0), [0.4, 0.5])
    assert np.isnan(mean_score(np.array([nan, nan])))
    values = np.random.default_rng(0).random((3, 9, 5))
    assert (mean_score(values, axis=1) == values.mean(axis=1)).all()  # to the last digit
    assert score_record(np.array([0.5, nan]), ("Anger", "Joy"))["mean"] == 0.5


def test_remarks_name_partition_and_targets() -> None:
    true = {"devel": np.array([[0.1, 0.2, 0.3], [0.1, 0.4, 0.9]]), "test": np.array([[0.1, 0.2, 0.3], [0.5, 0.4, 0.9]])}
    predicted = {part: np.array([[0.5, 0.5, 0.1], [0.5, 0.5 + 1e-12, 0.2]]) for part in true}
    found = remarks(predicted, true, ("Anger", "Fear", "Joy"))
    assert found == {"undefined": {"devel": ["Anger"]}, "constant": {"devel": ["Fear"], "test": ["Anger", "Fear"]}}
    assert count_text(found, "devel", ("Anger", "Fear", "Joy")) == "2 of 3 targets"
    assert count_text(found, "test", ("Anger", "Fear", "Joy")) == ""
    assert remark_lines(found, ("Anger", "Fear", "Joy")) == [
        "devel: means are over 2 of 3 targets; undefined, as all labels are equal: Anger",
        "devel: constant predictions, one share for all clips, scored 0: Fear",
        "test: constant predictions, one share for all clips, scored 0: Anger, Fear",
    ]


@pytest.mark.parametrize(
    "labels",
    [[0, 0, 0, 0, 0, 1], [0, 0, 0, 1, 1, 1], [0, 0.2, 0.2, 0.5, 0.5, 0.5], [0, 1, 2, 3, 4, 5], [0, 0, 0, 1, 2, 2]],
)
def test_the_ceiling_is_the_best_of_all_orders(labels: list[float]) -> None:
    best = max(spearmanr(order, labels).statistic for order in permutations(range(6)))
    assert scc_ceiling(np.array(labels, float)[:, None])[0] == pytest.approx(best, abs=1e-12)


def test_the_ceiling_of_one_hot_labels_and_of_constants() -> None:
    true = np.tile(np.eye(9), (1000, 1))
    np.testing.assert_allclose(scc_ceiling(true), np.sqrt(3 * 1 / 9 * 8 / 9), atol=1e-6)
    assert np.isnan(scc_ceiling(np.full((5, 1), 0.3))).all()
    assert np.isnan(scc_ceiling(np.full((1, 1), 0.3))).all()
