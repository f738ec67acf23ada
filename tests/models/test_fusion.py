"""Fusion's arithmetic against other solvers, and that learned weights never see the clips that they are scored on."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import spearmanr

from emoshare.core.folds import random_folds
from emoshare.models.fusion import FOLDS, cross_fit, fit_weights, select_greedily, weighted_mean


def members(count: int = 4, clips: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.uniform(0, 1, (clips, 3))
    noise = rng.normal(size=(count, clips, 3)) * np.linspace(0.1, 0.5, count)[:, None, None]
    return true + noise + rng.normal(size=(count, 1, 1)) * 0.1, true


def test_weighted_mean_by_hand() -> None:
    predictions = np.array([[[1.0, 2.0]], [[3.0, 6.0]]])  # R = 2, N = 1, E = 2
    assert weighted_mean(predictions, [1, 1]).tolist() == [[2, 4]]
    assert weighted_mean(predictions, [3, 1]).tolist() == [[1.5, 3]]
    assert weighted_mean(predictions, [0.75, 0.25]).tolist() == [[1.5, 3]]


@pytest.mark.parametrize("weights", [[0, 0], [1, -1], [0.1, -0.1], [float("nan"), 1]])
def test_weights_without_a_sum_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="add up to 0"):
        weighted_mean(np.ones((2, 3, 1)), weights)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scale", [1.0, 1e-3, 100.0])
def test_fitted_weights_are_those_of_a_general_solver(seed: int, scale: float) -> None:
    predictions, true = members(seed=seed)
    predictions, true = predictions * scale, true * scale
    ours = fit_weights(predictions, true)
    assert ours.sum() == pytest.approx(1)
    assert (ours >= 0).all()

    def error(weights: np.ndarray) -> float:
        return float(np.mean((np.einsum("r,rne->ne", weights, predictions) - true) ** 2)) / scale**2

    theirs = minimize(
        error, np.full(4, 0.25), method="SLSQP", bounds=[(0, None)] * 4, options={"ftol": 1e-14, "maxiter": 500},
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
    )  # fmt: skip
    np.testing.assert_allclose(ours, theirs.x, atol=1e-4)
    assert error(ours) <= theirs.fun + 1e-12


def test_a_perfect_member_gets_all_the_weight_and_equal_ones_are_no_trouble() -> None:
    predictions, true = members()
    np.testing.assert_allclose(fit_weights(np.stack([predictions[0], true]), true), [0, 1], atol=1e-9)
    twice = fit_weights(np.stack([predictions[0], predictions[0]]), true)
    np.testing.assert_allclose(weighted_mean(np.stack([predictions[0]] * 2), twice), predictions[0])


def test_folds_are_even_and_repeatable() -> None:
    folds = random_folds(np.arange(23), FOLDS)
    assert sorted(np.bincount(folds)) == [4, 4, 5, 5, 5]
    np.testing.assert_array_equal(folds, random_folds(np.arange(23), FOLDS))
    assert len(np.unique(random_folds(np.arange(3), FOLDS))) == 3


def test_out_of_fold_predictions_do_not_depend_on_their_own_labels() -> None:
    predictions, true = members()
    folds = random_folds(np.arange(len(true)), FOLDS)
    fused = cross_fit(predictions, true, folds)
    changed = true.copy()
    changed[folds == 2] = 1 - changed[folds == 2]
    again = cross_fit(predictions, changed, folds)
    np.testing.assert_array_equal(again[folds == 2], fused[folds == 2])
    assert (again[folds != 2] != fused[folds != 2]).any(axis=1).all()
    by_hand = weighted_mean(predictions[:, folds == 1], fit_weights(predictions[:, folds != 1], true[folds != 1]))
    np.testing.assert_array_equal(fused[folds == 1], by_hand)


def test_noise_gains_nothing_out_of_fold() -> None:
    """Fitted and scored on the same clips, useless members seem to help; cross-fitted they do not."""
    scores = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        true, predictions = rng.normal(size=(40, 1)), rng.normal(size=(20, 40, 1))
        within = weighted_mean(predictions, fit_weights(predictions, true))
        outside = cross_fit(predictions, true, random_folds(np.arange(40), FOLDS))
        scores.append([np.corrcoef(fused[:, 0], true[:, 0])[0, 1] for fused in (within, outside)])
    assert np.mean(scores, axis=0)[0] > 0.3
    assert abs(np.mean(scores, axis=0)[1]) < 0.15


def average(predicted: np.ndarray, true: np.ndarray) -> float:
    """Avg from its definition: scipy's Spearman, Lin's concordance written out, the mean over emotions."""
    found = []
    for x, y in zip(predicted.T, true.T, strict=True):
        ccc = 2 * np.mean((x - x.mean()) * (y - y.mean())) / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
        found.append((spearmanr(x, y).statistic + ccc) / 2)
    return float(np.mean(found))


@pytest.mark.parametrize("seed", range(3))
def test_the_greedy_selection_is_that_of_its_definition(seed: int) -> None:
    """Caruana's algorithm with lists: add whichever member helps most, again and again, and keep the best list."""
    predictions, true = members(count=5, clips=40, seed=seed)
    bag: list[int] = []
    lists: list[tuple[float, list[int]]] = []
    for _ in range(12):
        options = [(average(predictions[[*bag, r]].mean(0), true), r) for r in range(5)]
        score, chosen = max(options)
        bag = [*bag, chosen]
        lists.append((score, bag))
    kept = max(lists, key=lambda item: item[0])[1]
    expected = np.bincount(kept, minlength=5) / len(kept)
    ours = select_greedily(predictions, true, rounds=12)
    np.testing.assert_allclose(ours, expected)
    assert len(set(kept)) > 1
    alone = max(average(member, true) for member in predictions)
    assert average(weighted_mean(predictions, ours), true) >= alone


def test_the_greedy_selection_of_perfect_and_of_constant_members() -> None:
    predictions, true = members()
    perfect = np.stack([predictions[0], true, np.full_like(true, 0.5)])
    assert select_greedily(perfect, true).tolist() == [0, 1, 0]
    np.testing.assert_allclose(select_greedily(np.stack([np.full_like(true, 0.5)] * 2), true).sum(), 1)


def test_greedy_out_of_fold_predictions_do_not_depend_on_their_own_labels() -> None:
    predictions, true = members()
    folds = random_folds(np.arange(len(true)), FOLDS)
    fused = cross_fit(predictions, true, folds, select_greedily)
    changed = true.copy()
    changed[folds == 2] = 1 - changed[folds == 2]
    again = cross_fit(predictions, changed, folds, select_greedily)
    np.testing.assert_array_equal(again[folds == 2], fused[folds == 2])
    by_hand = weighted_mean(predictions[:, folds == 1], select_greedily(predictions[:, folds != 1], true[folds != 1]))
    np.testing.assert_array_equal(fused[folds == 1], by_hand)
