"""What is asked for is done or refused: sweeps and flags in a command of one run, fusions of rows that nobody has."""

from __future__ import annotations

from pathlib import Path

import pytest
from composed import config

import emoshare
from emoshare.command.compose import Plan, plan
from emoshare.command.fusions import fusion_problems
from emoshare.command.hydra_app import _arguments
from emoshare.command.messages import unknown
from emoshare.command.overrides import parse, parse_override, search_problems
from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.core.schema import declared_keys
from emoshare.core.usual import USUAL
from emoshare.runs.resolved import ResolvedRun


def planned(*arguments: str) -> Plan:
    return plan(parse(["data=demo", *arguments]), corpus=True)


@pytest.mark.parametrize("function", ["compose", "load_corpus", "train"])
@pytest.mark.parametrize(
    "asked",
    [
        "-m", "--multirun", "--cfg=job", "-cn=other", "--info", "--resolve", "hydra.mode=MULTIRUN",
        "backbone=logmel,prosody", "seed=range(0,3)", "seed=choice(1,2)", "backbone=glob(*)", "experiment=grid",
        "+sweep.fuse.both=[a,b]", "hydra/launcher=slurm", "hydra.launcher.n_jobs=2",
    ],
)  # fmt: skip
def test_python_refuses_several_runs_and_names_sweep(function, asked, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EmoshareError, match=r"emoshare\.sweep"):
        getattr(emoshare, function)("data=demo", asked)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["experiment=grid"], ["experiment=grid: is a sweep over backbone, window.seconds", "-m"]),
        (["experiment=best", "backbone=tiny"], ["experiment=best: is a sweep over seed"]),
        (["hydra/sweeper=basic"], ["hydra/sweeper=basic", "-m"]),
        (["+sweep.fuse.x=[a,b]"], ["+sweep.fuse.x=[a,b]: is of a sweep"]),
        (["-cn", "other"], ["--config-name"]),
        (["-cp", "other"], ["--config-path"]),
        (["--resolve"], ["--resolve: is for --cfg"]),
        (["--config-dir", "nowhere"], ["--config-dir nowhere: no such folder"]),
        (["-m", "optimizer.lr=interval(0,1)"], ["optimizer.lr=interval(0,1): a search draws from intervals"]),
        (["data.folds=3"], ["data.fold=null: with data.folds=3 one of 0 to 2", "-m runs all of them"]),
    ],
)
def test_what_one_run_has_no_use_for_is_refused(arguments, words) -> None:
    with pytest.raises(EmoshareError) as error:
        planned(*arguments)
    assert all(word in str(error.value) for word in words), error.value


def test_one_run_of_an_experiment_is_named_by_its_keys_and_repeated_without_its_fusions() -> None:
    """As in the line `again: emoshare train …` of a sweep."""
    run = ["experiment=best", "backbone=tiny", "backbone.layer=last", "seed=0"]
    [job] = planned(*run).jobs
    assert job.config.sweep.fuse  # which is the sweep's affair
    swept = planned("-m", *run, "seed=0,1", "+sweep.fuse.two={rows: [best], seeds: all}").jobs[0]
    again = _arguments("train", None, swept.overrides)[1:]
    assert "seed=0" in again
    assert not [word for word in again if "sweep.fuse" in word]
    assert plan(parse(again), corpus=True).jobs


@pytest.mark.parametrize("folds", ["data.folds=5", "data.folds=speaker"])
def test_all_folds_are_swept_where_none_is_named(folds, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    count = 5 if folds.endswith("5") else 6  # speakers of the demo corpus in train and devel
    jobs = planned("-m", "data.clips=40", folds, "backbone=logmel,tiny", "seed=0,1").jobs
    assert [job.config.data.fold for job in jobs[:count]] == list(range(count))
    assert len(jobs) == 4 * count
    assert [job.config.data.fold for job in planned("-m", "data.clips=40", folds, "data.fold=1,2").jobs] == [1, 2]
    assert [job.overrides[-1] for job in jobs[:2]] == ["data.fold=0", "data.fold=1"]


@pytest.mark.parametrize(("value", "words"), [("1", "whole number of at least 2"), ("nosuch", "data.folds")])
def test_folds_that_there_are_not_are_told(value, words, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EmoshareError, match=words):
        planned("-m", "data.clips=40", f"data.folds={value}")


def runs(*rows: str, more: tuple[str, ...] = ()) -> list[ResolvedRun]:
    """Two seeds of each row."""
    keys = ("data=demo", "data.clips=20", "data.root=demo", "backbone=logmel", *more)
    return [
        ResolvedRun(config(*keys, f"sweep.row={row}", f"head.hidden={8 + number}", f"seed={seed}"))
        for number, row in enumerate(rows)
        for seed in (0, 1)
    ]


@pytest.mark.parametrize(
    ("rows", "more", "words"),
    [
        (("a", "b"), "+sweep.fuse.x=[a,c]", ["sweep.fuse.x: no run has the row c", "there are: a, b", "~sweep.fuse.x"]),
        (("a", "b"), "+sweep.fuse.a=[a,b]", ["sweep.fuse.a: a is a row of runs"]),
        (("a", "b"), "+sweep.fuse.x=[a]", ["a fusion needs two runs", "seed 0 has one", "seeds: all"]),
        (("a", "b"), "+sweep.fuse.x=[a,b]", []),
        (("a", "b"), "+sweep.fuse.x={rows: [a], seeds: all}", []),
        (("null",), "+sweep.fuse.x=[a]", ["there is none: set sweep.row"]),
        (("a", "b"), "sweep.reference=c", ["sweep.reference=c: no run has that row; there are: a, b"]),
        (("a", "b"), "sweep.reference=a", []),
    ],
)
def test_fusions_and_references_of_rows_that_nobody_has(rows, more, words, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = "\n".join(fusion_problems(runs(*rows, more=(more,)), searching=False))
    assert bool(found) == bool(words), found
    assert all(word in found for word in words), found


def test_runs_that_are_the_same_are_one_member(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    twice = runs("a", more=("+sweep.fuse.x=[a]", "logger=none")) + runs("a", more=("+sweep.fuse.x=[a]", "logger=wandb"))
    [line] = fusion_problems(twice, searching=False)
    assert "a fusion needs two runs" in line


def test_a_search_fuses_nothing(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    [line] = fusion_problems(runs("a", more=("+sweep.fuse.x=[a]",)), searching=True)
    assert "emoshare fuse" in line


def test_a_fusion_of_rows_that_nobody_has_ends_the_sweep_before_its_first_run(emoshare, small, tmp_path) -> None:
    result = emoshare("train", "-m", *small, "seed=0,1", "+sweep.fuse.both=[nosuchrow]", "sweep.reference=none")
    assert result.status == 1
    assert result.err.count("\n") == 2
    assert not (tmp_path / "outputs").exists()
    keys = [*small, "experiment=ablation", "backbone.layer=last", "train.average=1"]
    result = emoshare("train", "-m", *keys, "backbone=logmel", "without=native,refit")
    assert "sweep.reference=best: no run has that row" in result.err
    assert not (tmp_path / "outputs").exists()


def test_the_ends_of_a_searchs_spaces_are_checked() -> None:
    spaces = ["optimizer.lr=interval(-1,0.1)", "head.hidden=choice(8,x)", "seed=0"]
    tried: list[list[str]] = []
    params = {"head.dropout": "tag(log, interval(0.1,2))", "seed": "0,1"}
    found = list(search_problems(lambda more: tried.append(more) or more, map_parse(spaces), params))
    assert found == [
        "optimizer.lr=-1.0", "optimizer.lr=0.1", "head.hidden=8", "head.hidden=x", "head.dropout=0.1",
        "head.dropout=2.0",
    ]  # fmt: skip


def map_parse(lines: list[str]) -> list:
    return [parse_override(line) for line in lines]


def test_an_entry_of_a_dictionary_can_be_taken_away_and_no_other_key() -> None:
    made = planned("-m", "experiment=table6", "system=tiny_mlp", "~sweep.fuse.late_fusion").jobs[0].config
    assert made.sweep.fuse == {}
    with pytest.raises(EmoshareError, match=r"~head\.hidden: a key cannot be taken away"):
        planned("~head.hidden")


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("lr", "optimizer.lr"), ("model", "backbone"), ("epochs", "trainer.epochs"), ("bs", "data.batch_size"),
        ("trainer.lr", "optimizer.lr"), ("model.dropout", "head.dropout"), ("trainer.max_epochs", "trainer.epochs"),
        ("backbone.lr", "optimizer.lr"), ("windw.seconds", "window"), ("level", ""), ("frame_mask", "train.frame_mask"),
        ("output_dir", "paths.outputs"), ("gpus", "trainer.device"), ("window.second", "window.seconds"),
    ],
)  # fmt: skip
def test_words_of_other_tools_lead_to_our_keys(key, meant) -> None:
    assert unknown(key).startswith(f"{key}: no such key")
    assert (f"did you mean '{meant}'" in unknown(key)) == bool(meant), unknown(key)


def test_what_is_suggested_is_there() -> None:
    conf = Path(emoshare.__file__).parents[1] / "conf"
    groups = {path.name for path in conf.iterdir() if path.is_dir()}
    assert set(USUAL.values()) <= set(declared_keys(Config)) | groups
