"""Intervals of single predictions hold what they promise, on simulated shares; maps against numpy and scikit-learn."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from emoshare.core.folds import random_folds
from emoshare.core.records import record_of, to_json
from emoshare.models import conformal

TARGETS = ("Joy", "Fear")


def drawn(rng: np.random.Generator, clips: int) -> tuple[np.ndarray, np.ndarray]:
    """Skewed shares, and predictions that are too narrow and too low, with errors that grow with the share."""
    true = rng.beta(1.2, 3, (clips, len(TARGETS)))
    return true, np.clip(0.1 + 0.4 * true + 0.15 * np.sqrt(true) * rng.normal(size=true.shape), 0, 1)


@pytest.mark.parametrize("kind", ["linear", "isotonic", "none"])
@pytest.mark.parametrize("level", [0.8, 0.9])
def test_coverage_on_new_clips(kind: str, level: float) -> None:
    rng, inside = np.random.default_rng(0), []
    for _ in range(25):
        true, predicted = drawn(rng, 150)
        found = conformal.fit({"devel": predicted}, {"devel": true}, TARGETS, level=level, kind=kind)
        true, predicted = drawn(rng, 2000)
        _, low, high = found.apply(predicted)
        inside.append(((low <= true) & (true <= high)).mean())
    assert np.mean(inside) == pytest.approx(level, abs=0.015)


def test_the_coverage_that_is_told_is_that_of_new_clips() -> None:
    rng = np.random.default_rng(1)
    (true, predicted), (new, other) = drawn(rng, 1500), drawn(rng, 1500)
    found = conformal.fit({"devel": predicted, "test": other}, {"devel": true, "test": new}, TARGETS)
    for part in ("devel", "test"):
        told = found.measured[part]
        assert told.coverage["mean"] == pytest.approx(0.9, abs=0.02)
        assert told.coverage.keys() == {"mean", *TARGETS}
        assert told.ccc[1] > told.ccc[0] + 0.1  # the scale is mended
        assert told.mae[1] < told.mae[0]
    _, low, high = found.apply(other)
    assert found.measured["test"].width["Fear"] == pytest.approx((high - low)[:, 1].mean())
    assert record_of(conformal.Intervals, json.loads(json.dumps(to_json(found)))) == found


def test_a_map_that_learns_by_heart_is_not_believed() -> None:
    """Predictions without any meaning: a map fitted and measured on the same clips would look better than it is."""
    rng = np.random.default_rng(2)
    true, predicted = rng.random((200, 2)), rng.random((200, 2))
    told = conformal.fit({"devel": predicted}, {"devel": true}, TARGETS, kind="isotonic").measured["devel"]
    assert told.coverage["mean"] == pytest.approx(0.9, abs=0.03)
    assert told.ccc[1] < 0.05


def test_speakers_stay_on_one_side() -> None:
    units = np.random.default_rng(0).integers(0, 40, 300)
    folds = random_folds(units, conformal.FOLDS)
    assert all(len(set(folds[units == unit].tolist())) == 1 for unit in np.unique(units))
    assert set(folds.tolist()) == set(range(conformal.FOLDS))


def test_new_speakers_are_covered_where_speakers_differ() -> None:
    """All errors are a speaker's own."""
    rng, inside = np.random.default_rng(3), []
    for _ in range(25):
        sides = []
        for _ in range(2):
            unit = np.repeat(np.arange(60), 5)
            true = rng.beta(2, 3, (300, 2))
            sides.append((true, np.clip(true + 0.15 * rng.normal(size=(60, 2))[unit], 0, 1), unit))
        (true, predicted, unit), (new, other, _) = sides
        _, low, high = conformal.fit({"devel": predicted}, {"devel": true}, TARGETS, unit).apply(other)
        inside.append(((low <= new) & (new <= high)).mean())
    assert np.mean(inside) == pytest.approx(0.9, abs=0.03)


def test_maps() -> None:
    true, predicted = drawn(np.random.default_rng(4), 100)
    x, y = conformal.fit_map(predicted[:, 0], true[:, 0], "linear")
    slope, offset = np.polyfit(predicted[:, 0], true[:, 0], 1)
    np.testing.assert_allclose(np.interp([0.2, 0.7], x, y), offset + slope * np.array([0.2, 0.7]), atol=1e-9)
    x, y = conformal.fit_map(predicted[:, 0], true[:, 0], "isotonic")
    expected = IsotonicRegression().fit(predicted[:, 0], true[:, 0]).predict(predicted[:, 0])
    np.testing.assert_allclose(np.interp(predicted[:, 0], x, y), expected, atol=1e-9)
    assert conformal.fit_map(np.full(9, 0.3), true[:9, 0], "linear")[1] == pytest.approx([true[:9, 0].mean()] * 2)
    assert conformal.fit_map(predicted[:, 0], 1 - predicted[:, 0], "linear")[1][0] == pytest.approx(
        1 - predicted[:, 0].mean()
    )  # never a falling line: the mean instead


def test_quantiles_are_the_order_statistics_of_a_conformal_set() -> None:
    errors = np.random.default_rng(0).permutation(np.arange(1, 20)) / 100  # 19 errors: ranks 1 and 19 for 0.9
    assert conformal.quantiles(errors, 0.9) == (0.01, 0.19)
    assert conformal.quantiles(errors[:18], 0.9) == (-1.0, 1.0)
    assert conformal.quantiles(np.arange(1, 40) / 100, 0.9) == (0.02, 0.38)


def test_too_few_clips_or_no_numbers_give_none() -> None:
    true, predicted = drawn(np.random.default_rng(5), 18)
    assert conformal.fit({"devel": predicted}, {"devel": true}, TARGETS) is None
    true, predicted = drawn(np.random.default_rng(5), 100)
    assert conformal.fit({"devel": predicted}, {"devel": true}, TARGETS, np.arange(100) // 30) is None
    assert conformal.fit({"devel": np.full_like(predicted, np.nan)}, {"devel": true}, TARGETS) is None


def test_ends_are_shares() -> None:
    interval = conformal.Interval([0.0, 1.0], [0.0, 1.0], -0.3, 0.4)
    low, high = interval.bounds(np.array([0.1, 0.5, 0.9]))
    np.testing.assert_allclose(low, [0, 0.2, 0.6])
    np.testing.assert_allclose(high, [0.5, 0.9, 1])


@pytest.mark.parametrize("kind", ["linear", "isotonic", "none"])
def test_calibrated_shares_are_shares_and_in_their_intervals(kind: str) -> None:
    """Of predictions that spread too little the line is steep, and below 0 where they are low."""
    rng = np.random.default_rng(0)
    true = rng.beta(0.5, 2, (400, 1))
    predicted = 0.3 + 0.25 * (true - true.mean()) + rng.normal(0, 0.02, true.shape)
    fitted = conformal.fit({"devel": predicted}, {"devel": true}, ("Anger",), kind=kind)
    assert fitted
    calibrated, low, high = fitted.apply(np.linspace(-0.2, 1.2, 50)[:, None])
    assert calibrated.min() >= 0
    assert calibrated.max() <= 1
    assert (low <= calibrated).all()
    assert (calibrated <= high).all()
