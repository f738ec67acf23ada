"""One model is one row, whatever was asked for; and nothing is promised of seeds that there are none of."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import fakes
import numpy as np
import pytest
from scipy import stats

from emoshare import reporting
from emoshare.core.hashing import write_sealed
from emoshare.reporting import page
from emoshare.reporting.comparison import compare
from emoshare.reporting.score_tables import cells
from emoshare.runs.listing import LIST

CLIPS = 30
SVR = {"head__name": "svr", "head__pooling": "mean", "backbone__type": "prosody"}


def built(folder: Path) -> reporting.Report:
    return reporting.build([folder], 20)


def svr(folder: Path, name: str, quality: float = 0.5, seconds: float = 1.0, seed: int = 0, **keys: object) -> Path:
    made = fakes.config(name, seconds, seed, **SVR, **keys)
    return fakes.run(folder, made, quality, CLIPS, system="svr", noise=len(name))


def test_runs_of_one_identity_are_one_row_that_names_what_was_asked_for(tmp_path: Path) -> None:
    """As earlier versions left them: a folder for each seed and window."""
    for seed in range(3):
        for pad in ("zeros", "none"):
            svr(tmp_path / f"{pad}{seed}", "prosody", seed=seed, window__pad=pad)
    report = built(tmp_path)
    assert [(cell.seeded, len(cell.runs)) for cell in report.study.cells] == [(False, 1)]
    [text] = [line for line in page.warnings(report) if line.startswith("One model")]
    assert all(part in text for part in ("seed=", "0", "1", "2", "window.pad=", "zeros", "none", "change no number"))
    assert len(report.study.duplicates) == 5


def test_a_run_without_a_seed_is_called_without_one(tmp_path: Path) -> None:
    svr(tmp_path / "a", "prosody")
    fakes.run(tmp_path / "b", fakes.config("tiny"), 0.4, CLIPS)
    text = reporting.write([tmp_path], tmp_path / "out", 20).page.with_name("report.md").read_text()
    assert "the best run of prosody" in text
    assert "seed None" not in text


def test_a_sweeps_list_names_what_was_asked_for(tmp_path: Path) -> None:
    svr(tmp_path / "a", "prosody")
    entry = {"run": "a", "recipe": "", "overrides": [], "config": {}, "shared": {"seed": [0, 1]}}
    (tmp_path / LIST).write_text(json.dumps({"call": ["a"], "jobs": [entry]}))
    assert any("seed=0, 1, which change no number of it" in line for line in page.warnings(built(tmp_path)))


def test_the_same_bytes_of_predictions_are_one_row(tmp_path: Path) -> None:
    """Of windows that hold every clip, say, where nothing tells that they do."""
    for seconds in (8.0, 9.0):
        fakes.run(tmp_path / f"{seconds}", fakes.config("tiny", seconds), 0.5, CLIPS)
    fakes.run(tmp_path / "other", fakes.config("tiny", 1.0), 0.4, CLIPS)
    shutil.rmtree(tmp_path / "9.0/predictions")
    shutil.copytree(tmp_path / "8.0/predictions", tmp_path / "9.0/predictions")
    report = built(tmp_path)
    assert sorted(cell.config["window.seconds"] for cell in report.study.cells) == [1.0, 8.0]
    assert any("window.seconds=8, 9" in line or "window.seconds=9, 8" in line for line in page.warnings(report))


@pytest.mark.parametrize("alike", [1, 2])
@pytest.mark.parametrize("folds", [False, True])
def test_a_choice_that_made_no_difference_once_is_a_choice_still(tmp_path: Path, folds: bool, alike: int) -> None:
    """As the epoch that train.select chooses: the same under one seed or in one fold, and another in the other."""
    for number in range(2):
        for select in ("avg", "scc"):
            keys = {"data__folds": "2", "data__fold": number} if folds else {}
            made = fakes.config("tiny", 1.0, 0 if folds else number, **keys, train__select=select)
            differs = select == "scc" and number >= alike
            folder = fakes.run(tmp_path / f"{select}{number}", made, 0.5, CLIPS, noise=number + 7 * differs)
            if folds:
                results = json.loads((folder / "results.json").read_text())
                results["corpus"]["folds"] = {"by": "2", "of": 2, "fold": number, "undivided": "0"}
                write_sealed(folder / "results.json", results)
    study = built(tmp_path).study
    assert [len(cell.trained_runs) for cell in study.cells] == [2] * (3 - alike)
    assert len(study.duplicates) == 4 - 2 * (3 - alike)


def test_no_seeds_are_asked_of_models_without_one(tmp_path: Path) -> None:
    svr(tmp_path / "a", "prosody", 0.8)
    svr(tmp_path / "b", "prosody", 0.1, seconds=0.5)
    report = built(tmp_path)
    texts = [*page.warnings(report), cells(report).caption]
    assert not any("seeds" in text or "seed's" in text for text in texts), texts
    assert sorted(report.everything.verdict(cell) for cell in report.everything.order) == ["best", "worse"]
    fakes.run(tmp_path / "c", fakes.config("tiny"), 0.1, CLIPS)
    assert "more seeds (0, 1, 2) would settle it" in cells(built(tmp_path)).caption


def test_a_cell_without_seed_adds_no_variance_of_training() -> None:
    """t = Δ / √(clips + s² · Σ 1/R over those of the two cells that a seed changes)."""
    rng = np.random.default_rng(0)
    scores = [np.array([0.6]), np.array([0.5, 0.52, 0.54])]
    means = np.array([[0.6], [0.52]]) + 0.01 * rng.normal(size=(2, 400))
    clips = (means[0] - means[1]).var(ddof=1)
    variance = scores[1].var(ddof=1)

    for seeded, training in (([False, True], variance / 3), ([True, True], variance * 4 / 3)):
        degrees = 2 * ((clips + training) / training) ** 2
        expected = 2 * stats.t.sf(0.08 / np.sqrt(clips + training), degrees)
        np.testing.assert_allclose(compare(scores, means, seeded).p[1], expected, rtol=1e-9)
    alone = compare([np.array([0.6]), np.array([0.5])], means, [False, False])
    assert alone.verdict(1) in ("worse", "tied")
    assert alone.settled.all()


def test_a_fusion_of_fitted_weights_is_named_by_them(tmp_path: Path) -> None:
    """The mean of the same runs is another row."""
    members = [fakes.run(tmp_path / f"m{seed}", fakes.config(seed=seed), 0.5, CLIPS) for seed in range(2)]
    fakes.fusion(tmp_path / "fused", members, clips=CLIPS, resolved={"weights": "greedy"})
    report = built(tmp_path)
    [name] = [report.system(cell) for cell in report.study.cells if cell.system == "fusion"]
    assert name == "Fusion of 2 runs, greedy weights"
