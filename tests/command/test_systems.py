"""Rows of a results table from one command: systems as a config group, fusions after a sweep, the verb `fuse`."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from composed import CONF, config

from emoshare.command.cli import main
from emoshare.command.fusions import RowFusion, fusion_problems, row_fusions
from emoshare.core.ensembles import FusionRequest, requested_fusions
from emoshare.core.errors import EmoshareError
from emoshare.core.validate import check
from emoshare.runs.resolved import ResolvedRun


def predictions(run: Path, part: str = "devel") -> np.ndarray:
    with (run / "predictions" / f"{part}.csv").open() as file:
        return np.array([[float(x) for x in list(row.values())[1:]] for row in csv.DictReader(file)])


def runs(sweep: Path) -> dict[str, Path]:
    """The folders of a sweep's finished runs by the names of their backbones."""
    found = {}
    for path in sweep.glob("*/results.json"):
        found[json.loads(path.read_text())["backbone"]["name"]] = path.parent
    return found


@pytest.mark.parametrize("system", sorted(path.stem for path in CONF.glob("system/*.yaml")))
def test_every_system_composes_and_is_called_after_its_file(system) -> None:
    made = config(f"system={system}")
    check(made)
    assert made.sweep.row == system


def test_rows_of_fusions_are_systems_of_their_experiment() -> None:
    """A misspelt row would silently leave a member out."""
    table6 = config("experiment=table6")
    assert set(table6.sweep.fuse["late_fusion"]) <= {path.stem for path in CONF.glob("system/*.yaml")}
    assert len(table6.sweep.fuse["late_fusion"]) == 4
    nine = config("experiment=table6_nine", "backbone=xlsr_53")
    assert nine.sweep.row == "xlsr_53"
    assert len(nine.sweep.fuse["nine"]) == 9
    assert all((CONF / "backbone" / f"{name}.yaml").exists() for name in nine.sweep.fuse["nine"])


@pytest.fixture(scope="module")
def trained(small, tmp_path_factory) -> Path:
    """A folder with two finished runs and their frames; read only."""
    folder = tmp_path_factory.mktemp("trained")
    small = [override for override in small if not override.startswith("backbone=")]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "-m", *small, "backbone=logmel,tiny", "sweep.parallel=1"]) == 0
    return folder


@pytest.fixture
def sweep(trained, tmp_path) -> Path:
    """Two finished runs of one's own."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path / "outputs/default"


def test_fuse_takes_runs_or_a_sweep(emoshare, sweep, tmp_path) -> None:
    members = runs(sweep)
    result = emoshare("fuse", *map(str, members.values()), "--out", "outputs/fused")
    assert result.status == 0, result.err
    assert "95 % interval" in result.out
    [fusion] = runs(tmp_path / "outputs/fused").values()
    mean = (predictions(members["logmel"]) + predictions(members["tiny"])) / 2
    np.testing.assert_allclose(predictions(fusion), mean, atol=1e-6)
    again = emoshare("fuse", str(sweep), "--out", "outputs/fused")
    assert "skipped" in again.out
    assert len(list((tmp_path / "outputs/fused").glob("*/results.json"))) == 1
    weighted = emoshare("fuse", str(members["logmel"]), str(members["tiny"]), "--out", "outputs/w", "--weights", "3,1")
    assert weighted.status == 0, weighted.err
    [fusion] = runs(tmp_path / "outputs/w").values()
    expected = 0.75 * predictions(members["logmel"]) + 0.25 * predictions(members["tiny"])
    np.testing.assert_allclose(predictions(fusion), expected, atol=1e-6)
    assert emoshare("report", str(sweep), "outputs/fused").status == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["outputs/none", "outputs/nothing"], ["outputs/none", "outputs/nothing"]),
        (["SWEEP", "--weights", "much"], ["--weights much", "mean, learned, greedy, or numbers"]),
        (["SWEEP", "--weights", "1,2,3"], ["3 weights for 2 runs"]),
        (["SWEEP", "--weights", "1,-1"], ["add up to 0"]),
        (["RUN"], ["two runs or more"]),
    ],
)
def test_what_cannot_be_fused_is_said_in_lines(emoshare, sweep, tmp_path, arguments, words) -> None:
    places = {"SWEEP": str(sweep), "RUN": str(runs(sweep)["logmel"])}
    result = emoshare("fuse", *(places.get(word, word) for word in arguments), "--out", "outputs/fused")
    assert result.status == 1
    assert "Traceback" not in result.err + result.out
    assert all(word in result.err for word in words), result.err
    assert not (tmp_path / "outputs/fused").exists()


def test_runs_of_another_corpus_or_other_targets_are_not_fused(emoshare, sweep, small) -> None:
    other = [override for override in small if not override.startswith("data.root=")]
    assert emoshare("train", *other, "data=demo", "data.clips=20", "sweep.name=other", "data.batch_size=4").status == 0
    assert emoshare("train", *small, "data.targets=[Anger,Sadness]", "sweep.name=two").status == 0
    for sweep_name in ("other", "two"):
        result = emoshare("fuse", str(sweep), f"outputs/{sweep_name}", "--out", "outputs/fused")
        assert result.status == 1
        assert "Traceback" not in result.err
        assert f"outputs/{sweep_name}" in result.err


def test_table6_runs_what_needs_no_download_and_says_how_to_fetch_the_rest(emoshare, tmp_path) -> None:
    """The demo form of Table VI: no hub, so that checkpoints stand as not at hand, and fail nothing."""
    short = [
        "data=demo",
        "data.clips=40",
        "logger=none",
        "trainer.epochs=1",
        "backbone.epochs=1",
        "backbone.batch_size=16",
        "head.grid=[0.01]",
    ]
    systems = ["system=audeep_svr,deepspectrum_svr,hubert_mlp,prosody_svr", "~sweep.fuse.late_fusion"]
    fuse = "+sweep.fuse.pair=[audeep_svr,prosody_svr,deepspectrum_svr]"
    result = emoshare("train", "-m", "experiment=table6", *short, *systems, fuse)
    assert result.status == 0, result.err
    assert "2 done, 2 not at hand" in result.out
    assert result.err.count("hf download") == 2
    assert "fusion pair, seed 0: of 2 of its 3 rows" in result.out
    found = runs(tmp_path / "outputs/table6")
    assert set(found) == {"audeep", "prosody", "audeep+prosody"}
    mean = (predictions(found["audeep"], "test") + predictions(found["prosody"], "test")) / 2
    np.testing.assert_allclose(predictions(found["audeep+prosody"], "test"), mean, atol=1e-6)
    page = emoshare("report", "outputs/table6")
    assert page.status == 0, page.err
    text = (tmp_path / "outputs/table6/report/report.md").read_text()
    assert "not at hand" in text
    assert "hf download microsoft/resnet-50" in text
    assert "Fusion of 2 runs" in text


def test_what_is_not_at_hand_fails_a_sweep_that_does_not_expect_it(emoshare, small) -> None:
    small = [override for override in small if not override.startswith("backbone=")]
    result = emoshare("train", "-m", *small, "backbone=logmel,hubert_base")
    assert result.status == 1
    assert "1 done, 1 not at hand" in result.out


def test_best_is_what_its_comments_say_and_an_ablation_takes_one_choice_away() -> None:
    best = config("experiment=best")
    assert (best.window.pad, best.backbone.layer, best.head.pooling) == ("none", "18", "stats")
    assert (best.train.refit, best.train.average) == (True, 5)
    assert requested_fusions(best.sweep.fuse) == {"ensemble": FusionRequest(("best",), "greedy", "all")}
    rows = set()
    for name in (path.stem for path in CONF.glob("without/*.yaml")):
        made = config("experiment=ablation", f"without={name}")
        check(made)
        different = {key for key, value in _flat(best).items() if _flat(made)[key] != value} - {"sweep.name"}
        taken = {key for key in different if not key.startswith("sweep.")}
        assert len({key.partition(".")[0] for key in taken}) == (name != "nothing"), taken  # one section at a time
        rows.add(made.sweep.row)
        assert (made.sweep.row == made.sweep.reference == "best") == (name == "nothing")
    assert len(rows) == len(list(CONF.glob("without/*.yaml")))


def test_an_ablation_on_the_demo_corpus_ends_with_what_each_choice_is_worth(emoshare, small, tmp_path) -> None:
    keys = [key for key in small if not key.startswith(("backbone=", "seed=", "window", "sweep."))]
    short = ["backbone=logmel", "backbone.layer=last", "without=nothing,refit", "seed=0,1", "train.average=1"]
    result = emoshare("train", "-m", "experiment=ablation", *keys, *short)
    assert result.status == 0, result.err
    sweep = tmp_path / "outputs/ablation"
    fusions = [json.loads(path.read_text()) for path in sweep.glob("fusion-*/results.json")]
    assert [(len(f["members"]), f["resolved"]["weights"], f["config"]["sweep"]["row"]) for f in fusions] == [
        (2, "greedy", "ensemble")
    ]
    assert emoshare("report", str(sweep)).status == 0
    rows = list(csv.DictReader((sweep / "report/tables/choices.csv").open()))
    assert [row["row"] for row in rows] == ["best", "without refit", "ensemble"]
    assert float(rows[1]["devel_avg_difference"]) == 0  # a refit changes test predictions alone


def _flat(made) -> dict[str, object]:
    return {
        f"{section}.{key}": value
        for section, values in asdict(made).items()
        if isinstance(values, dict)
        for key, value in values.items()
    }


def test_a_fusion_that_fails_costs_itself_alone(emoshare, small, monkeypatch) -> None:
    """The sweep ends as ever, with its table and its failures; then every fusion's error stands."""

    def refuse(fusion: RowFusion) -> None:
        raise EmoshareError(f"{fusion.name}: refused")

    monkeypatch.setattr(RowFusion, "make", refuse)
    swept = [*small, "backbone=logmel,hubert_base", "sweep.parallel=1", "sweep.row=a"]
    result = emoshare("train", "-m", *swept, "+sweep.fuse.x=[a]", "+sweep.fuse.y=[a]")
    assert result.status == 1
    assert "1 done, 1 not at hand" in result.out
    assert result.err.count("again: emoshare train") == 1
    assert result.err.splitlines()[-2:] == ["emoshare: x: refused", "emoshare: y: refused"]


def test_runs_of_other_divisions_are_not_fused() -> None:
    """Fold 0 of two and fold 0 of three are other clips; so are those of another split_seed."""
    divisions = [("2", 0), ("3", 0), ("3", 1)]
    swept = [
        config("data=demo", f"backbone={name}", f"sweep.row={name}", "+sweep.fuse.both=[tiny,logmel]", "data.fold=0",
               f"data.folds={folds}", f"data.split_seed={split_seed}")
        for name in ("tiny", "logmel")
        for folds, split_seed in divisions
    ]  # fmt: skip
    made = [
        [run.config.data for run in fusion.members.values()] for fusion in row_fusions(list(map(ResolvedRun, swept)))
    ]
    assert [{(data.folds, data.split_seed) for data in members} for members in made] == [{d} for d in divisions]
    assert [len(members) for members in made] == [2, 2, 2]


def test_fusions_of_seeds_and_folds_are_told_apart(caplog) -> None:
    """Those without two finished runs are warned of, each by its own words."""
    keys = ("data=demo", "backbone=tiny", "sweep.row=a", "paths.outputs=nowhere")
    folds = [config(*keys, "+sweep.fuse.two=[a]", "data.folds=2", f"data.fold={fold}") for fold in (0, 1)]
    plain = config(*keys, "+sweep.fuse.all={rows: [a], seeds: all}")
    for fusion in [*row_fusions(list(map(ResolvedRun, folds))), *row_fusions([ResolvedRun(plain)])]:
        fusion.make()
    names = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert names == ["fusion two, seed 0, fold 0", "fusion two, seed 0, fold 1", "fusion all"]


def test_a_fusion_takes_each_run_once(corpus_root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An SVR has no seed: it is a member for every seed of another row, and with itself it is no fusion."""
    monkeypatch.chdir(tmp_path)

    def asked(fuse: str, *rows: str) -> list[ResolvedRun]:
        keys = ["data=compare23", f"data.root={corpus_root}", "backbone=prosody", f"+sweep.fuse.both={fuse}"]
        made = (config(*keys, f"head={row}", f"sweep.row={row}", f"seed={n}") for row in rows for n in (0, 1))
        return list(map(ResolvedRun, made))

    found = row_fusions(asked("[mlp,svr]", "mlp", "svr"))
    assert [(fusion.seed, sorted(fusion.members)) for fusion in found] == [(0, [0, 2]), (1, [1, 2])]
    [problem] = fusion_problems(asked("{rows: [svr], seeds: all}", "svr"), searching=False)
    assert problem.startswith("sweep.fuse.both: a fusion needs two runs, and both has one (what its configs differ in")
