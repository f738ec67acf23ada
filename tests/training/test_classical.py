"""An SVR on stored frames, from the command line to its folder."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from composed import config, on_cpu
from scipy.stats import spearmanr
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import LinearSVR

from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.data import demo
from emoshare.data.corpus import load
from emoshare.models.svr import Model
from emoshare.models.svr_solver import EXACT
from emoshare.runs.resolved import ResolvedRun
from emoshare.runs.results import Results
from emoshare.training import classical, grid
from emoshare.training.train import train


@pytest.fixture
def settings(corpus_root: Path, tmp_path: Path) -> list[str]:
    """Overrides of an SVR that takes seconds."""
    return [
        "data=compare23", f"data.root={corpus_root}", "backbone=logmel", "window=native", "window.seconds=1",
        "head=svr", "head.grid=[0.1,0.01]", "trainer.progress=false", "logger=none",
        f"paths.outputs={tmp_path}/outputs", f"paths.cache={tmp_path}/cache",
    ]  # fmt: skip


def table(path: Path) -> np.ndarray:
    with path.open() as file:
        return np.array([[float(value) for value in row[1:10]] for row in list(csv.reader(file))[1:]])


def test_a_run_is_what_scikit_learn_gives(settings: list[str], caplog: pytest.LogCaptureFixture) -> None:
    c = config(*settings)
    results = train(c)
    run = ResolvedRun(c).run
    assert results.system == "svr"
    assert results.epochs is None
    assert results.resolved.refit is True
    assert results.resolved.rest["pooling"] == "mean_std"
    assert results.versions["scikit-learn"]
    assert Results.read(run.results_path).metrics == results.metrics
    trials = list(csv.DictReader((run.folder / "grid.csv").open()))
    assert len(trials) == 8
    assert all(float(trial["gap"]) <= EXACT and trial["converged"] == "True" for trial in trials)
    assert results.resolved.rest["gap"] <= EXACT
    assert results.resolved.rest["refit_gap"] <= EXACT
    best = max(trials, key=lambda trial: float(trial["avg"]))
    assert float(best["avg"]) == pytest.approx(results.score("devel", "avg"), abs=1e-6)

    corpus = load(c.data, Path(c.paths.cache))
    features = classical.pool_all(stored(c), "mean_std", None).astype(np.float64)
    y = {name: part.shares for name, part in corpus.partitions.items()}
    x = {name: features[part.rows] for name, part in corpus.partitions.items()}

    def fit_predict(names: tuple[str, ...], on: str) -> np.ndarray:
        scaler = {"standard": StandardScaler, "minmax": MinMaxScaler}[best["scaler"]]()
        inputs = scaler.fit_transform(np.concatenate([x[name] for name in names]))
        shares = np.concatenate([y[name] for name in names])
        fixed = {"epsilon": 0, "tol": 1e-6, "max_iter": 50_000, "dual": True, "random_state": 42}
        svrs = [LinearSVR(loss=best["loss"], C=float(best["C"]), **fixed).fit(inputs, share) for share in shares.T]
        return np.stack([svr.predict(scaler.transform(x[on])) for svr in svrs], 1)

    for name, on in (("devel", ("train",)), ("test", ("train", "devel"))):
        predicted = table(run.folder / "predictions" / f"{name}.csv")
        np.testing.assert_allclose(predicted, fit_predict(on, name), atol=2e-3)
        scc = np.mean([spearmanr(p, t)[0] for p, t in zip(predicted.T, y[name].T, strict=True)])
        assert results.score(name, "scc") == pytest.approx(scc, abs=1e-6)
    for name, rows in (("svr.safetensors", "test"), ("svr_devel.safetensors", "devel")):
        model, facts = Model.load(run.folder / name)
        np.testing.assert_allclose(model.predict(x[rows]), table(run.folder / f"predictions/{rows}.csv"), atol=1e-6)
        assert facts["targets"] == list(corpus.targets)


def stored(c: Config) -> Any:
    from emoshare.training import source

    found = source.open(on_cpu(c)).store
    assert found is not None
    return found


def test_without_refit_test_is_predicted_by_the_model_of_train(settings: list[str]) -> None:
    c = config(*settings, "train.refit=false")
    assert train(c).resolved.refit is False
    models = [Model.load(ResolvedRun(c).run.folder / name) for name in ("svr.safetensors", "svr_devel.safetensors")]
    np.testing.assert_array_equal(models[0][0].weights, models[1][0].weights)
    assert [facts["fitted_on"] for _, facts in models] == ["train", "train"]


def test_a_finished_grid_is_taken_over_and_a_finished_run_skipped(
    settings: list[str], emoshare: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert emoshare("train", *settings).status == 0
    (folder,) = Path(f"{settings[-2].split('=')[1]}/default").glob("logmel*")
    before = json.loads((folder / "results.json").read_text())
    predictions = (folder / "predictions" / "test.csv").read_bytes()
    assert "skipped, finished before" in "".join(emoshare("train", *settings)[1:])
    (folder / "results.json").unlink()
    monkeypatch.setattr(grid.Fitter, "decompose", None)  # a fit would fail
    assert emoshare("train", *settings).status == 0
    assert json.loads((folder / "results.json").read_text())["metrics"] == before["metrics"]
    assert (folder / "predictions" / "test.csv").read_bytes() == predictions


def test_nan_in_a_store_is_one_line(settings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    real = classical.TensorStore.gather

    def poisoned(self: Any, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        frames, lengths = real(self, rows)
        frames[rows == 5, 0] = torch.nan
        return frames, lengths

    monkeypatch.setattr(classical.TensorStore, "gather", poisoned)
    c = config(*settings)
    with pytest.raises(EmoshareError) as caught:
        train(c)
    corpus = load(c.data, Path(c.paths.cache))
    assert str(caught.value).startswith(f"{corpus.path(corpus.files[5])}: its frames hold NaN or infinite values")
    assert "\n" not in str(caught.value)


def test_frames_that_are_not_stored_are_one_line(settings: list[str]) -> None:
    with pytest.raises(EmoshareError, match=r"head.name=svr: it is fitted on stored frames"):
        train(config(*settings, "backbone.cache=false"))


def test_prosody_hears_what_the_raters_heard(settings: list[str], tmp_path: Path) -> None:
    demo.generate(tmp_path / "demo", 200, 0)
    more = [f"data.root={tmp_path}/demo", "backbone=prosody", "window.seconds=8"]
    results = train(config(*settings, *more))
    assert results.resolved.rest["pooling"] == "functionals"
    assert results.backbone.voicing == 0
    for partition in ("devel", "test"):
        assert results.score(partition, "scc") > 0.4


def test_a_vector_per_clip_is_taken_as_it_is(settings: list[str]) -> None:
    pytest.importorskip("opensmile")
    c = config(*settings, "backbone=opensmile", "backbone.feature_set=eGeMAPSv02")
    results = train(c)
    assert results.resolved.rest["pooling"] == "none"
    assert results.backbone.dim == 88
    assert results.resolved.stored == "float32"
    model, _ = Model.load(ResolvedRun(c).run.folder / "svr.safetensors")
    assert model.weights.shape == (9, 88)


def test_clips_too_short_for_opensmile_are_named(settings: list[str]) -> None:
    pytest.importorskip("opensmile")
    with pytest.raises(EmoshareError, match=r"\.wav.*: openSMILE needs at least 0.06 s") as caught:
        train(config(*settings, "backbone=opensmile", "window.seconds=0.05"))
    assert "\n" not in str(caught.value)


def test_an_mlp_learns_from_prosody(settings: list[str]) -> None:
    mlp = [setting for setting in settings if not setting.startswith("head")]
    results = train(config(*mlp, "backbone=prosody", "trainer.epochs=1"))
    assert results.system == "mlp"
    assert results.epochs == 1


def test_pooling_a_store_does_not_depend_on_the_batch(settings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    c = config(*settings)
    store = stored(c)
    whole = classical.pool_all(store, "mean_std", None)
    monkeypatch.setattr(classical, "VALUES", 1)
    np.testing.assert_array_equal(classical.pool_all(store, "mean_std", None), whole)
    first = store.gather(np.array([7]))[0][0].double().numpy()
    np.testing.assert_allclose(whole[7], np.concatenate([first.mean(0), first.std(0)]), rtol=1e-6, atol=1e-6)
