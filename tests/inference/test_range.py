"""A corpus with labels from 1 to 7: everything is computed on 0 to 1, and what people see is scaled back."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import emoshare
from emoshare import reporting
from emoshare.core.ranges import to_range, to_unit, unit_lines
from emoshare.inference import explain_figure
from emoshare.inference.intervals import with_intervals
from emoshare.inference.page.server import describe, reply
from emoshare.models.conformal import Interval, Intervals
from emoshare.reporting import error_figures
from emoshare.training.fusion import fuse

KEYS = [
    "data=compare23", "trainer.progress=false", "logger=none", "window.seconds=1", "backbone=logmel",
    "trainer.epochs=2", "trainer.precision=32-true", "extract.compute=float32", "metrics=[scc,ccc,mae,mse]",
]  # fmt: skip


@pytest.fixture(scope="module")
def runs(corpus_root, tmp_path_factory) -> dict[str, Path]:
    """One run on labels from 0 to 1, and one on the same labels from 1 to 7."""
    folder = tmp_path_factory.mktemp("range")
    (folder / "corpus/lab").mkdir(parents=True)
    (folder / "corpus/wav").symlink_to(corpus_root / "wav")
    for table in (corpus_root / "lab").glob("*.csv"):
        with table.open() as file:
            header, *rows = csv.reader(file)
        scaled = [[row[0], *(1 + 6 * float(cell) if cell != "?" else cell for cell in row[1:])] for row in rows]
        with (folder / "corpus/lab" / table.name).open("w") as file:
            csv.writer(file).writerows([header, *scaled])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        plain = emoshare.train(*KEYS, f"data.root={corpus_root}")
        scaled = emoshare.train(*KEYS, f"data.root={folder}/corpus", "data.range=[1,7]")  # type: ignore[assignment]
        assert plain.run != scaled.run
        found = {name: folder / "outputs/default" / results.run for name, results in (("unit", plain), ("own", scaled))}
        other = emoshare.train(*KEYS, f"data.root={folder}/corpus", "data.range=[1,7]", "seed=1")
        fused = fuse([found["own"], folder / "outputs/default" / other.run], Path("outputs/fused"), [1, 0])
    return found | {"fused": folder / "outputs/fused" / fused.run}


def numbers(path: Path) -> np.ndarray:
    with path.open() as file:
        return np.array([[float(cell) for cell in row[1:]] for row in list(csv.reader(file))[1:]])


def test_tables_are_in_the_range_of_the_labels_and_scores_are_the_same(runs) -> None:
    for table in ("predictions/devel.csv", "predictions/test.csv"):
        unit, own, fused = (numbers(runs[name] / table) for name in ("unit", "own", "fused"))
        np.testing.assert_allclose(own, 1 + 6 * unit, atol=1e-4)
        np.testing.assert_allclose(fused, own, atol=1e-5)
    unit, own = (numbers(runs[name] / "reference/devel.csv") for name in ("unit", "own"))
    np.testing.assert_allclose(own[:, :-1], 1 + 6 * unit[:, :-1], atol=1e-6)
    np.testing.assert_allclose(own[:, -1], unit[:, -1])  # seconds are no labels
    rows = [line.split(",")[1:-1] for line in (runs["unit"] / "reference/devel.csv").read_text().splitlines()[1:]]
    assert max(len(cell) for row in rows for cell in row) < 10  # as the tables have them: no digits of rounding
    scores = [emoshare.load(runs[name]).results.metrics["devel"] for name in ("unit", "own", "fused")]
    for metric in ("scc", "ccc", "mae", "mse"):
        np.testing.assert_allclose(*[[*found[metric].values()] for found in scores[:2]], atol=1e-4)
        np.testing.assert_allclose(*[[*found[metric].values()] for found in scores[1:]], atol=1e-5)
    assert emoshare.load(runs["unit"]).results.lines == []
    assert emoshare.load(runs["own"]).results.lines == [
        "errors are those of labels scaled from 1 to 7 onto 0 to 1; in the labels' own unit: MAE × 6, MSE × 36"
    ]


def test_a_model_predicts_in_the_range_of_its_labels(runs, corpus_root, emoshare) -> None:
    import emoshare as package

    unit, own, fused = (package.load(runs[name], device="cpu") for name in ("unit", "own", "fused"))
    clips = sorted((corpus_root / "wav").glob("*.wav"))[:3]
    tables = [model.predict(clips) for model in (unit, own, fused)]
    np.testing.assert_allclose(tables[1].values, 1 + 6 * tables[0].values, atol=1e-4)
    np.testing.assert_allclose(tables[2].values, tables[1].values, atol=1e-5)
    for model in (own, fused):
        np.testing.assert_allclose([*model.devel_error.values()], [6 * e for e in unit.devel_error.values()], atol=1e-4)
        _, shares = model.predictions("devel")
        np.testing.assert_allclose(shares, numbers(runs["own"] / "predictions/devel.csv"), atol=1e-5)
    fitted = Intervals(0.9, "linear", {name: Interval([0, 1], [0.1, 0.9], -0.1, 0.2) for name in own.targets})
    ends = [
        with_intervals(table, replace(model.results, intervals=fitted)).values
        for table, model in zip(tables, (unit, own), strict=False)
    ]
    np.testing.assert_allclose(ends[1], 1 + 6 * ends[0], atol=1e-3)
    stored = emoshare("predict", str(runs["own"]), str(clips[0]), "--store")
    cells = next(line for line in stored.out.splitlines() if clips[0].name[:8] in line).split()
    np.testing.assert_allclose([float(cell) for cell in cells[-len(own.targets) :]], tables[1].values[0], atol=2e-3)


def test_explanations_and_the_page_are_in_the_range_of_the_labels(runs, corpus_root, tmp_path) -> None:
    unit, own = (emoshare.load(runs[name], device="cpu") for name in ("unit", "own"))
    clip = sorted((corpus_root / "wav").glob("*.wav"))[0]
    explained = [model.explain(clip) for model in (unit, own)]
    np.testing.assert_allclose(explained[1].shares, 1 + 6 * explained[0].shares, atol=1e-4)
    np.testing.assert_allclose(explained[1].occlusion, 6 * explained[0].occlusion, atol=1e-3)
    frames = explained[1].frames
    assert frames is not None
    total = frames.baseline + frames.gradients.sum(0)
    np.testing.assert_allclose(total, explained[1].shares, atol=frames.gap + 1e-4)
    assert describe([own])["runs"][0]["range"] == [1, 7]
    answers = [reply([model], clip.read_bytes(), "a.wav", None, lambda: None)["runs"][0] for model in (unit, own)]
    np.testing.assert_allclose(answers[1]["shares"], 1 + 6 * np.array(answers[0]["shares"]), atol=1e-3)


def test_reports_and_evaluations_are_the_same(runs, corpus_root, emoshare, tmp_path) -> None:
    told = emoshare(
        "evaluate", str(runs["own"]), "data=compare23", f"data.root={corpus_root}", "--out", str(tmp_path / "one")
    )  # a corpus of another range
    assert "errors are those" not in told.out
    told = emoshare(
        "evaluate", str(runs["own"]), "data=compare23", f"data.root={runs['own'].parents[2]}/corpus",
        "data.range=[1,7]", "--out", str(tmp_path / "two"),
    )  # fmt: skip
    assert "in the labels' own unit" in told.out
    one, two = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "two"))
    part = next(iter(one["metrics"]))
    np.testing.assert_allclose(*[[*found["metrics"][part]["mae"].values()] for found in (one, two)], atol=1e-6)
    tables = [numbers(tmp_path / name / f"predictions/{part}.csv") for name in ("one", "two")]
    np.testing.assert_allclose(tables[1], 1 + 6 * tables[0], atol=1e-5)


def test_an_exported_model_predicts_in_the_range_of_its_labels(runs, corpus_root, tmp_path) -> None:
    from emoshare.inference.export.forms import export_model

    clip = sorted((corpus_root / "wav").glob("*.wav"))[0]
    expected = emoshare.load(runs["own"], device="cpu").predict(clip)
    assert export_model(runs["own"], "hub", tmp_path / "hub").error < 6e-6
    assert "Each is a number from 1 to 7" in (tmp_path / "hub/README.md").read_text()
    assert emoshare.load(tmp_path / "hub", device="cpu").predict(clip) == pytest.approx(expected, abs=1e-3)
    pytest.importorskip("onnxruntime")
    assert export_model(runs["own"], "onnx", tmp_path / "run.onnx").error < 6e-4


def test_the_range_is_undone_exactly() -> None:
    labels = np.array([-1.0, 0.25, 1.0])
    np.testing.assert_array_equal(to_unit(labels, (-1, 1)), [0, 0.625, 1])
    np.testing.assert_array_equal(to_range(to_unit(labels, (-1, 1)), (-1, 1)), labels)
    shares = np.array([0.1, 1 / 3], np.float32)
    assert to_range(shares, (0, 1)).tobytes() == shares.tobytes() == to_unit(shares, (0.0, 1.0)).tobytes()
    assert unit_lines({"SCC": 0}, (1, 7)) == []


def test_figures_are_in_the_range_of_the_labels(runs, corpus_root) -> None:
    unit, own = (reporting.build([runs[name]], 5) for name in ("unit", "own"))
    for draw in (error_figures.density, error_figures.calibration):
        figure = draw(own)
        assert figure.get_supxlabel().endswith("label, 1 to 7")
        low, high = figure.axes[0].get_xlim()
        first, last = draw(unit).axes[0].get_xlim()
        np.testing.assert_allclose([low, high], [1 + 6 * first, 1 + 6 * last], atol=0.01)
    errors, others = (error_figures.durations(report).axes[0] for report in (own, unit))
    np.testing.assert_allclose(errors.lines[0].get_ydata(), 6 * others.lines[0].get_ydata(), atol=1e-3)
    assert errors.get_ylabel() == "Mean absolute error (label, 1 to 7)"
    assert others.get_ylabel() == "Mean absolute error (share)"
    explained = emoshare.load(runs["own"], device="cpu").explain(next((corpus_root / "wav").glob("*.wav")))
    assert explained.lowest == 1
    bars = explain_figure.figure_of(explained).axes[-1].patches
    np.testing.assert_allclose([bar.get_x() for bar in bars], 1)
