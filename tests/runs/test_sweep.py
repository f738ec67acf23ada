"""Sweeps through the real command line: planned whole, skipped, resumed, failed in part, killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fakes
import launchers
import psutil
import pytest
import yaml
from composed import CONF, config
from hydra._internal.utils import get_args_parser
from processes import Command, alive, workers_of

from emoshare import api, reporting
from emoshare.backbones.families import FAMILIES
from emoshare.command.compose import plan
from emoshare.command.jobs import Job
from emoshare.core.errors import EmoshareError
from emoshare.runs import sweep
from emoshare.runs.resolved import ResolvedRun
from emoshare.store import cache


def runs(folder: Path) -> dict[str, dict]:
    return {p.parent.name: json.loads(p.read_text()) for p in sorted(folder.glob("*/results.json"))}


def composed(*overrides: str) -> list[Job]:
    """The jobs of a sweep, in their order."""
    return plan(get_args_parser().parse_args(["-m", *overrides]), corpus=True).jobs


def test_a_sweep_trains_skips_and_says_how_many(emoshare, small, tmp_path) -> None:
    first = emoshare("train", "-m", *small, "window.seconds=0.5,1")
    assert first.status == 0, first.err
    assert "2 runs: 2 waiting" in first.out
    assert "2 done" in first.out
    folder = tmp_path / "outputs/default"
    before = {p: p.stat().st_mtime_ns for p in folder.glob("*/results.json")}
    assert len(before) == 2
    again = emoshare("train", "-m", *small, "window.seconds=0.5,1,2")
    assert "3 runs: 2 done, 1 waiting" in again.out
    assert "skipped" not in again.out  # the counts say it
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert len(runs(folder)) == 3
    table = emoshare("status", str(folder)).out
    assert "3 done" in table
    assert [line.split()[1] for line in table.splitlines() if line.startswith("logmel")]


def test_what_changes_no_number_is_trained_once(emoshare, corpus_root, tmp_path) -> None:
    """An SVR on features that see no padding: two windows and two seeds are one run, now and in a later call."""
    svr = ["data=compare23", f"data.root={corpus_root}", "backbone=prosody", "head=svr", "head.grid=[0.01]"]
    svr += ["logger=none", "trainer.progress=false"]
    run = emoshare("train", "-m", *svr, "window=native,paper", "seed=0,1")
    assert run.status == 0, run.err
    assert "1 run (4 were requested): 1 waiting" in run.out
    [name] = runs(tmp_path / "outputs/default")
    assert name.startswith("prosody-svr-")
    assert "seed" not in name
    again = emoshare("train", *svr, "seed=7")
    assert f"/{name} (window" in again.out
    emoshare("train", "-m", *svr, "window=native", "seed=2")
    [listed] = sweep.listed_runs(tmp_path / "outputs/default")
    assert listed.shared["seed"] == [0, 1, 2]
    assert listed.shared["window.pad"] == ["none", "zeros"]
    status = emoshare("status", "outputs/default").out
    assert "seed=0, 1, 2, which change no number of it" in status
    assert status.startswith("outputs/default: 1 done")


def test_losses_are_told_apart_by_one_key(tmp_path) -> None:
    for number, (ccc, mse) in enumerate([(1.0, 0.0), (0.0, 1.0), (1.0, 0.5)]):
        fakes.run(tmp_path / "mine" / f"{number}", fakes.config(loss__ccc=ccc, loss__mse=mse), noise=number)
    lines = {line.strip() for line in sweep.status(tmp_path / "mine").splitlines()}
    assert {"loss=ccc", "loss=mse", "loss=ccc + 0.5 mse"} <= lines
    report = reporting.build([tmp_path / "mine"], 5)
    assert report.varying == ("loss",)
    assert {cell.config["loss"] for cell in report.study.cells} == {"ccc", "mse", "ccc + 0.5 mse"}


def test_a_runs_place_tells_the_varied_keys_that_its_label_lacks(tmp_path) -> None:
    grid = [
        ["backbone=logmel", "seed=0", f"loss={loss}", f"window.seconds={w}"] for loss in ("mse", "ccc") for w in (1, 2)
    ]
    sweep.enlist(tmp_path, [sweep.ListedRun(f"r{n}", "", overrides, {}) for n, overrides in enumerate(grid)])
    place = sweep.place_of(tmp_path / "r2")
    assert place
    assert (place.number, place.varied) == (3, " loss=ccc")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("{kl:1,ccc:0.5}", "0.5 ccc + kl"), ("{kl: 1e-3}", "0.001 kl"), ("{kl:1,gamma:2}", "{kl:1,gamma:2}"),
        ("{kl:${head.width}}", "{kl:${head.width}}"), ("{}", "{}"), ("ccc", "ccc"),
    ],
)  # fmt: skip
def test_a_runs_place_names_a_mix_of_losses_as_tables_do(tmp_path, value, shown) -> None:
    overrides = [[f"loss={value}"], ["loss=mae"]]
    sweep.enlist(tmp_path, [sweep.ListedRun(f"r{n}", "", lines, {}) for n, lines in enumerate(overrides)])
    place = sweep.place_of(tmp_path / "r0")
    assert place
    assert place.varied == f" loss={shown}"


def test_one_failing_run_costs_itself_alone(emoshare, small, tmp_path) -> None:
    result = emoshare("train", "-m", *small, "backbone=hubert_base,logmel,wavlm_base_plus")
    assert result.status == 1
    folder = tmp_path / "outputs/default"
    assert [r["backbone"]["name"] for r in runs(folder).values()] == ["logmel"]
    failures = [json.loads(p.read_text()) for p in folder.glob("*/failure.json")]
    assert len(failures) == 2
    assert all("Traceback" in f["traceback"] and "hub cache" in f["error"] for f in failures)
    assert all("backbone=hubert_base" in f["command"] or "backbone=wavlm_base_plus" in f["command"] for f in failures)
    assert "1 done, 2 not at hand" in result.out
    assert result.err.count("again: emoshare train") == 2
    assert "Traceback" not in result.err + result.out


def test_every_mistake_shows_before_the_first_run(emoshare, small, tmp_path) -> None:
    for bad in (
        "window.seconds=1,abc",
        "window.seconds=1,0.01",
        "backbone=logmel,hubert_lrage",
        "head.nrom=batch,none",
    ):
        result = emoshare("train", "-m", *small, bad)
        assert result.status == 1, bad
        assert len(result.err.splitlines()) == 1, result.err
        assert not (tmp_path / "outputs").exists()


def test_runs_of_a_recipe_are_neighbours(emoshare, small, tmp_path) -> None:
    result = emoshare("train", "-m", *small, "seed=0,1", "window.seconds=0.5,1")
    assert result.status == 0, result.err
    lines = [line for line in result.out.splitlines() if " · devel Avg" in line]
    assert [line.split(" · ")[0] for line in lines] == [
        f"run {number} of 4  logmel {seconds} s seed {seed}"
        for number, (seconds, seed) in enumerate([("0.5", 0), ("0.5", 1), ("1", 0), ("1", 1)], 1)
    ]
    assert [r["frames"]["reused"] for r in runs(tmp_path / "outputs/default").values()].count(False) == 2


def test_frames_go_when_their_last_run_is_done(emoshare, small, tmp_path) -> None:
    result = emoshare("train", "-m", *small, "seed=0,1", "window.seconds=0.5,1", "cache.max_gb=1")
    assert result.status == 0, result.err
    assert result.out.count("dropped the frames") == 2
    found = runs(tmp_path / "outputs/default")
    assert [r["frames"]["reused"] for r in found.values()].count(True) == 2
    assert not list((tmp_path / "cache/frames").glob("*/segments/*"))


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "emoshare", *arguments]


def wait_for(condition, process: Command, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "ended too early"
        assert time.monotonic() < end, "took too long"
        time.sleep(0.01)


def test_a_killed_process_costs_one_run(emoshare, small, tmp_path) -> None:
    """sweep.isolate: SIGKILL of the process that trains; the sweep goes on and says what happened."""
    arguments = [*small, "trainer.epochs=40,1", "sweep.isolate=true"]
    process = Command(tmp_path, "train", "-m", *arguments)
    folder = tmp_path / "outputs/default"
    wait_for(lambda: list(folder.glob("*/metrics.csv")), process)
    [child] = workers_of(process.pid)
    child.send_signal(signal.SIGKILL)
    out, err = process.communicate()
    assert process.returncode == 1
    assert "SIGKILL" in err
    assert "1 done, 1 failed" in out
    assert len(runs(folder)) == 1
    again = emoshare("train", "-m", *arguments, "sweep.isolate=false")
    assert again.status == 0, again.err
    assert "2 done" in again.out
    assert len(runs(folder)) == 2


@pytest.mark.parametrize("isolate", ["false", "true"])
def test_an_interrupted_sweep_goes_on(emoshare, small, tmp_path, isolate) -> None:
    arguments = [*small, "trainer.epochs=40,1", f"sweep.isolate={isolate}"]
    process = Command(tmp_path, "train", "-m", *arguments)
    folder = tmp_path / "outputs/default"
    wait_for(lambda: list(folder.glob("*/metrics.csv")), process)
    children = psutil.Process(process.pid).children()
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130, err
    assert err.endswith("interrupted; the same command goes on from here\n")
    assert "Traceback" not in err
    assert not any(alive(child) for child in children)
    status = emoshare("status", str(folder))
    assert "interrupted" in status.out
    assert "running" not in status.out
    again = emoshare("train", "-m", *arguments, "sweep.isolate=false")
    assert again.status == 0, again.err
    assert len(runs(folder)) == 2


@pytest.mark.parametrize(("experiment", "count"), [("table3", 8), ("table4", 14), ("quickstart", 8)])
def test_experiments_are_the_papers_tables(experiment, count, corpus_root, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    jobs = composed(f"experiment={experiment}", "data=compare23", f"data.root={corpus_root}", "seed=0")
    assert len(jobs) == count
    found = [ResolvedRun(job.config).run.name for job in jobs]
    assert len(set(found)) == count
    names = {name.split("-")[0] for name in found} | {name.split("-")[1] for name in found}
    wanted = {"table3": {"xls_r_1b", "6s"}, "table4": {"hubert_large", "0.032s", "5.5s", "6s"}}
    assert wanted.get(experiment, {"tiny", "logmel"}) <= names


def test_the_grid_names_all_twelve() -> None:
    text = (CONF / "experiment/grid.yaml").read_text()
    listed = yaml.safe_load(text)["hydra"]["sweeper"]["params"]["backbone"].split(",")
    files = {path.stem: path for path in (CONF / "backbone").glob("*.yaml") if path.stem != "tiny"}
    encoders = {name for name, path in files.items() if yaml.safe_load(path.read_text())["type"] in FAMILIES}
    assert len(set(listed)) == len(listed) == 12
    assert set(listed) < encoders


def test_the_command_line_takes_the_experiments_place(emoshare, small, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    jobs = composed("experiment=table3", *small[:2], "backbone=logmel,tiny", "seed=0,1")
    assert [(job.config.backbone.name, job.config.seed) for job in jobs] == [
        ("logmel", 0), ("logmel", 1), ("tiny", 0), ("tiny", 1),
    ]  # fmt: skip


def test_what_changes_no_frames_varies_fastest(small, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    jobs = composed(*small[:2], "data.batch_size=4,8", "seed=0,1", "backbone=logmel,tiny")
    recipes = [sweep.recipe_key(job.config) for job in jobs]
    assert recipes == sorted(recipes, key=recipes.index)
    assert len(set(recipes)) == 2


ONE_AFTER_ANOTHER = """
import json, pathlib, sys
from emoshare.command.cli import main
statuses = [main(command) for command in json.loads(sys.argv[1])]
pathlib.Path("statuses.json").write_text(json.dumps(statuses))
"""


@pytest.mark.parametrize("launcher", launchers.PACKAGES)
def test_other_launchers_run_the_same_sweep_and_share_its_extraction(small, tmp_path, launcher) -> None:
    """An extraction, then the sweep, in one process: what the launcher has started serves both."""
    extracting = ["extract", "-m", small[1], "backbone=logmel", "window.seconds=2", "seed=0,1", "paths.cache=shared"]
    sweeping = ["train", "-m", *small, "backbone=logmel,hubert_base", "trainer.device=null"]
    commands = [[*keys, f"hydra/launcher={launcher}"] for keys in (extracting, sweeping)]
    if launcher == "gpus":  # its jobs are processes of this machine, which share as those of tests/store do
        del commands[0]
    with launchers.working(launcher):
        command = [sys.executable, "-c", ONE_AFTER_ANOTHER, json.dumps(commands)]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
        assert result.returncode == 0, result.stderr
        assert json.loads((tmp_path / "statuses.json").read_text()) == [0, 1][-len(commands) :], result.stderr
        assert len(runs(tmp_path / "outputs/default")) == 1
        assert "1 done, 1 not at hand" in result.stdout
        for folder in cache.folders(tmp_path / "shared"):  # no frame depends on the seed
            stored = [key for segment in cache.segments(folder) for key in segment.entries["key"].tolist()]
            assert len(stored) == len(set(stored)) == 48
        assert len(cache.folders(tmp_path / "shared")) == len(commands) - 1


def test_a_search_counts_its_runs_too(emoshare, small, tmp_path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    result = emoshare("train", "-m", *small, "hydra/sweeper=search", "hydra.sweeper.n_trials=2")
    assert result.status == 0, result.err
    assert "2 done" in result.out


def test_a_run_of_its_own_process_says_itself_why_it_failed(emoshare, small, tmp_path) -> None:
    assert emoshare("train", *small).status == 0
    arguments = [*small, "backbone=hubert_base,logmel", "sweep.isolate=true"]
    for _ in range(2):
        result = emoshare("train", "-m", *arguments)
        assert result.status == 1
        assert "1 done, 1 not at hand" in result.out
        [failure] = (tmp_path / "outputs/default").glob("hubert_base*/failure.json")
        assert "hub cache" in json.loads(failure.read_text())["error"]
        failure.write_text('{"error": "of an earlier call", "traceback": "", "command": ""}')


def test_frames_are_needed_by_what_this_call_still_runs(tmp_path) -> None:
    def enlist(*names: str) -> None:
        sweep.enlist(tmp_path, [sweep.ListedRun(name, "frames", [], {}) for name in names])

    def make(name: str, file: str) -> None:
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / file).write_text("{}")

    enlist("abandoned")
    assert sweep.is_needed(tmp_path / "of another call", "frames", False)
    enlist("a", "b", "c")
    assert sweep.is_needed(tmp_path / "a", "frames", False)
    assert not sweep.is_needed(tmp_path / "a", "others", False)
    for name in "bc":
        make(name, "results.json")
    assert not sweep.is_needed(tmp_path / "a", "frames", False)
    assert sweep.is_needed(tmp_path / "a", "frames", True)  # trained again
    (tmp_path / "b/results.json").unlink()
    make("b", "failure.json")  # will be tried again after a, and was before c
    assert sweep.is_needed(tmp_path / "a", "frames", False)
    make("a", "results.json")
    assert not sweep.is_needed(tmp_path / "c", "frames", False)


def test_windows_without_padding_share_a_recipe_and_their_frames_go_together(tmp_path) -> None:
    native = [config("backbone=logmel", "window=native", f"window.seconds={s}") for s in (1, 2, 3)]
    [recipe] = {sweep.recipe_key(c) for c in native}
    assert sweep.recipe_key(config("backbone=logmel", "window=native", "extract.workers=2")) == recipe
    padded = {sweep.recipe_key(config("backbone=logmel", f"window.seconds={s}")) for s in (1, 2)}
    assert len({recipe, *padded}) == 3
    sweep.enlist(tmp_path, [sweep.ListedRun(name, recipe, [], {}) for name in "abc"])
    sweep.enlist(tmp_path, [sweep.ListedRun("d", "other", [], {})])
    sweep.enlist(tmp_path, [sweep.ListedRun(name, recipe, [], {}) for name in "ab"])
    for name in "abcd":
        fakes.run(tmp_path / name, fakes.config(), clips=10, frames={"source": "store", "request": f"of {name}"})
    assert sweep.requests(tmp_path / "b", recipe) == {"of a", "of b"}  # c is of an earlier call


def test_status_names_what_it_cannot_read_and_runs_beside_the_sweep(emoshare, small, tmp_path) -> None:
    folder = tmp_path / "outputs/default"
    assert emoshare("train", "-m", *small, "seed=0,1").status == 0
    assert emoshare("train", *small, "seed=2").status == 0
    next(folder.glob("*seed0*/results.json")).write_text("{")
    status = emoshare("status", "outputs/default")
    assert status.out.startswith("outputs/default: 2 done, 1 unreadable\n")
    assert "results.json: not readable" in status.out
    assert "force=true trains the run again" in status.out
    assert len([line for line in status.out.splitlines() if line.startswith("logmel")]) == 1


def test_a_sweep_counts_what_it_cannot_read_apart_and_says_it_once(emoshare, small, tmp_path) -> None:
    folder = tmp_path / "outputs/default"
    assert emoshare("train", "-m", *small, "seed=0,1").status == 0
    path = next(folder.glob("*seed0*/results.json"))
    path.write_text("{")
    again = emoshare("train", "-m", *small, "seed=0,1")
    assert again.status == 1
    assert "2 runs: 1 done, 1 unreadable\n" in again.out
    assert "\noutputs/default: 1 done, 1 unreadable\n" in again.out
    assert again.err.count("not readable") == 1
    assert sorted(api.status(folder).values()) == ["done", "unreadable"]
    with pytest.raises(EmoshareError, match=r"results\.json: not readable") as error:
        api.sweep(*small, "seed=0,1")
    assert str(error.value).count("not readable") == 1


def test_a_damaged_note_of_a_failure_stops_nothing(emoshare, small, tmp_path) -> None:
    folder = tmp_path / "outputs/default"
    assert emoshare("train", "-m", *small, "seed=0,1").status == 0
    path = next(folder.glob("*seed0*/results.json"))
    path.unlink()
    path.with_name("failure.json").write_text("{")
    status = emoshare("status", "outputs/default")
    assert status.out.startswith("outputs/default: 1 done, 1 failed\n")
    assert "failure.json: not readable" in status.out
    assert "  again: " not in status.out
    assert emoshare("report", "outputs/default").status == 0
    assert emoshare("train", "-m", *small, "seed=0,1").status == 0
    assert not path.with_name("failure.json").exists()


def test_a_home_folder_is_found_before_hydra_makes_one_called_tilde(emoshare, small, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    result = emoshare("train", "-m", *small, "paths.outputs=~/runs", "seed=0,1")
    assert result.status == 0, result.err
    assert len(runs(tmp_path / "home/runs/default")) == 2
    assert not list(tmp_path.glob("~*"))


def test_status_of_a_run_names_its_sweep(tmp_path) -> None:
    fakes.run(tmp_path / "grid/a", fakes.config(), clips=10)
    with pytest.raises(EmoshareError, match="grid/a: a run; name its sweep"):
        sweep.status(tmp_path / "grid/a")


def test_status_of_nothing_is_an_error(tmp_path) -> None:
    with pytest.raises(EmoshareError, match="no sweep or run here"):
        sweep.status(tmp_path)


@pytest.mark.parametrize("keys", [["sweep.parallel=1"], ["sweep.parallel=2", "sweep.isolate=true"]])
def test_an_experiment_in_a_folder_of_ones_own(emoshare, small, tmp_path, keys) -> None:
    """One by one, and side by side with a process for each run."""
    (tmp_path / "mine/experiment").mkdir(parents=True)
    text = "# @package _global_\nhead:\n  hidden: 17\nhydra:\n  sweeper:\n    params:\n      seed: 3,4,5\n"
    (tmp_path / "mine/experiment/narrow.yaml").write_text(text)
    result = emoshare("train", "-m", "--config-dir", "mine", "experiment=narrow", *small, *keys)
    assert result.status == 0, result.err
    assert "3 done" in result.out
    found = runs(tmp_path / "outputs/default").values()
    assert {(r["seed"], r["config"]["head"]["hidden"]) for r in found} == {(3, 17), (4, 17), (5, 17)}


def test_status_with_test_scores_of_one_seed_alone(tmp_path) -> None:
    """As where the test labels came to light between two runs."""
    for seed in (0, 1):
        fakes.run(tmp_path / "mine" / f"run{seed}", fakes.config(seed=seed), test=seed == 0)
    text = sweep.status(tmp_path / "mine")
    [row] = [line for line in text.splitlines() if line.startswith("tiny")]
    assert row.split()[3] == "2"
    assert "hidden" not in row


def test_status_shows_what_differs_between_rows_that_look_alike(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for n, (seconds, hidden) in enumerate([(1.0, 256), (1.0, 8), (2.0, 256)]):
        fakes.run(
            tmp_path / "mine" / f"run{n}", fakes.config(seconds=seconds, head__hidden=hidden), quality=0.3 + n / 10
        )
    lines = sweep.status(Path("mine")).splitlines()
    rows = [n for n, line in enumerate(lines) if line.startswith("tiny")]
    assert [lines[n].split()[1] for n in rows] == ["2", "1", "1"]
    assert [lines[n + 1].strip() for n in rows[1:]] == ["head.hidden=8", "head.hidden=256"]
    assert all(len(line) <= 80 for line in lines)


def fusions_of_folds(folder: Path, members: Path, name: str | None, weights: list[float] | str = "mean") -> None:
    """A fusion for each of two folds, of the runs of two seeds, as training/fusion.py writes them."""
    for number in range(2):
        folds = {"name": "demo", "fingerprint": "f", "folds": {"by": "2", "of": 2, "fold": number, "undivided": "0"}}
        paths = [members / f"seed{seed}-fold{number}" for seed in range(2)]
        for seed, path in enumerate(paths):
            fakes.run(path, fakes.config(data__folds="2", data__fold=number, seed=seed), clips=20, noise=number)
        shares = [0.5, 0.5] if isinstance(weights, str) else weights
        entries = [
            {"run": path.name, "folder": str(path), "backbone": "tiny", "seed": seed, "weight": weight}
            for seed, (path, weight) in enumerate(zip(paths, shares, strict=True))
        ]
        own = folder / f"fusion-{name}-{number}"
        config = fakes.config("tiny", data__folds="2", data__fold=number, head__name="fusion", sweep__row=name)
        rule = weights if isinstance(weights, str) else "given"
        made = {"system": "fusion", "corpus": folds, "members": entries, "resolved": {"weights": rule}}
        fakes.run(own, config, clips=20, noise=number, **made)
        sources = {"checkpoint": {"members": [f"{name} {number}"], "weights": weights}}
        (own / "sources.json").write_text(json.dumps(sources))


def rows_of(folder: Path) -> dict[str, tuple[str, str]]:
    """First line of a row of the table → its second column of seeds and folds, and the line below it."""
    lines = sweep.status(folder).splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("system"))
    rows = [n for n in range(start + 1, len(lines)) if lines[n] and not lines[n].startswith(" ")]
    shown = {lines[n].split("  ")[0]: (lines[n], (lines[n + 1 :] or [""])[0].strip()) for n in rows}
    assert len(shown) == len(rows)
    return shown


def test_a_fusion_over_folds_is_one_row_with_its_name(tmp_path) -> None:
    folder = tmp_path / "mine"
    fusions_of_folds(folder, folder, "both")
    fusions_of_folds(folder, folder, "more of the first", [0.75, 0.25])
    fusions_of_folds(folder, folder, "more of the second", [0.25, 0.75])
    rows = rows_of(folder)
    assert set(rows) == {"tiny", "both", "more of the first", "more of the second"}
    for name, (line, below) in rows.items():
        assert ("2, 2 folds" if name == "tiny" else "1, 2 folds") in line  # folds, not seeds times folds
        assert name == "tiny" or below == "fusion of 2 runs"


def test_a_fusion_over_folds_is_one_row_where_its_members_lie_elsewhere(tmp_path) -> None:
    fusions_of_folds(tmp_path / "mine", tmp_path / "members", None)
    ((name, (line, _)),) = rows_of(tmp_path / "mine").items()
    assert name == "fusion of 2 runs"
    assert "1, 2 folds" in line


def test_status_fits_80_columns_with_several_seeds(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    fakes.sweep(tmp_path / "mine", {"wav2vec2_audeering": 0.5, "unispeech_sat_base_plus": 0.4}, [0.032, 5.5], seeds=3)
    text = sweep.status(Path("mine"))
    assert "±" in text
    assert max(map(len, text.splitlines())) <= 80


def test_status_of_the_folder_of_sweeps_names_them(tmp_path) -> None:
    for name in ("first", "second"):
        fakes.run(tmp_path / name / "run", fakes.config())
    (tmp_path / "frames").mkdir()
    with pytest.raises(EmoshareError, match=r"holds the sweeps first, second; name one, as .*first"):
        sweep.status(tmp_path)


def test_the_time_that_is_left_is_in_plain_words(tmp_path) -> None:
    fakes.run(tmp_path / "mine" / "run0", fakes.config())
    fakes.write_config(tmp_path / "mine" / "run1", fakes.config(seed=1))
    assert "about 1 minute left" in sweep.status(tmp_path / "mine")
