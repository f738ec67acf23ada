"""Runs side by side: the same numbers and words as one by one; kills, Ctrl-C and failures cost what they must."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from composed import config
from processes import Command, alive, workers_of

from emoshare.command.fusions import RowFusion
from emoshare.command.parallel import Job, Schedule, _outcome_of_dead
from emoshare.command.verbs import Call
from emoshare.command.worker import _portable
from emoshare.core import cores
from emoshare.core.config import Config
from emoshare.core.cores import SideBySide, side_by_side
from emoshare.core.ensembles import FusionRequest
from emoshare.core.errors import EmoshareError, NotAtHandError, UnusableClips
from emoshare.runs.resolved import ResolvedRun

CONFIG = config("data=demo", "backbone=logmel")
RUN = ResolvedRun(CONFIG)
PER_CALL = (  # of results.json: times, and digests of what holds times
    "timings", "memory", "finished", "seconds", "realtime", "extract_seconds", "parallel", "checksum", "files",
)  # fmt: skip


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_times(part) for name, part in value.items() if name not in PER_CALL}
    return [without_times(part) for part in value] if isinstance(value, list) else value


def found(folder: Path) -> dict[str, Any]:
    """Predictions and curves of every run, byte by byte, and results.json without times."""
    files: dict[str, Any] = {}
    for path in sorted(folder.glob("*/**/*.csv")):
        if path.name != "grid.csv":  # it has the seconds of every fit
            files[str(path.relative_to(folder))] = path.read_bytes()
    for path in sorted(folder.glob("*/results.json")):
        files[str(path.relative_to(folder))] = without_times(json.loads(path.read_text()))
    return files


WITHOUT_PYTORCH = (
    "import sys; from emoshare.command.cli import main; status = main(sys.argv[1:]);"
    "sys.exit(status or 'torch' in sys.modules and 'PyTorch was imported')"
)


def test_side_by_side_gives_what_one_by_one_gives(emoshare, small, tmp_path) -> None:
    """To the last digit, for both heads and a fusion; the frames of a recipe are computed once, by its first run.

    The sweep's own process imports no PyTorch, which a fusion needs, too.
    """
    swept = ["train", "-m", *small, "trainer.precision=32-true", "window.seconds=0.5,1", "head=mlp,svr"]
    swept += ["sweep.row=${head.name}", "+sweep.fuse.both=[mlp,svr]"]
    outputs = {}
    for parallel in ("1", "2"):
        command = [*swept, f"paths.outputs=o{parallel}", f"paths.cache=c{parallel}", f"sweep.parallel={parallel}"]
        if parallel == "1":
            status, out, err = emoshare(*command)
        else:
            program = [sys.executable, "-c", WITHOUT_PYTORCH, *command]
            run = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
            status, out, err = run.returncode, run.stdout, run.stderr
        assert status == 0, err
        assert "4 done" in out
        assert err == ""
        outputs[parallel] = {
            "lines": sorted(line.rpartition(" · ")[0] for line in out.splitlines() if " · devel Avg" in line),
            "table": out.rpartition("4 done")[2],
        }
    assert outputs["1"] == outputs["2"]
    one, two = (found(tmp_path / f"o{parallel}/default") for parallel in "12")
    assert len(one) > 4 * 3
    assert _without_paths(one) == _without_paths(two)
    assert any(name.startswith("fusion-") for name in one)
    reused = [content["frames"].get("reused") for name, content in two.items() if name.endswith("results.json")]
    assert reused.count(False) == 2


def _without_paths(files: dict[str, Any]) -> dict[str, Any]:
    for content in files.values():
        if not isinstance(content, bytes):
            content["config"]["paths"] = {}
            for member in content["members"]:
                member["folder"] = Path(member["folder"]).name
    return files


def test_failures_cost_themselves_alone(emoshare, small, tmp_path) -> None:
    """A checkpoint that is missing, a loss that is no number: recorded by the worker, told once, with its command."""
    swept = [*small, "sweep.parallel=2", "backbone=hubert_base,logmel", "optimizer.lr=1e-3,1e30", "optimizer=sgd"]
    run = emoshare("train", "-m", *swept)
    assert run.status == 1
    assert "1 done, 1 failed, 2 not at hand" in run.out
    assert run.err.count("again: emoshare train") == 3
    assert "Traceback" not in run.out + run.err
    failures = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/default/*/failure.json")]
    assert len(failures) == 3
    assert all("Traceback" in failure["traceback"] for failure in failures)
    assert run.out.count("failed: logmel") == 1


def test_what_a_finished_run_lacks_is_said_as_in_a_sweep_one_by_one(emoshare, small, tmp_path) -> None:
    assert emoshare("train", "-m", *small, "seed=0").status == 0
    [results] = tmp_path.glob("outputs/default/*/results.json")
    results.write_text("{")
    run = emoshare("train", "-m", *small, "seed=0,1,2", "sweep.parallel=2")
    assert run.status == 1
    assert "results.json: not readable" in run.err
    assert len(list(tmp_path.glob("outputs/default/*/metrics.csv"))) == 3


class Sweep:
    """A sweep in a process of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder, self.arguments = folder / "outputs/default", arguments
        self.process = Command(folder, "train", "-m", *arguments)

    def workers(self) -> list[psutil.Process]:
        return workers_of(self.process.pid)

    def wait_for(self, condition: Callable[[], Any], seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < end, "took too long"
            time.sleep(0.02)

    def curves(self) -> list[Path]:
        return list(self.folder.glob("*/metrics.csv"))


def long_sweep(small: list[str]) -> list[str]:
    return [*small, "seed=0,1", "trainer.epochs=60", "sweep.parallel=2"]


def test_a_killed_worker_costs_one_run(emoshare, small, tmp_path) -> None:
    sweep = Sweep(tmp_path, *small, "trainer.epochs=60,1", "seed=0,1", "sweep.parallel=2")  # two long ones, two short
    sweep.wait_for(lambda: len(sweep.curves()) >= 2)
    sweep.workers()[0].send_signal(signal.SIGKILL)
    out, err = sweep.process.communicate()
    assert sweep.process.returncode == 1
    assert "3 done, 1 failed" in out
    assert "the run's process was killed by SIGKILL" in err
    assert "Traceback" not in err
    [failure] = sweep.folder.glob("*/failure.json")
    assert json.loads(failure.read_text())["command"].startswith("emoshare train ")
    again = emoshare("train", "-m", *sweep.arguments, "sweep.parallel=1")  # in this process
    assert again.status == 0, again.err
    assert "4 done" in again.out


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_sweep_ends_all_its_workers_and_goes_on(emoshare, small, tmp_path, stop) -> None:
    if stop == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("workers outlive a killed sweep elsewhere, until their run is done")
    sweep = Sweep(tmp_path, *long_sweep(small))
    sweep.wait_for(lambda: len(sweep.curves()) == 2)
    workers = sweep.workers()
    assert len(workers) == 2
    for process in workers if stop == signal.SIGTERM else []:  # as at the end of a SLURM job's time: all get it
        process.send_signal(stop)
    os.kill(sweep.process.pid, stop)
    out, err = sweep.process.communicate(timeout=60)
    if stop == signal.SIGKILL:
        assert sweep.process.returncode == -signal.SIGKILL
    else:
        assert sweep.process.returncode == 130
        assert err == "emoshare: interrupted; the same command goes on from here\n"
        assert out.count("stopped after epoch") == (2 if stop == signal.SIGTERM else 0)
    assert psutil.wait_procs(workers, timeout=30)[1] == []
    assert "2 interrupted" in emoshare("status", str(sweep.folder)).out
    if stop == signal.SIGINT:
        again = emoshare("train", "-m", *sweep.arguments, "sweep.parallel=1")  # in this process
        assert again.status == 0, again.err
        assert "2 done" in again.out


def test_a_worker_is_interrupted_before_it_is_ready(small, tmp_path) -> None:
    sweep = Sweep(tmp_path, *long_sweep(small))
    sweep.wait_for(lambda: len(sweep.workers()) == 2)
    workers = sweep.workers()
    os.kill(sweep.process.pid, signal.SIGINT)
    _, err = sweep.process.communicate(timeout=60)
    assert sweep.process.returncode == 130
    assert "Traceback" not in err
    assert not any(alive(worker) for worker in workers)


@pytest.mark.parametrize("value", ["0", "two", "1.5", "null"])
def test_a_number_of_runs_that_is_none(emoshare, small, tmp_path, value) -> None:
    run = emoshare("train", "-m", *small, f"sweep.parallel={value}")
    assert run.status == 1
    assert run.err.startswith(f"emoshare: sweep.parallel={value}")
    assert not list(tmp_path.iterdir())


# Which run starts next


def jobs(*recipes: str | None, gb: float | None = None) -> list[Job]:
    asked = replace(CONFIG, cache=replace(CONFIG.cache, max_gb=gb))
    return [Job(number, ResolvedRun(asked), Call([]), recipe) for number, recipe in enumerate(recipes)]


def starts(schedule: Schedule) -> list[int]:
    """The numbers of all runs that can start now."""
    return [job.number for job in iter(schedule.next, None)]


def test_the_first_run_of_a_recipe_computes_its_frames_and_the_others_wait() -> None:
    schedule = Schedule(all_jobs := jobs("a", "a", "a", "b", "b"), SideBySide(4, 1))
    assert starts(schedule) == [0]
    schedule.frames_there(all_jobs[0])
    assert starts(schedule) == [1, 2, 3]  # heads first, then one run computes the next frames beside them
    schedule.end(all_jobs[3])  # without frames: it has failed
    assert starts(schedule) == [4]


def test_where_a_gpu_computes_frames_they_come_first() -> None:
    schedule = Schedule(all_jobs := jobs("a", "a", "b", "b"), SideBySide(2, 1, ahead=True))
    assert schedule.next() is all_jobs[0]
    assert schedule.next() is None
    schedule.frames_there(all_jobs[0])
    assert starts(schedule) == [2, 1]


def test_two_gpus_compute_two_recipes_and_no_recipe_twice() -> None:
    assert starts(Schedule(jobs("a", "a", "b", "c"), SideBySide(4, 2, ahead=True))) == [0, 2]


def test_a_backbone_in_the_loop_has_the_machine_until_its_run_ends() -> None:
    schedule = Schedule(all_jobs := jobs(None, None, "a"), SideBySide(4, 1))
    assert starts(schedule) == [0]
    schedule.end(all_jobs[0])
    assert starts(schedule) == [1]


def test_under_a_budget_frames_of_two_recipes_are_never_held_at_once() -> None:
    schedule = Schedule(all_jobs := jobs("a", "a", "b", gb=1.0), SideBySide(4, 1, ahead=True))
    assert starts(schedule) == [0]
    schedule.frames_there(all_jobs[0])
    assert starts(schedule) == [1]
    schedule.end(all_jobs[0])
    assert starts(schedule) == []
    schedule.end(all_jobs[1])
    assert starts(schedule) == [2]


def fusion(*members: int) -> RowFusion:
    return RowFusion(Path("outputs/x"), "both", 0, FusionRequest(("a", "b")), dict.fromkeys(members, RUN))


def test_a_fusion_waits_for_its_runs_alone() -> None:
    first, second, third = runs = jobs("a", "a", "b")
    schedule = Schedule([*runs, Job.of_fusion(3, fusion(0, 1), RUN, Call([]))], SideBySide(4, 1))
    schedule.frames_there(first)
    assert starts(schedule) == [0, 1, 2]
    schedule.end(first)
    assert starts(schedule) == []
    schedule.end(second)
    assert starts(schedule) == [3]
    schedule.end(third)


def test_a_fusion_of_finished_runs_starts_at_once_beside_a_run_that_computes_frames() -> None:
    made = Job.of_fusion(3, fusion(0, 1), RUN, Call([]))
    assert starts(Schedule([*jobs(None), replace(made, after=frozenset((7, 8)))], SideBySide(4, 1))) == [3, 0]


def test_a_fusion_whose_process_dies_is_an_error_of_its_name() -> None:
    outcome = _outcome_of_dead(Job.of_fusion(3, fusion(0, 1), RUN, Call([])), "killed by SIGKILL")
    assert str(outcome) == "fusion both: its process was killed by SIGKILL"


# How many


def asked(count: int, *overrides: str) -> list[Config]:
    """Runs of some seeds."""
    one = config("data=demo", "backbone=logmel", *overrides)
    return [replace(one, seed=seed) for seed in range(count)]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend a machine of some cores, free memory and GPUs."""

    def pretend(cpus: int, gb: float = 64.0, gpus: int = 0, gpu_runs: int = 4) -> None:
        monkeypatch.setattr(cores, "usable_cores", lambda: cpus)
        monkeypatch.setattr(cores, "_gpus", lambda: gpus)
        monkeypatch.setattr(cores, "_runs_on_gpu", lambda _: gpu_runs)
        memory = psutil.virtual_memory()._replace(available=int(gb * 1e9))
        monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
        monkeypatch.setattr(sys, "platform", "linux")

    return pretend


@pytest.mark.parametrize(
    ("cpus", "count", "overrides", "runs"),
    [
        (8, 12, [], 8), (8, 3, [], 3), (1, 12, [], 1), (8, 0, [], 1), (8, 12, ["trainer.threads=4"], 2),
        (8, 12, ["sweep.parallel=1"], 1), (2, 12, ["sweep.parallel=5"], 5), (8, 3, ["sweep.parallel=5"], 3),
        (8, 12, ["backbone.cache=false"], 1), (8, 12, ["window.crop=random"], 1),
    ],
)  # fmt: skip
def test_as_many_runs_as_cores_have_use_for(machine, cpus, count, overrides, runs) -> None:
    machine(cpus)
    assert side_by_side(asked(count, *overrides)) == SideBySide(runs, 1)


def test_no_more_runs_than_memory_holds(machine) -> None:
    machine(64, gb=8)
    assert side_by_side(asked(12)).runs == int(8 * cores.SHARE / cores.WORKER_GB)
    machine(64, gb=0.5)
    assert side_by_side(asked(12)).runs == 1


def test_runs_on_gpus(machine) -> None:
    machine(16, gpus=2)
    assert side_by_side(asked(12)) == SideBySide(4, 1, ahead=True)
    assert side_by_side(asked(12, "trainer.device=null")) == SideBySide(2, 2, ahead=True)
    assert side_by_side(asked(12, "trainer.device=null", "backbone.cache=false")) == SideBySide(2, 2, ahead=True)
    assert side_by_side(asked(12, "trainer.accelerator=cpu")) == SideBySide(12, 1)


def test_errors_cross_to_the_sweeps_process() -> None:
    sent = NotAtHandError("backbone=x: missing")
    assert _portable(sent) is sent
    changed = _portable(UnusableClips([1], "too short"))
    assert type(changed) is EmoshareError
    assert "too short" in str(changed)
