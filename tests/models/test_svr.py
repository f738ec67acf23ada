"""The SVR against scikit-learn's own estimators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import LinearSVR

from emoshare.core.errors import EmoshareError
from emoshare.models import svr
from emoshare.models.svr import LOSSES, SCALERS, Model, Setting, problem, regress


def data(clips: int, features: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features on very different scales, one of them constant; two emotions that depend on them."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, (clips, features)) * 10.0 ** rng.integers(-3, 4, features) + 5
    values[:, 3] = 7.0
    shares = 0.3 + 0.1 * ((values - values.mean(0)) / (values.std(0) + 1e-9)) @ rng.normal(0, 1, (features, 2))
    return values.astype(np.float32), shares + 0.05 * rng.normal(0, 1, shares.shape)


@pytest.mark.parametrize("scaler", SCALERS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("clips", "features"), [(80, 12), (40, 90)], ids=["more clips", "more features"])
def test_it_is_scikit_learns_pipeline(tmp_path: Path, scaler: str, loss: str, clips: int, features: int) -> None:
    x, y = data(clips, features)
    fresh = data(30, features, seed=1)[0]
    with problem(x, y, scaler, tmp_path / "features.npy") as posed:
        fits = [regress(posed.path, posed.targets[:, e], Setting(scaler, loss, 0.01)) for e in range(2)]
        model = posed.model(fits)
    assert not list(tmp_path.iterdir())
    assert all(fit.converged for fit in fits)
    predicted = model.predict(fresh)
    for e in range(2):
        theirs = make_pipeline(
            {"standard": StandardScaler, "minmax": MinMaxScaler}[scaler](),
            LinearSVR(loss=loss, C=0.01, epsilon=0, dual=True, max_iter=50_000, random_state=42, tol=1e-4),
        ).fit(x.astype(np.float64), y[:, e])
        np.testing.assert_allclose(predicted[:, e], theirs.predict(fresh.astype(np.float64)), atol=1e-4)


def test_many_rows_go_in_pieces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    x, _ = data(50, 6)
    model = Model(np.arange(6.0), np.arange(1.0, 7.0), np.ones((2, 6)), np.zeros(2))
    whole = model.predict(x)
    expected = StandardScaler().fit(x.astype(np.float64))
    monkeypatch.setattr(svr, "CHUNK", 7)
    np.testing.assert_array_equal(model.predict(x), whole)
    with problem(x, np.zeros((50, 2)), "standard", tmp_path / "x.npy") as posed:
        np.testing.assert_allclose(np.load(posed.path), expected.transform(x.astype(np.float64)), atol=1e-9)


def test_no_clips_give_no_shares() -> None:
    model = Model(np.zeros(6), np.ones(6), np.ones((2, 6)), np.zeros(2))
    assert model.predict(np.empty((0, 6), np.float32)).shape == (0, 2)


def test_a_fit_is_the_same_to_the_last_digit_whoever_asks(tmp_path: Path) -> None:
    """The solution is unique; liblinear's order of clips, which the challenge's 42 draws, moves its last digits."""
    x, y = data(60, 8)
    setting = Setting("standard", "epsilon_insensitive", 10.0)
    with problem(x, y, "standard", tmp_path / "x.npy") as posed:
        np.random.seed(1)
        first, again = (regress(posed.path, posed.targets[:, 0], setting) for _ in range(2))
        challenge = LinearSVR(loss=setting.loss, C=setting.C, random_state=42, **svr.FIXED)
        challenge.fit(np.load(posed.path), posed.targets[:, 0])
    np.testing.assert_array_equal(first.weights, again.weights)
    np.testing.assert_array_equal(first.weights, challenge.coef_)


def test_a_fit_that_does_not_converge_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(svr.FIXED, "max_iter", 1)
    x, y = data(60, 8)
    with problem(x, y, "standard", tmp_path / "x.npy") as posed:
        assert not regress(posed.path, posed.targets[:, 0], Setting("standard", LOSSES[0], 10.0)).converged


def test_a_model_is_stored_as_arrays(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    model = Model(rng.normal(0, 1, 5), rng.random(5), rng.normal(0, 1, (5, 2)).T, rng.normal(0, 1, 2))
    path = tmp_path / "svr.safetensors"
    model.save(path, targets=["Anger", "Calmness"], pooling="mean")
    loaded, metadata = Model.load(path)
    assert metadata == {"targets": ["Anger", "Calmness"], "pooling": "mean"}
    for name in ("shift", "scale", "weights", "bias"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(model, name))


def test_a_damaged_model_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "svr.safetensors"
    path.write_bytes(b"not a model")
    with pytest.raises(EmoshareError, match=r"svr.safetensors: not a fitted SVR .*; fit the run again"):
        Model.load(path)
