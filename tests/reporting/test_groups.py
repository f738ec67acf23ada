"""The report by groups and over folds, from made-up runs whose truth is known."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from scipy.stats import entropy, spearmanr

from emoshare import reporting
from emoshare.core.config import EMOTIONS
from emoshare.core.errors import EmoshareError
from emoshare.core.hashing import write_sealed
from emoshare.metrics import bootstrap
from emoshare.reporting import group_tables, label_tables, page, prediction_tables, run_tables, score_tables
from emoshare.reporting.formats import delta
from emoshare.reporting.groups import Grouped
from emoshare.runs.results import Best

CLIPS = 240


def group(folder: Path, columns: dict[str, list[str]], part: str = "devel") -> None:
    """groups/<part>.csv as a run leaves it."""
    (folder / "groups").mkdir(exist_ok=True)
    with (folder / "groups" / f"{part}.csv").open("w", newline="") as handle:
        files = [f"{part}_{n:05d}.wav" for n in range(len(next(iter(columns.values()))))]
        csv.writer(handle).writerows([["filename", *columns], *zip(files, *columns.values(), strict=True)])


def spoil(folder: Path, rows: np.ndarray) -> None:
    """Replace the predictions of some devel clips by noise."""
    path = folder / "predictions" / "devel.csv"
    header, *lines = list(csv.reader(path.open()))
    noise = np.random.default_rng(0).random((len(lines), len(EMOTIONS)))
    for row in rows:
        lines[row][1:] = [f"{value:.6f}" for value in noise[row]]
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows([header, *lines])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return fakes.run(tmp_path / "s" / "a", fakes.config(), 0.6, clips=CLIPS)


def built(folder: Path, resamples: int = 200) -> reporting.Report:
    return reporting.build([folder], resamples)


def test_scores_by_group_are_those_of_their_clips(run: Path) -> None:
    sexes = ["f"] * 150 + ["m"] * 85 + ["x"] * 5
    group(run, {"sex": sexes})
    report = built(run)
    assert report.study.labels["devel"].cluster is None
    table = group_tables.tables_of_groups(report)[0]
    assert [row[1].text for row in table.rows] == ["f", "m"]  # x has too few clips
    predicted, true = report.study.predictions(report.run, "devel"), report.study.labels["devel"].shares
    for record, rows in zip(table.records, (slice(150), slice(150, 235)), strict=True):
        expected = np.mean([spearmanr(predicted[rows, e], true[rows, e]).statistic for e in range(len(EMOTIONS))])
        assert record["scc_mean"] == pytest.approx(expected, abs=1e-12)
        assert record["scc_low"] < expected < record["scc_high"]
        assert record["clips"] == len(predicted[rows])


def test_a_gap_is_found_where_there_is_one_and_not_where_there_is_none(run: Path) -> None:
    halves = ["n"] * (CLIPS // 2) + ["s"] * (CLIPS // 2)
    mixed = ["even", "odd"] * (CLIPS // 2)
    group(run, {"half": halves, "parity": mixed})
    spoil(run, np.arange(CLIPS // 2, CLIPS))
    (real, none) = group_tables.tables_of_groups(built(run))[1].records
    assert (real["column"], real["high"], real["low"], real["verdict"]) == ("half", "n", "s", "a gap")
    assert real["difference_low"] > 0
    assert real["p"] < 0.01
    assert (none["column"], none["verdict"]) == ("parity", "not shown")
    assert none["difference_low"] < 0 < none["difference_high"]


def test_gaps_without_a_cause_are_seldom_called_gaps(run: Path) -> None:
    """Random groups of speakers: the interval for the best against the worst of three holds zero nearly always."""
    rng, called = np.random.default_rng(1), 0
    group(run, {"speaker": [f"s{n % 60}" for n in range(CLIPS)]})
    report = built(run, 100)
    labels = report.study.labels["devel"]
    for _ in range(30):
        team = rng.permutation(np.repeat(["x", "y", "z"], 20))
        labels.groups["team"] = team[labels.clusters]
        (gap,) = [gap for gap in Grouped(report, "devel").gaps() if gap.high.column == "team"]
        called += gap.real
    assert called <= 4


def test_intervals_are_by_speaker_where_speakers_are_known(run: Path) -> None:
    speakers = [f"s{n // 8}" for n in range(CLIPS)]
    alone = built(run)
    group(run, {"speaker": speakers})
    together = built(run)
    assert together.units == "clips, drawn by speaker (on test: clips)"  # whose speakers are not known
    cell, other = alone.best, together.best
    assert alone.score(cell, "avg").mean == together.score(other, "avg").mean
    assert alone.score(cell, "avg").low != together.score(other, "avg").low
    intervals = group_tables.tables_of_groups(together)[-1]
    record = next(row for row in intervals.records if row["metric"] == "avg")
    assert (record["clips_low"], record["clips_high"]) == (alone.score(cell, "avg").low, alone.score(cell, "avg").high)
    assert record["cluster_low"] == together.score(other, "avg").low
    assert "30 in devel" in intervals.caption
    assert "drawn by speaker" in score_tables.backbones(together).caption
    assert not group_tables.tables_of_groups(alone)


def test_scores_by_the_entropy_of_the_labels_are_those_of_their_clips(run: Path) -> None:
    report = built(run)
    (table,) = [table for table in label_tables.tables_of_labels(report) if table.name == "entropy"]
    predicted, true = report.study.predictions(report.run, "devel"), report.study.labels["devel"].shares
    each = entropy((true / true.sum(axis=1, keepdims=True)).T) / np.log(len(EMOTIONS))
    order = np.argsort(each)
    devel = [record for record in table.records if record["partition"] == "devel"]
    assert [record["clips"] for record in devel] == [CLIPS // 3] * 3
    for record, rows in zip(devel, np.split(order, 3), strict=True):
        assert record["group"].endswith(f"{each[rows].min():.2f} to {each[rows].max():.2f}")
        expected = np.mean([spearmanr(predicted[rows, e], true[rows, e]).statistic for e in range(len(EMOTIONS))])
        assert record["scc_mean"] == pytest.approx(expected, abs=1e-12)
        assert record["scc_low"] < expected < record["scc_high"]
    assert '<section id="entropy"' in page.save(report, run.parent.parent / "page").page.read_text()


def test_a_cluster_that_the_config_names(tmp_path: Path) -> None:
    run = fakes.run(tmp_path / "a", fakes.config(data__cluster="session"), clips=CLIPS)
    group(run, {"session": [str(n // 40) for n in range(CLIPS)], "speaker": [str(n) for n in range(CLIPS)]})
    report = built(run)
    assert report.study.labels["devel"].cluster == "session"
    assert any("Devel has 6 values of session" in text for text in page.warnings(report))


# Folds


def fold(folder: Path, number: int, of: int, **keys: Any) -> Path:
    """A run of one fold: its devel clips are named by it."""
    seed = keys.pop("seed", 0)
    made = fakes.run(folder, fakes.config(data__folds=str(of), data__fold=number, seed=seed), noise=number, **keys)
    for kind in ("predictions", "reference"):
        path = made / kind / "devel.csv"
        path.write_text(path.read_text().replace("devel_", f"fold{number}_"))
    results = json.loads((made / "results.json").read_text())
    results["corpus"]["folds"] = {"by": str(of), "of": of, "fold": number, "undivided": "0"}
    write_sealed(made / "results.json", results)
    return made


def test_folds_are_one_result(tmp_path: Path) -> None:
    for seed in range(2):
        for number in range(3):
            fold(tmp_path / f"s{seed}f{number}", number, 3, seed=seed, clips=50)
    report = built(tmp_path)
    (cell,) = report.study.cells
    assert [run.seed for run in cell.runs] == [0, 1]
    assert len(cell.trained_runs) == 6
    labels = report.study.labels["devel"]
    assert labels.files[::50] == ("fold0_00000.wav", "fold1_00000.wav", "fold2_00000.wav")
    first = cell.runs[0]
    predicted = report.study.predictions(first, "devel")
    assert predicted.shape == (150, 9)
    expected = np.mean([spearmanr(predicted[:, e], labels.shares[:, e]).statistic for e in range(9)])
    assert first.results.score("devel", "scc") == pytest.approx(expected, abs=1e-12)
    assert report.score(cell, "scc").mean == pytest.approx(np.mean(cell.scores("devel", "scc")))
    tests = [report.study.predictions(part, "test") for part in first.parts]
    np.testing.assert_allclose(report.study.predictions(first, "test"), np.mean(tests, axis=0))
    assert first.results.corpus.clips["devel"] == 150
    assert any("Cross-validation with 3 folds" in text for text in page.warnings(report))
    assert run_tables.costs(report).rows[0][4].small == "6 runs"
    assert len(run_tables.runs(report).rows) == 6
    assert len(page.all_tables(report)) > 5


def test_a_missing_fold_is_said(tmp_path: Path) -> None:
    for number in range(3):
        fold(tmp_path / f"f{number}", number, 3, clips=50)
        if number != 1:
            fold(tmp_path / f"g{number}", number, 3, clips=50, seed=1)
    report = built(tmp_path)
    (cell,) = report.study.cells
    assert [run.seed for run in cell.runs] == [0]
    assert [run.seed for run in cell.others] == [1]
    assert "tiny, 1 s, seed 1: fold 1 of 3 missing, so no score." in page.warnings(report)
    counted = {Path(row["folder"]).name: row["counted"] for row in run_tables.runs(report).records}
    assert counted == {"f0": True, "f1": True, "f2": True, "g0": False, "g2": False}


def test_nothing_but_parts_of_folds_is_an_error(tmp_path: Path) -> None:
    fold(tmp_path / "f0", 0, 3, clips=50)
    with pytest.raises(EmoshareError, match="folds 1, 2 of 3 missing"):
        built(tmp_path)


# Intervals of single predictions


def test_intervals_of_predictions_are_shown_and_those_of_folds_are_of_all(tmp_path: Path) -> None:
    from emoshare.models import conformal

    runs = [fold(tmp_path / f"f{number}", number, 2, clips=150) for number in range(2)]
    assert not prediction_tables.tables_of_predictions(built(tmp_path))  # an earlier release's runs
    for run in runs:
        results = json.loads((run / "results.json").read_text())
        results["intervals"] = {"level": 0.8, "calibration": "isotonic", "targets": {}, "measured": {}}
        write_sealed(run / "results.json", results)
    report = built(tmp_path)
    (table,) = prediction_tables.tables_of_predictions(report)
    predicted = {part: report.study.predictions(report.run, part) for part in ("devel", "test")}
    true = {part: report.study.labels[part].shares for part in predicted}
    found = conformal.fit(predicted, true, EMOTIONS, None, 0.8, "isotonic")
    assert report.run.results.intervals == found
    for record in table.records:
        assert record["coverage_mean"] == found.measured[record["partition"]].coverage["mean"]
        assert record["coverage_mean"] == pytest.approx(0.8, abs=0.05)
    assert "80.0 % of clips" in table.caption


def fusion_of_folds(root: Path, number: int, of: int, members: list[Path], quality: float = 0.6) -> Path:
    """The fusion of one fold's members: its devel clips are named by the fold."""
    fused = fakes.fusion(root, members, quality, clips=60)
    results = json.loads((fused / "results.json").read_text())
    results["corpus"]["folds"] = {"by": str(of), "of": of, "fold": number, "undivided": "0"}
    results["resolved"] |= {"weights": "mean"}
    write_sealed(fused / "results.json", results)
    for kind in ("predictions", "reference"):
        path = fused / kind / "devel.csv"
        path.write_text(path.read_text().replace("devel_", f"fold{number}_"))
    return fused


def members_of_folds(root: Path, number: int, of: int) -> list[Path]:
    """Two runs of a fold, of the seeds 0 and 1."""
    return [fold(root / f"m{seed}f{number}", number, of, clips=60, seed=seed) for seed in range(2)]


def test_fusions_are_joined_over_folds_too(tmp_path: Path) -> None:
    for number in range(2):
        fusion_of_folds(tmp_path / f"fusion-{number}", number, 2, members_of_folds(tmp_path, number, 2))
    report = built(tmp_path)
    assert report.study.folds.missing == []
    assert sorted((cell.system, len(cell.runs), len(cell.trained_runs)) for cell in report.study.cells) == [
        ("fusion", 1, 2), ("mlp", 2, 4),
    ]  # fmt: skip


def test_a_fusion_of_missing_folds_has_no_window(tmp_path: Path) -> None:
    for number in range(2):
        members = members_of_folds(tmp_path, number, 2)
    fusion_of_folds(tmp_path / "fusion-1", 1, 2, members)
    assert "tiny+logmel, seed 0: fold 0 of 2 missing, so no score." in page.warnings(built(tmp_path))


def test_fusions_of_given_weights_are_joined_by_their_weights(tmp_path: Path) -> None:
    """The same members with other weights are another fusion."""
    for number in range(2):
        members = members_of_folds(tmp_path, number, 2)
        for weights in ([0.75, 0.25], [0.25, 0.75]):
            name = f"fusion-{number}-{weights[0]}"
            fused = fusion_of_folds(tmp_path / name, number, 2, members)
            results = json.loads((fused / "results.json").read_text())
            results["resolved"]["weights"] = "given"
            for member, weight in zip(results["members"], weights, strict=True):
                member["weight"] = weight
            write_sealed(fused / "results.json", results)
            (fused / "sources.json").write_text(json.dumps({"checkpoint": {"members": [name]}}))
    fusions = [cell for cell in built(tmp_path).study.cells if cell.system == "fusion"]
    assert [len(cell.trained_runs) for cell in fusions] == [2, 2]


def test_the_gain_of_a_fusion_over_folds_is_that_of_all_folds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the 0.02 that each fold's fusion names."""
    for number in range(2):
        fusion_of_folds(tmp_path / f"fusion-{number}", number, 2, members_of_folds(tmp_path, number, 2), 0.9)
    built(tmp_path)
    monkeypatch.setattr(bootstrap, "replicates", None)  # the scores of the folds' runs are kept
    report = built(tmp_path)
    cells = {cell.system: cell for cell in report.study.cells}
    (fused,) = cells["fusion"].runs
    best = max(cells["mlp"].runs, key=lambda run: run.results.score("devel", "avg"))
    assert fused.results.best.member == best.results.run
    for part in ("devel", "test"):
        found = fused.results.best.gain[part]["avg"]
        expected = fused.results.score(part, "avg") - best.results.score(part, "avg")
        assert found.difference == pytest.approx(expected)
        assert found.low < expected < found.high
    shown = next(row[0].small for row in score_tables.systems(report).rows if row[0].text.startswith("Fusion"))
    gain = fused.results.best.gain["devel"]["avg"]
    assert f"its best member: {delta(gain.difference)} [{delta(gain.low)}, {delta(gain.high)}]" in shown


def test_no_gain_is_shown_where_the_members_of_folds_are_not_at_hand(tmp_path: Path) -> None:
    for number in range(2):
        members = members_of_folds(tmp_path / "elsewhere", number, 2)
        fusion_of_folds(tmp_path / "here" / f"fusion-{number}", number, 2, members)
    (cell,) = built(tmp_path / "here").study.cells
    assert cell.runs[0].results.best == Best(None, cell.runs[0].results.score("devel", "avg"))


def test_few_speakers_are_not_drawn(run: Path) -> None:
    """A single speaker per group, or four in all: resamples of them would all be alike, and every gap would be one."""
    group(run, {"speaker": [f"s{n // 40}" for n in range(CLIPS)]})
    report = built(run)
    group(run, {"speaker": ["s0", "s1"] * (CLIPS // 2)}, "test")
    report = built(run)
    assert report.units == "clips, drawn by speaker (on test: clips)"
    assert "drawn by speaker (on test: clips)" in score_tables.held_out_scores(report).caption
    (gap,) = Grouped(report, "devel").gaps()
    assert gap.high.column == "speaker"
    assert not gap.real
    assert gap.high.replicates["avg"].std() > 0.01
    group(run, {"speaker": [f"s{n // 60}" for n in range(CLIPS)]})
    report = built(run)
    assert report.units == "clips"
    assert any("too few to draw by speaker" in text for text in page.warnings(report))


def test_a_group_without_an_emotion_is_scored_on_the_others_and_gaps_on_what_all_have(run: Path) -> None:
    path, group_of = run / "reference" / "devel.csv", ["n"] * (CLIPS // 2) + ["s"] * (CLIPS // 2)
    group(run, {"half": group_of})
    header, *lines = list(csv.reader(path.open()))
    for line in lines[: CLIPS // 2]:
        line[1] = "0"  # nobody of "n" shows the first emotion
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows([header, *lines])
    report = built(run)
    groups, gaps, *_ = group_tables.tables_of_groups(report)
    predicted, true = report.study.predictions(report.run, "devel"), report.study.labels["devel"].shares
    each = {
        name: [spearmanr(predicted[rows, e], true[rows, e]).statistic for e in range(1, len(EMOTIONS))]
        for name, rows in (("n", slice(CLIPS // 2)), ("s", slice(CLIPS // 2, None)))
    }
    record = next(row for row in groups.records if row["group"] == "n")
    assert record["scc_mean"] == pytest.approx(np.mean(each["n"]), abs=1e-12)
    assert record["scc_low"] < record["scc_mean"] < record["scc_high"]
    assert (record["targets"], groups.rows[0][3].small) == (8, "8 of 9 targets")
    assert "mean is over the other targets" in groups.caption
    (gap,) = gaps.records
    found = {group.value: group for group in Grouped(report, "devel").groups["half"]}
    levels = {name: found[name].points["avg"][0, 1:].mean() for name in "ns"}
    assert gap["targets"] == 8
    assert gap["difference"] == pytest.approx(abs(levels["n"] - levels["s"]), abs=1e-12)
    assert gap["difference_low"] < gap["difference"] < gap["difference_high"]
