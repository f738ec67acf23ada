"""What the report makes of runs beyond the neural head on shares: SVRs, fusions, classes, runs that are not at hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import fakes
import numpy as np
import pytest
from matplotlib.figure import Figure

from emoshare import reporting
from emoshare.core.hashing import write_sealed
from emoshare.metrics.rank import area_under_curve
from emoshare.reporting import class_tables, error_figures, page, run_tables, score_tables

CLIPS = 80
NOT_AT_HAND = 'backbone=opensmile: it is not installed; run `pip install "emoshare[opensmile]"`'


@pytest.fixture(scope="module")
def table6(tmp_path_factory: pytest.TempPathFactory) -> reporting.Report:
    """Two heads on two backbones of the paper's corpus, a fusion of two runs, a run whose extra is missing."""
    root = tmp_path_factory.mktemp("table6")
    options = {"clips": CLIPS, "sizes": fakes.HUME}
    neural = fakes.run(root / "a", fakes.config("hubert_large", 5.5), 0.6, **options)
    svr = {"head__name": "svr", "head__pooling": "mean", "train__refit": True}
    config = fakes.config("wav2vec2_audeering", 5.5, **svr)
    classical = fakes.run(root / "b", config, 0.4, best={"epoch": None, "avg": 0.4}, **options)
    fakes.fusion(root / "c", [neural, classical], 0.7, **options)
    fakes.failed(root / "d", fakes.config("opensmile", 8.0, **svr), NOT_AT_HAND, True)
    return reporting.build([root], 20)


def test_a_row_per_system_with_the_papers_number_for_the_same_approach(table6: reporting.Report) -> None:
    table = score_tables.systems(table6)
    rows = {row[0].text: row for row in table.rows}
    assert list(rows)[:4] == ["Fusion of 2 runs", "hubert_large + MLP", "wav2vec2_audeering + SVR", "opensmile + SVR"]
    assert rows["hubert_large + MLP"][-1].text == "0.553, 0.579"
    assert rows["wav2vec2_audeering + SVR"][-1].text == "0.500, 0.514"
    assert rows["opensmile + SVR"][-1].text == "0.359, 0.365"
    assert rows["Fusion of 2 runs"][-1].text == "–"  # the paper fuses four and nine
    assert {"auDeep + SVR", "DeepSpectrum + SVR", "late fusion of the four", "fusion of nine SVRs"} < set(rows)
    scores = table6.study.runs[0].results.score("test", "scc")
    assert rows["hubert_large + MLP"][3].text == f"{scores:.3f}"


def test_members_gain_and_cost_stand_beside_a_fusion(table6: reporting.Report) -> None:
    (name, *_, cost, _) = score_tables.systems(table6).rows[0]
    assert name.small.startswith("of hubert_large + MLP, 5.5 s; wav2vec2_audeering + SVR, 5.5 s")
    assert "+0.020 [+0.010, +0.030]" in name.small
    assert cost.sort == 0.5 + 2 * 40 + 2 * 165  # its own, both trainings, both extractions


def test_what_is_not_at_hand_shows_the_command_that_fetches_it(table6: reporting.Report) -> None:
    row = next(row for row in score_tables.systems(table6).rows if row[0].text == "opensmile + SVR")
    assert row[0].small == NOT_AT_HAND
    assert [entry.text for entry in row[1:4]] == ["not at hand"] * 3


def test_what_is_not_at_hand_is_not_counted_as_failed(table6: reporting.Report, tmp_path: Path) -> None:
    """In the first warning, the tables of scores, that of runs without results, and the counts for a logger."""
    assert any("1 of 4 runs have no results: 1 not at hand." in text for text in page.warnings(table6))
    states = [row[-3].text for row in score_tables.cells(table6).rows if row[-3].state]
    assert states == ["not at hand"]
    assert run_tables.variations(table6).caption.startswith("4 cells, 3 finished runs, 1 not at hand.")
    (lost,) = run_tables.failures(table6).rows
    assert [lost[1].text, lost[2].text] == ["not at hand", NOT_AT_HAND]
    counts = reporting.summary(table6, tmp_path)
    assert (counts["runs/failed"], counts["runs/not_at_hand"]) == (0, 1)


def test_systems_are_told_apart_without_keys_that_their_name_implies(table6: reporting.Report) -> None:
    assert table6.varying == ("backbone.name", "window.seconds")  # not the head, its pooling and its refit
    assert sorted(map(table6.label, table6.study.cells)) == [
        "Fusion of 2 runs", "hubert_large + MLP, 5.5 s", "opensmile + SVR, 8 s", "wav2vec2_audeering + SVR, 5.5 s",
    ]  # fmt: skip


def test_a_fusion_has_no_window(tmp_path: Path) -> None:
    """Not the default of its config, which its members need not have: in tables, titles and what was varied."""
    members = [fakes.run(tmp_path / f"{n}", fakes.config("tiny", n), noise=n, clips=CLIPS) for n in (1, 2)]
    fused = fakes.fusion(tmp_path / "fused", members, clips=CLIPS)
    results = json.loads((fused / "results.json").read_text())
    results["config"]["window"]["seconds"] = 5.5
    write_sealed(fused / "results.json", results)
    report = reporting.build([tmp_path], 10)
    table = score_tables.cells(report)
    found = {(record["system"], record["window.seconds"]) for record in table.records}
    assert found == {("fusion", None), ("mlp", 1), ("mlp", 2)}
    assert {row[0].text: row[1].text for row in table.rows}["Fusion of 2 runs"] == "–"
    rows = {row[0].text: row[1].text for row in run_tables.variations(report).rows}
    assert rows["window.seconds"] == "1, 2"
    assert page.title(report) == "2 windows on demo"


def test_runs_without_epochs_and_stores_are_reported(table6: reporting.Report, tmp_path: Path) -> None:
    assert [row[-1].text for row in run_tables.runs(table6).rows] == ["13", "–", "–"]
    assert [row[3].text for row in run_tables.costs(table6).rows] == ["2.8 min", "2.8 min", "–"]
    for figure in page.all_figures(table6):
        assert isinstance(figure.draw(), Figure)
    assert page.headline(table6).startswith("Fusion of 2 runs reaches")


def test_one_system_has_no_table_of_systems(tmp_path: Path) -> None:
    fakes.sweep(tmp_path, {"tiny": 0.5, "logmel": 0.4}, [1.0], clips=CLIPS)
    assert "systems" not in [table.name for table in score_tables.tables_of_scores(reporting.build([tmp_path], 5))]


def test_classes_get_a_confusion_matrix_and_areas_under_the_curve(tmp_path: Path) -> None:
    targets = ("angry", "happy", "sad")
    fakes.run(tmp_path / "a", fakes.config(), 0.3, clips=CLIPS, targets=targets, one_hot=True, epochs=3)
    report = reporting.build([tmp_path], 10)
    names = [figure.name for figure in page.all_figures(report)]
    assert names == ["emotions", "learning", "confusion", "calibration", "duration"]
    assert "AUC devel" in score_tables.emotions(report).header
    true, predicted = report.study.labels["devel"].shares, report.study.predictions(report.run, "devel")
    counts = error_figures.confusion_matrix(true, predicted)
    assert counts.sum() == CLIPS
    assert counts[0, 1] == sum(t[0] == 1 and p[1] == max(p) for t, p in zip(true, predicted, strict=True))
    shown = [text.get_text() for text in error_figures.confusion(report).axes[0].texts]
    assert shown == [str(count) for count in counts.ravel()]
    classes, recalls = class_tables.tables_of_classes(report)
    assert {"classes", "recalls"} <= {table.name for table in page.all_tables(report)}
    assert [[int(entry.text) for entry in row[1:4]] for row in recalls.rows] == counts.tolist()
    record = classes.records[0]
    assert record["accuracy_mean"] == pytest.approx(np.trace(counts) / CLIPS)
    assert record["uar_mean"] == pytest.approx(np.mean(np.diag(counts) / counts.sum(axis=1)))
    assert record["uar_low"] < record["uar_mean"] < record["uar_high"]
    emotions = score_tables.emotions(report)
    assert emotions.header[:3] == ("Emotion", "SCC devel", "SCC ≤ devel")
    part = counts[0].sum() / CLIPS
    assert emotions.records[0]["devel_scc_ceiling"] == pytest.approx(np.sqrt(3 * part * (1 - part)), abs=1e-4)


def test_area_under_the_curve_by_counting_pairs() -> None:
    rng = np.random.default_rng(0)
    true = np.eye(3)[rng.integers(3, size=60)]
    predicted = (true + rng.normal(size=true.shape)).round(1)  # with ties
    for e, found in enumerate(area_under_curve(true, predicted)):
        ones, zeros = predicted[true[:, e] == 1, e], predicted[true[:, e] == 0, e]
        wins = [(one > zero) + (one == zero) / 2 for one in ones for zero in zeros]
        assert found == pytest.approx(np.mean(wins))
    assert np.isnan(area_under_curve(np.full((4, 1), 0.5), np.ones((4, 1)))).all()
    assert np.isnan(area_under_curve(np.ones((4, 1)), np.ones((4, 1)))).all()


def test_shares_are_no_classes(tmp_path: Path) -> None:
    fakes.run(tmp_path / "a", fakes.config(), clips=CLIPS)
    report = reporting.build([tmp_path], 5)
    assert not report.study.labels["devel"].one_hot
    assert "AUC devel" not in score_tables.emotions(report).header
    assert class_tables.tables_of_classes(report) == []


def test_runs_of_a_corpus_that_moved_are_one_cell(tmp_path: Path) -> None:
    """What a run is follows from what changes its numbers: neither from places nor from how an older version hashed."""
    fakes.run(tmp_path / "a", fakes.config("tiny", seed=0, data__root="/old/place", trainer__device=1), clips=CLIPS)
    older = fakes.config("tiny", seed=1, data__root="/new/place")
    del older["head"]["dropout"]  # a key that a later version added
    fakes.run(tmp_path / "b", older, clips=CLIPS)
    fakes.failed(tmp_path / "c", fakes.config("tiny", seed=2, data__root="/third/place"))
    (cell,) = reporting.build([tmp_path], 5).study.cells
    assert ([run.seed for run in cell.runs], [run.seed for run in cell.others]) == ([0, 1], [2])


def test_weights_that_were_replaced_are_another_cell(tmp_path: Path) -> None:
    for seed, fingerprint in enumerate("ab"):
        folder = fakes.run(tmp_path / fingerprint, fakes.config("mine", seed=seed), clips=CLIPS)
        (folder / "sources.json").write_text(f'{{"checkpoint": {{"folder": "{fingerprint}"}}}}')
    assert len(reporting.build([tmp_path], 5).study.cells) == 2


def test_mean_absolute_error_and_test_scores_of_every_cell(tmp_path: Path) -> None:
    fakes.sweep(tmp_path, {"tiny": 0.5, "logmel": 0.2}, [1.0, 2.0], seeds=2, clips=CLIPS)
    report = reporting.build([tmp_path], 10)
    table = score_tables.held_out_scores(report)
    assert "not for selection" in table.title
    assert len(table.rows) == 4
    for record in table.records:
        cell = next(cell for cell in report.study.cells if cell.key == record["cell"])
        assert record["test_scc_mean"] == pytest.approx(
            np.mean([run.results.score("test", "scc") for run in cell.runs])
        )
        true = report.study.labels["test"].shares
        errors = [np.mean(np.abs(report.study.predictions(run, "test") - true)) for run in cell.runs]
        assert record["test_mae_mean"] == pytest.approx(np.mean(errors))


def test_learning_curves_of_all_seeds_of_the_best_cell(tmp_path: Path) -> None:
    fakes.sweep(tmp_path, {"tiny": 0.5}, [1.0], seeds=2, clips=CLIPS, epochs=15)
    report = reporting.build([tmp_path], 5)
    [caption] = [figure.caption for figure in page.all_figures(report) if figure.name == "learning"]
    assert "loss, and devel SCC, CCC, Avg, over the epochs" in caption  # the metrics that it draws
    losses, scores = error_figures.learning_curves(report).axes
    assert (len(losses.lines), len(scores.lines)) == (4, 8)  # and a dot per seed
    dots = [line for line in scores.lines if line.get_marker() == "o"]
    assert [list(dot.get_xdata()) for dot in dots] == [[13], [13]]  # epoch 12, counted from 0
    shutil.rmtree(tmp_path / "tiny-1s-seed1")
    (tmp_path / "tiny-1s-seed0" / "metrics.csv").write_text("epoch,devel/avg\n0,what\n")
    assert "learning" not in [figure.name for figure in page.all_figures(reporting.build([tmp_path], 5))]
