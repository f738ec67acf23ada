"""A fusion is a run: checked members, scores against numpy, an identity of its own, one line for every error."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.stats import spearmanr

from emoshare import reporting
from emoshare.backbones.kinds.encoder import Options as Encoder
from emoshare.core.config import Config, DataConfig, IntervalsConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.files import write_json
from emoshare.core.folds import random_folds
from emoshare.data.corpus import Corpus, Partition
from emoshare.data.partition import Folds
from emoshare.metrics import bootstrap
from emoshare.models.fusion import FOLDS, cross_fit, fit_weights, select_greedily
from emoshare.runs.folder import Run
from emoshare.runs.predictions import score_and_write
from emoshare.runs.results import BackboneRecord, Best, CorpusRecord, FramesRecord, Resolved, Results
from emoshare.training import fusion
from emoshare.training.fusion import fuse

TARGETS = ("Anger", "Calmness", "Interest")
CLIPS = {"devel": 60, "test": 40}


def labels(name: str) -> np.ndarray:
    return np.random.default_rng([5, CLIPS[name]]).uniform(0, 1, (CLIPS[name], 3)).astype(np.float32)


def member(
    root: Path, backbone: str = "a", seed: int = 0, noise: float = 0.3, fingerprint: str = "f00d",
    targets: tuple[str, ...] = TARGETS, hidden: bool = False, names: str = "clip", level: float = 0.9,
) -> Path:  # fmt: skip
    """A finished run, as the trainer leaves it: labels plus noise are its predictions."""
    config = Config(
        data=DataConfig("demo", "/corpus", targets=list(targets)),
        backbone=Encoder(backbone, backbone, type="hubert", dim=8, layers=2),
        seed=seed,
        intervals=IntervalsConfig(level=level),
    )
    run = Run(root / f"{backbone}-seed{seed}")
    rng = np.random.default_rng([len(backbone), ord(backbone[0]), seed])
    partitions, predictions, start = {}, {}, 0
    for name, count in CLIPS.items():
        files = tuple(f"{name} {names} {i}.wav" for i in range(count))
        true = None if hidden and name == "test" else labels(name)
        partitions[name] = Partition(name, files, true, rng.uniform(1, 8, count), start)
        predictions[name] = (labels(name) + noise * rng.normal(size=(count, 3))).astype(np.float32)
        start += count
    corpus = Corpus("demo", root, root, targets, partitions, fingerprint, ())
    metrics: Any = score_and_write(run, corpus, predictions)
    (run.folder / "config.yaml").write_text(yaml.safe_dump(asdict(config)))
    write_json(run.sources_path, {"corpus": fingerprint, "checkpoint": {"name": backbone, "revision": None}})
    results = Results(
        run=run.name, sweep=root.name, seed=seed, system="mlp", config=asdict(config), targets=list(targets),
        corpus=CorpusRecord("demo", fingerprint, {"train": 100, **CLIPS}),
        backbone=BackboneRecord(backbone), frames=FramesRecord("store"), resolved=Resolved(), versions={},
        best=Best(1, metrics["devel"]["avg"]["mean"]), metrics=metrics, epochs=2,
        timings={"total_seconds": 7.0}, memory={}, finished="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    results.write(run.results_path)
    return run.folder


def table(path: Path) -> np.ndarray:
    return np.array([[float(v) for v in line.split(",")[1:]] for line in path.read_text().splitlines()[1:]])


def stacked(folders: list[Path], name: str) -> np.ndarray:
    return np.stack([table(folder / "predictions" / f"{name}.csv") for folder in folders])


def ccc(x: np.ndarray, y: np.ndarray) -> float:
    return 2 * np.mean((x - x.mean()) * (y - y.mean())) / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


def test_the_mean_is_a_run_with_tables_scores_and_figures(tmp_path: Path, drawn: None) -> None:
    folders = [member(tmp_path / "s", name, noise=noise) for name, noise in (("a", 0.2), ("b", 0.3), ("c", 0.4))]
    results = fuse(folders, tmp_path / "fused")
    run = Run(tmp_path / "fused" / results.run)
    assert results.run.startswith("fusion-a+b+c-")
    assert results == run.results()
    assert (results.system, results.sweep, results.seed, run.state()) == ("fusion", "fused", 0, "done")
    for name in CLIPS:
        fused = stacked(folders, name).mean(0)
        np.testing.assert_allclose(table(run.folder / "predictions" / f"{name}.csv"), fused, atol=1e-7)
        scores = [spearmanr(fused[:, e], labels(name)[:, e]).statistic for e in range(3)]
        assert results.score(name, "scc") == pytest.approx(np.mean(scores), abs=1e-6)
        assert results.score(name, "ccc", "Anger") == pytest.approx(ccc(fused[:, 0], labels(name)[:, 0]), abs=1e-6)
        reference = (folders[0] / "reference" / f"{name}.csv").read_text()
        if results.members[0].folder == str(folders[0]):
            assert (run.folder / "reference" / f"{name}.csv").read_text() == reference
    assert (run.folder / "figures" / "shares.png").stat().st_size > 1000
    assert {entry.run for entry in results.members} == {folder.name for folder in folders}
    assert [entry.weight for entry in results.members] == [pytest.approx(1 / 3)] * 3
    for entry in results.members:
        assert entry.metrics == json.loads((Path(entry.folder) / "results.json").read_text())["metrics"]
    loaded = Config.load(run.config_path)
    assert (loaded.backbone.type, loaded.data.targets) == ("fusion", list(TARGETS))


def test_it_draws_for_itself_alone_and_the_report_after_it_for_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [member(tmp_path, name, noise=noise) for name, noise in (("a", 0.2), ("b", 0.3))]
    before, drawn, replicates = reporting.build([tmp_path]), [], bootstrap.replicates

    def count(true: np.ndarray, predicted: list[np.ndarray], *args: Any, **options: Any) -> Any:
        drawn.append(len(predicted))
        return replicates(true, predicted, *args, **options)

    monkeypatch.setattr(bootstrap, "replicates", count)
    results = fuse(folders, tmp_path)
    assert drawn == [1, 1]  # devel and test: the scores of its best member are kept
    report = reporting.build([tmp_path])
    assert drawn == [1, 1]
    (fused,) = (cell for cell in report.study.cells if cell.is_fusion)
    for name, gains in results.best.gain.items():
        mine, best = report.resampled[fused.key, name], before.resampled[before.best.key, name]
        assert {metric: mine.gain(best, metric) for metric in gains} == {m: (g.low, g.high) for m, g in gains.items()}


def test_given_weights_are_divided_by_their_sum(tmp_path: Path) -> None:
    folders = [member(tmp_path / "s", name) for name in "ab"]
    results = fuse(folders, tmp_path, [3, 1])
    shares = table(tmp_path / results.run / "predictions/test.csv")
    np.testing.assert_allclose(shares, np.einsum("r,rne->ne", [0.75, 0.25], stacked(folders, "test")), atol=1e-7)
    assert {entry.run: entry.weight for entry in results.members} == {"a-seed0": 0.75, "b-seed0": 0.25}
    assert fuse(folders[::-1], tmp_path, [0.25, 0.75]).run == results.run


def test_learned_weights_are_out_of_fold_on_devel_and_fitted_on_all_of_it_for_test(tmp_path: Path) -> None:
    folders = [member(tmp_path / "s", name, noise=noise) for name, noise in (("a", 0.1), ("b", 0.3), ("c", 0.5))]
    results = fuse(folders, tmp_path, "learned")
    order = [Path(entry.folder) for entry in results.members]
    devel, test, true = stacked(order, "devel"), stacked(order, "test"), labels("devel")
    weights = fit_weights(devel, true)
    np.testing.assert_allclose([entry.weight for entry in results.members], weights, atol=1e-6)
    folder = tmp_path / results.run / "predictions"
    np.testing.assert_allclose(table(folder / "test.csv"), np.einsum("r,rne->ne", weights, test), atol=1e-6)
    outside = cross_fit(devel, true, random_folds(np.arange(60), FOLDS))
    np.testing.assert_allclose(table(folder / "devel.csv"), outside, atol=1e-6)
    assert np.abs(table(folder / "devel.csv") - np.einsum("r,rne->ne", weights, devel)).max() > 1e-4
    assert results.resolved == Resolved(weights="learned", rest={"folds": 5})


def test_the_greedy_selection_is_out_of_fold_on_devel_and_made_on_all_of_it_for_test(tmp_path: Path) -> None:
    folders = [member(tmp_path / "s", name, noise=noise) for name, noise in (("a", 0.2), ("b", 0.3), ("c", 0.3))]
    results = fuse(folders, tmp_path, "greedy", name="ensemble")
    order = [Path(entry.folder) for entry in results.members]
    devel, test, true = stacked(order, "devel"), stacked(order, "test"), labels("devel")
    weights = select_greedily(devel, true)
    np.testing.assert_allclose([entry.weight for entry in results.members], weights)
    folder = tmp_path / results.run / "predictions"
    np.testing.assert_allclose(table(folder / "test.csv"), np.einsum("r,rne->ne", weights, test), atol=1e-6)
    outside = cross_fit(devel, true, random_folds(np.arange(60), FOLDS), select_greedily)
    np.testing.assert_allclose(table(folder / "devel.csv"), outside, atol=1e-6)
    assert results.resolved == Resolved(weights="greedy", rest={"folds": 5, "rounds": 25})
    assert results.config["sweep"]["row"] == "ensemble"
    assert fuse(folders, tmp_path, "greedy", name="other").run == results.run


def test_the_gain_over_the_best_member_has_a_paired_interval(tmp_path: Path) -> None:
    folders = [member(tmp_path / "s", name, noise=noise) for name, noise in (("a", 0.3), ("b", 0.31))]
    results = fuse(folders, tmp_path)
    best = max(results.members, key=lambda entry: entry.score("devel", "avg"))  # type: ignore[return-value]
    assert results.best.member == best.run
    rng, true = np.random.default_rng(1), labels("test")
    fused, alone = stacked(folders, "test").mean(0), table(Path(best.folder) / "predictions/test.csv")
    differences = []
    for _ in range(400):  # the bootstrap, written out
        rows = rng.integers(40, size=40)
        scores = [np.mean([spearmanr(x[rows, e], true[rows, e]).statistic for e in range(3)]) for x in (fused, alone)]
        differences.append(scores[0] - scores[1])
    gain = results.best.gain["test"]["scc"]
    assert gain.difference == pytest.approx(results.score("test", "scc") - best.score("test", "scc"))
    low, high = np.percentile(differences, [2.5, 97.5])
    assert gain.low == pytest.approx(low, abs=0.03)
    assert gain.high == pytest.approx(high, abs=0.03)
    assert gain.low < gain.difference < gain.high


def test_its_intervals_are_of_the_level_of_its_members(tmp_path: Path) -> None:
    usual = fuse([member(tmp_path / "usual", seed=seed) for seed in (0, 1)], tmp_path / "usual")
    wide = fuse([member(tmp_path / "wide", seed=seed, level=0.8) for seed in (0, 1)], tmp_path / "wide")
    assert usual.intervals
    assert wide.intervals
    assert (usual.intervals.level, wide.intervals.level) == (0.9, 0.8)


def test_seeds_of_a_cell_are_averaged_by_the_same_call(tmp_path: Path) -> None:
    folders = [member(tmp_path / "s", "a", seed) for seed in range(5)]
    results = fuse(folders, tmp_path)
    assert results.run.startswith("fusion-a-")
    assert results.score("test", "scc") > max(entry.score("test", "scc") for entry in results.members)  # type: ignore[type-var]
    assert [entry.seed for entry in sorted(results.members, key=lambda e: e.seed)] == list(range(5))  # type: ignore[return-value]


def test_the_identity_is_that_of_members_and_weights(tmp_path: Path) -> None:
    a, b, c = (member(tmp_path / "s", name) for name in "abc")
    pair = [a, b]
    runs = [fuse(folders, tmp_path).run for folders in (pair, [a, c], [a, b, c])]
    runs += [fuse(pair, tmp_path, weights).run for weights in ([2, 1], [1, 2], "learned", "greedy")]
    assert len(set(runs)) == 7
    assert fuse([b, a], tmp_path / "other").run == runs[0]
    identities = [Run(tmp_path / name).identity() for name in runs]
    assert len({json.dumps(identity, sort_keys=True) for identity in identities}) == 7
    a.rename(tmp_path / "moved")
    assert fuse([tmp_path / "moved", b], tmp_path / "third").run == runs[0]


def test_a_finished_fusion_is_made_again_only_where_a_member_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [member(tmp_path / "s", name) for name in "ab"]
    first = fuse(folders, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(fusion, "make", None)
        assert fuse(folders, tmp_path) == first
    member(tmp_path / "s", "a", noise=0.1)  # trained again
    second = fuse(folders, tmp_path)
    assert second.run == first.run
    assert second.score("test", "scc") > first.score("test", "scc")


def test_hidden_test_labels_and_a_fusion_of_fusions(tmp_path: Path) -> None:
    folders = [member(tmp_path / "s", name, hidden=True) for name in "abc"]
    results = fuse(folders[:2], tmp_path)
    assert list(results.metrics) == list(results.best.gain) == ["devel"]
    assert not (tmp_path / results.run / "reference/test.csv").exists()
    again = fuse([tmp_path / results.run, folders[2]], tmp_path, [2, 1])
    np.testing.assert_allclose(
        table(tmp_path / again.run / "predictions/test.csv"), stacked(folders, "test").mean(0), atol=1e-6
    )


def test_constant_predictions_count_0_and_are_named(tmp_path: Path) -> None:
    folders = [member(tmp_path / "s", name) for name in "ab"]
    for folder in folders:
        for path in (folder / "predictions").iterdir():
            lines = path.read_text().splitlines()
            rows = [",".join([line.split(",")[0], "0.5", *line.split(",")[2:]]) for line in lines[1:]]
            path.write_text("\n".join([lines[0], *rows]) + "\n")
    results = fuse(folders, tmp_path)
    first, *others = results.targets
    scores = [results.score("devel", "scc", target) for target in others]
    assert results.score("devel", "scc", first) == 0
    assert results.score("devel", "scc") == pytest.approx(sum(scores) / len(results.targets))
    assert results.remarks["constant"]["devel"] == [first]
    assert f"constant predictions, one share for all clips, scored 0: {first}" in fusion.summary(results)


def test_what_is_wrong_is_said_in_one_line_each(tmp_path: Path) -> None:
    a, b = (member(tmp_path / "s", name) for name in "ab")

    def refused(folders: list[Path], weights: Any, *words: str) -> None:
        with pytest.raises(EmoshareError) as caught:
            fuse(folders, tmp_path / "fused", weights)
        lines = str(caught.value).splitlines()
        assert len(lines) == len(words), lines
        for line, word in zip(lines, words, strict=True):
            assert word in line
        assert not (tmp_path / "fused").exists()

    refused([a], "mean", "needs two runs or more, not 1")
    refused([a, b], "median", "weights=median: must be mean, learned, greedy, or a number for each run")
    refused([a, b], [1, 2, 3], "3 weights for 2 runs; give one for each run")
    refused([a, b], [1, -1], "they add up to 0")
    refused([a, b], [1, float("nan")], "must be finite numbers")
    refused([a, tmp_path / "s/../s" / a.name], "mean", f"{a.name}: named twice, by itself or with its sweep")
    shutil.copytree(a, tmp_path / "copy")
    refused([a, tmp_path / "copy"], "mean", f"copy: the same run as {a.resolve()}; name it once")
    refused([a, tmp_path / "nowhere"], "mean", "nowhere: no such folder; name folders of runs")
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    other = member(tmp_path / "other", "c", fingerprint="beef")
    words = member(tmp_path / "words", "d", targets=("Joy", "Calmness", "Interest"))
    clips = member(tmp_path / "clips", "e", names="file")
    refused(
        [a, unfinished, other, words, clips], "mean", "unfinished: no finished run",
        "fuse runs of one corpus", "predicts Joy, Calmness, Interest, and a-seed0 Anger",
        "its devel predictions are not of the clips", "its test predictions are not of the clips",
    )  # fmt: skip
    (b / "predictions/test.csv").unlink()
    refused([a, b], "mean", "has predictions of devel, and a-seed0 of devel and test")
    path = b / "predictions/devel.csv"
    path.write_text(path.read_text().replace(path.read_text().splitlines()[3].split(",")[2], "nan"))
    refused([a, b], "mean", "devel.csv: not readable (a share is no finite number); train the run again")
    path.write_text("filename,Anger\nx,1\n")
    refused([a, b], "mean", "devel.csv: not readable")


def test_the_summary_shows_every_member_beside_the_fusion(tmp_path: Path) -> None:
    folders = [member(tmp_path / "s", name) for name in "ab"]
    text = fusion.summary(fuse(folders, tmp_path, "learned"))
    for word in ("a-seed0", "b-seed0", "fusion", "devel SCC", "test Avg", "95 % interval", "test Avg against"):
        assert word in text


def test_an_unfinished_fusion_is_taken_for_none(tmp_path: Path) -> None:
    folders = [member(tmp_path / "s", name) for name in "ab"]
    results = fuse(folders, tmp_path)
    path = tmp_path / results.run / "results.json"
    path.unlink()  # killed before its last file
    again = fuse(folders, tmp_path)
    assert replace(again, finished=results.finished, timings=results.timings) == results
    assert path.exists()


def test_runs_of_several_folds_are_refused_in_one_line(tmp_path: Path) -> None:
    folders = [member(tmp_path, name, seed, names=f"fold {seed}") for seed in (0, 1, 2) for name in "ab"]
    for folder in folders:
        results = Run(folder).results()
        assert results is not None
        place = Folds("3", 3, results.seed, "0")
        replace(results, corpus=replace(results.corpus, folds=place)).write(folder / "results.json")
    with pytest.raises(EmoshareError) as raised:
        fuse(folders, tmp_path / "fused")
    assert str(raised.value) == (
        f"runs of the folds 0, 1 and 2 of data.folds=3: fuse runs of one fold ({tmp_path}/*-fold0-*), or let the "
        "sweep do it with sweep.fuse"
    )
    assert len(fuse(folders[:2], tmp_path / "fused").members) == 2
