"""A fitted SVR: its scalers, its predictions, its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from emoshare.core.errors import EmoshareError
from emoshare.models import svr
from emoshare.models.svr import Model


def test_many_rows_go_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).normal(0, 1, (50, 6)).astype(np.float32)
    model = Model(np.arange(6.0), np.arange(1.0, 7.0), np.ones((2, 6)), np.zeros(2))
    whole = model.predict(x)
    monkeypatch.setattr(svr, "CHUNK", 7)
    np.testing.assert_array_equal(model.predict(x), whole)


@pytest.mark.parametrize(("kind", "theirs"), [("standard", StandardScaler), ("minmax", MinMaxScaler)])
def test_scalers_are_scikit_learns(kind: str, theirs: type) -> None:
    x = np.random.default_rng(0).normal(3, 100, (50, 6)).astype(np.float32)
    x[:, 2] = 7
    np.testing.assert_allclose(svr.rescale(x, *svr.fit_scaler(x, kind)), theirs().fit_transform(x.astype(float)))


def test_no_clips_give_no_shares() -> None:
    model = Model(np.zeros(6), np.ones(6), np.ones((2, 6)), np.zeros(2))
    assert model.predict(np.empty((0, 6), np.float32)).shape == (0, 2)


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
