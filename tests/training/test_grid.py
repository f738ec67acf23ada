"""The grid search against scikit-learn's, and what it keeps when it is killed."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import LinearSVR

from emoshare.core.errors import EmoshareError
from emoshare.metrics.error import MAE
from emoshare.metrics.rank import SCC
from emoshare.metrics.registry import AVG
from emoshare.models.svr import LOSSES, SCALERS, Model, Setting
from emoshare.models.svr_solver import EXACT
from emoshare.training import grid
from emoshare.training.grid import Fitter, Split, Trial, choose, grid_warnings, load_model, refit, search, settings

COSTS = (1e-1, 1e-2, 1e-3)
GRID = settings(SCALERS, LOSSES, COSTS)


def data(clips: int, features: int, seed: int) -> Split:
    """Features and three emotions between 0 and 1 that follow some of them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (clips, features)) * np.geomspace(0.1, 100, features)
    signal = (x / np.geomspace(0.1, 100, features)) @ np.random.default_rng(9).normal(0, 1, (features, 3))
    y = 1 / (1 + np.exp(-signal / np.sqrt(features) - rng.normal(0, 0.7, signal.shape)))
    return Split(x.astype(np.float32), y.astype(np.float32))


@pytest.mark.parametrize("features", [15, 150], ids=["more clips", "more features"])
def test_the_search_is_scikit_learns(tmp_path: Path, features: int) -> None:
    train, devel = data(100, features, 0), data(60, features, 1)

    def avg(estimator: Pipeline, x: np.ndarray, y: np.ndarray) -> float:
        """(SCC + CCC) / 2 written from the definitions."""
        p = estimator.predict(x)
        scores = []
        for e in range(3):
            covariance = np.mean((p[:, e] - p[:, e].mean()) * (y[:, e] - y[:, e].mean()))
            ccc = 2 * covariance / (p[:, e].var() + y[:, e].var() + (p[:, e].mean() - y[:, e].mean()) ** 2)
            noise = np.ptp(p[:, e]) < 1e-9  # whose ranks say nothing
            scores.append(0 if noise else (ccc + spearmanr(p[:, e], y[:, e])[0]) / 2)
        return float(np.mean(scores))

    base = LinearSVR(epsilon=0, dual=True, max_iter=1_000_000, random_state=42, tol=1e-6)  # closer than its own
    reference = GridSearchCV(
        Pipeline([("scale", StandardScaler()), ("fit", MultiOutputRegressor(base))]),
        {
            "scale": [StandardScaler(), MinMaxScaler()],
            "fit__estimator__loss": list(LOSSES),
            "fit__estimator__C": list(COSTS),
        },
        scoring={"mae": "neg_mean_absolute_error", "avg": avg},
        cv=PredefinedSplit([-1] * 100 + [0] * 60),
        refit=False,
    )
    x, y = (
        np.concatenate(pair).astype(np.float64) for pair in zip(vars(train).values(), vars(devel).values(), strict=True)
    )
    reference.fit(x, y)
    found = reference.cv_results_
    trials = {trial.setting: trial for trial in search(train, devel, GRID, tmp_path)}
    assert list(trials) == GRID
    for parameters, mae, mean in zip(found["params"], found["mean_test_mae"], found["mean_test_avg"], strict=True):
        scaler = "standard" if isinstance(parameters["scale"], StandardScaler) else "minmax"
        trial = trials[Setting(scaler, parameters["fit__estimator__loss"], parameters["fit__estimator__C"])]
        assert trial.scores["mae"] == pytest.approx(-mae, abs=5e-4)
        assert trial.scores["avg"] == pytest.approx(mean, abs=2e-3)
    assert -choose(list(trials.values()), MAE).scores["mae"] == pytest.approx(found["mean_test_mae"].max(), abs=5e-4)
    assert choose(list(trials.values()), AVG).scores["avg"] == pytest.approx(found["mean_test_avg"].max(), abs=2e-3)


class Noting(Fitter):
    """Notes the settings that it fits."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.fitted: list[Setting] = []

    def fit(self, split: Split, wanted: Sequence[Setting]) -> Iterator[tuple[Setting, Model, float, int]]:
        self.fitted += wanted
        return super().fit(split, wanted)


def test_progress_is_told_in_steps_and_gaps(tmp_path: Path) -> None:
    said: list[tuple[str, float]] = []
    search(data(100, 15, 0), data(60, 15, 1), GRID, tmp_path, Fitter(report=lambda *step: said.append(step)))
    texts, done = zip(*said, strict=True)
    assert [text for text in texts if "decomposition" in text] == ["standard: decomposition", "minmax: decomposition"]
    assert any(re.fullmatch(r"minmax, epsilon_insensitive: step 9, worst gap \d\.\de-\d\d", text) for text in texts)
    assert all(before <= after for before, after in itertools.pairwise(done))
    assert done[0] >= 0
    assert done[-1] <= 1


def test_what_is_finished_is_not_fitted_again(tmp_path: Path) -> None:
    train, devel, fitter = data(100, 15, 0), data(60, 15, 1), Noting()
    before = search(train, devel, GRID, tmp_path, fitter)
    assert fitter.fitted == GRID
    (tmp_path / f"{GRID[4].name}.safetensors").write_bytes(b"torn")
    (tmp_path / f"{GRID[7].name}.safetensors").unlink()
    fitter.fitted.clear()
    after = search(train, devel, GRID, tmp_path, fitter)
    assert fitter.fitted == [GRID[4], GRID[7]]
    assert [rounded(trial) for trial in after] == [rounded(trial) for trial in before]
    fitter = Noting()
    search(replace_labels(train), devel, GRID, tmp_path, fitter)
    assert fitter.fitted == GRID, "models of other labels were taken over"


def rounded(trial: Trial) -> Trial:
    """What problems that are solved beside others do not change."""
    scores = {name: round(score, 9) for name, score in trial.scores.items()}
    return replace(trial, scores=scores, spread=round(trial.spread, 9), gap=0)


def replace_labels(split: Split) -> Split:
    return Split(split.features, split.shares[::-1].copy())


PROGRAM = """
import sys
from pathlib import Path
from test_grid import GRID, Fitter, data, grid, search
real, calls = grid.solve, []
def solve(*arguments):
    calls.append(1)
    if len(calls) == 3:  # the second scaler
        print("solving", flush=True)
        sys.stdin.read()
    return real(*arguments)
grid.LARGE, grid.solve = 10, solve
search(data(100, 15, 0), data(60, 15, 1), GRID, Path(sys.argv[1]), Fitter(cache=Path(sys.argv[2])))
"""


def test_a_killed_search_goes_on_from_its_decomposition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, places = (
        os.pathsep.join([str(Path(__file__).parent), *sys.path]),
        [tmp_path / "grid", tmp_path / "kept/run"],
    )
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, places)], env={**os.environ, "PYTHONPATH": paths},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stdout.readline() == b"solving\n"
        process.send_signal(signal.SIGKILL)
    kept = {path: path.read_bytes() for path in places[0].glob("[!.]*.safetensors")}
    assert len(kept) == 6  # both losses of the first scaler
    assert len(list(places[1].iterdir())) == 2
    monkeypatch.setattr(grid, "LARGE", 10)
    monkeypatch.setattr(grid, "decompose", None)  # a decomposition would fail
    train, devel, fitter = data(100, 15, 0), data(60, 15, 1), Noting(cache=places[1])
    resumed = search(train, devel, GRID, places[0], fitter)
    assert {setting.name for setting in fitter.fitted}.isdisjoint(path.stem for path in kept)
    assert all(path.read_bytes() == content for path, content in kept.items())
    monkeypatch.undo()
    assert resumed == search(train, devel, GRID, tmp_path / "fresh")
    old, new = tmp_path / "kept/old", tmp_path / "kept/new"
    for folder in (old, new):
        folder.mkdir()
    os.utime(old, (0, 0))
    fitter.forget()
    assert list((tmp_path / "kept").iterdir()) == [new], "another run's stays, for a week"


def test_a_damaged_decomposition_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "LARGE", 10)
    train, devel, fitter = data(100, 15, 0), data(60, 15, 1), Fitter(cache=tmp_path / "cache")
    first = search(train, devel, GRID, tmp_path / "grid", fitter)
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(b"torn")
    shutil.rmtree(tmp_path / "grid")
    assert search(train, devel, GRID, tmp_path / "grid", fitter) == first
    fitter.forget()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("features", [15, 90, 150])
def test_the_refit_is_a_fit_of_all_clips_and_kept(
    tmp_path: Path, features: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, setting, fitter = data(160, features, 0), Setting("minmax", LOSSES[1], 0.01), Fitter()
    train = Split(whole.features[:100], whole.shares[:100])
    search(train, data(60, features, 1), [setting], tmp_path, fitter)
    model, gap = refit(whole, setting, tmp_path, fitter)  # the sums of train grow by the rest
    assert gap <= EXACT
    scaler = MinMaxScaler().fit(whole.features.astype(np.float64))
    theirs = LinearSVR(loss=LOSSES[1], C=0.01, epsilon=0, dual=True, max_iter=50_000, random_state=42, tol=1e-6)
    theirs.fit(scaler.transform(whole.features.astype(np.float64)), whole.shares[:, 1])
    np.testing.assert_allclose(
        model.predict(whole.features)[:, 1],
        theirs.predict(scaler.transform(whole.features.astype(np.float64))),
        atol=1e-4,
    )
    anew, _ = refit(whole, setting, tmp_path / "anew")
    np.testing.assert_allclose(model.weights, anew.weights, atol=1e-9)
    monkeypatch.setattr(grid, "solve", None)  # a second fit would fail
    np.testing.assert_array_equal(refit(whole, setting, tmp_path)[0].weights, model.weights)


def test_the_model_kept_is_the_one_that_was_scored(tmp_path: Path) -> None:
    train, devel = data(100, 15, 0), data(60, 15, 1)
    trial = choose(search(train, devel, GRID[:2], tmp_path), AVG)
    predicted = load_model(tmp_path, trial.setting).predict(devel.features)
    assert np.abs(predicted - devel.shares).mean() == pytest.approx(trial.scores["mae"], abs=1e-12)


def trial(C: float = 0.01, mae: float = 0.1, scc: float = 0.5, ccc: float = 0.5, spread: float = 0.8) -> Trial:
    return Trial(
        Setting("standard", LOSSES[0], C), {"mae": mae, "scc": scc, "ccc": ccc, "avg": (scc + ccc) / 2}, spread,
        gap=1e-5, steps=20,
    )  # fmt: skip


def test_each_criterion_chooses_its_own() -> None:
    trials = [
        trial(0.1, mae=0.3, scc=0.6, ccc=0.2),
        trial(0.01, mae=0.2, scc=0.5, ccc=0.5),
        trial(0.001, mae=0.1, scc=0.1),
    ]
    assert [choose(trials, select).setting.C for select in (SCC, AVG, MAE)] == [0.1, 0.01, 0.001]
    assert choose([trial(0.1), trial(0.01)], AVG).setting.C == 0.1


def test_constant_predictions_count_as_no_correlation() -> None:
    true = np.random.default_rng(0).random((20, 2))
    model = Model(np.zeros(1), np.ones(1), np.array([[0.0], [1.0]]), np.array([0.4, 0.0]))
    found = grid.judge(GRID[0], model, Split(true[:, 1:], true), 0, 0, ("Anger", "Joy"))
    assert found.scores["scc"] == pytest.approx(0.5)
    assert found.scores["ccc"] == pytest.approx(0.5)
    assert found.spread == pytest.approx(0)
    assert found.constant == "Anger"
    assert "a constant, one share for all clips of devel: Anger" in grid_warnings(found, [found], AVG)[0]
    noise = replace(model, weights=np.array([[1e-17], [1e-9]]), bias=np.array([0.4, 0.3]))
    assert grid.judge(GRID[0], noise, Split(true[:, 1:], true), 0, 0, ("Anger", "Joy")).constant == "all"
    true[:, 0] = 0.2  # of an emotion without a score nothing is said, and it does not count
    found = grid.judge(GRID[0], model, Split(true[:, 1:], true), 0, 0, ("Anger", "Joy"))
    assert (found.constant, found.scores["scc"]) == ("", pytest.approx(1))


def test_a_setting_of_nothing_but_constants_is_never_chosen() -> None:
    useful = trial(0.01, mae=0.3, scc=-0.2, ccc=-0.1)
    useless = replace(trial(0.001, mae=0.1, scc=0, ccc=0), constant="all")
    for select in (AVG, SCC, MAE):
        assert choose([useless, useful], select) is useful
        with pytest.raises(
            EmoshareError, match=r"every setting of the grid predicts constants, one share.*add a C above 0\.001"
        ):
            choose([useless, useless], select)


def test_mae_on_one_hot_labels_chooses_constants_and_says_so(tmp_path: Path) -> None:
    def rare(split: Split) -> Split:
        return Split(split.features, (split.shares > np.quantile(split.shares, 0.9, axis=0)).astype(np.float32))

    train, devel = rare(data(100, 15, 0)), rare(data(60, 15, 1))
    trials = search(train, devel, settings(["standard"], LOSSES, COSTS), tmp_path)
    best = choose(trials, MAE)
    assert best.spread < choose(trials, AVG).spread
    assert any("hardly vary" in doubt for doubt in grid_warnings(best, trials, MAE))


def test_doubts() -> None:
    middle = [trial(0.1), trial(0.01), trial(0.001)]
    assert grid_warnings(middle[1], middle, AVG) == []
    assert grid_warnings(middle[0], middle[:1], AVG) == []  # nothing to choose from
    largest, smallest = (grid_warnings(middle[i], middle, AVG) for i in (0, 2))
    assert largest == ["head.grid: the best C, 0.1, is the largest of the grid; larger ones may do better"]
    assert smallest == ["head.grid: the best C, 0.001, is the smallest of the grid; smaller ones may do better"]
    badly = trial(0.01, scc=0.6, ccc=0.2)
    assert "badly scaled" in grid_warnings(badly, middle, SCC)[0]
    assert grid_warnings(badly, middle, AVG) == []
    late = replace(middle[0], gap=3e-3)
    assert grid_warnings(middle[1], [late, *middle[1:]], AVG) == [
        "not within 0.0001 of the optimum in 20,000 steps: standard-epsilon_insensitive-0.1 (3.0e-03); leave out the "
        "largest C"
    ]
    assert (late.row()["converged"], middle[1].row()["converged"]) == (False, True)
