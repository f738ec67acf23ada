"""A run's folder: its states, and that a finished run stays finished whatever happens afterwards."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from composed import config

from emoshare.core import files as core_files
from emoshare.core.errors import EmoshareError
from emoshare.core.hashing import write_sealed
from emoshare.runs import sweep
from emoshare.runs.folder import Failure, Run, lock
from emoshare.runs.resolved import ResolvedRun
from emoshare.training import neural

ROOT = Path(__file__).parents[2]


def only(folder: Path) -> Run:
    """The one run of a sweep."""
    [path] = folder.glob("*/config.yaml")
    return Run(path.parent)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_states(tmp_path) -> None:
    run = Run(tmp_path / "sweep" / "run")
    assert run.state() == "waiting"
    run.folder.mkdir(parents=True)
    run.config_path.write_text("seed: 1\n")
    assert run.state() == "interrupted"
    assert run.config().seed == 1
    resolved = ResolvedRun(config())
    resolved.run = run
    resolved.fail(Failure("why", "where", "again"))
    assert run.state() == "failed"
    assert run.failure() == Failure("why", "where", "again")
    with lock(run.folder):
        assert run.state() == "running"
    assert run.state() == "failed"
    run.results_path.write_text("{}")
    assert run.state() == "done", "whatever else lies there"


@pytest.mark.parametrize(
    ("override", "key"), [("sweep.name=../x", "sweep.name"), ("sweep.name=..", "sweep.name"), ("backbone.name=a/b", "")]
)
def test_names_cannot_leave_the_outputs(override: str, key: str, corpus_root) -> None:
    with pytest.raises(EmoshareError, match=key or "backbone.name"):
        _ = ResolvedRun(config(f"data.root={corpus_root}", override)).run


@pytest.fixture
def finished(emoshare, small, tmp_path) -> Run:
    result = emoshare("train", *small)
    assert result.status == 0, result.err
    return only(tmp_path / "outputs/default")


@pytest.mark.parametrize("flags", [[], ["-m"]])
@pytest.mark.parametrize(
    "change", [["logger=wandb", "logger.mode=online"], ["trainer.accelerator=gpu"], ["trainer.device=7"]]
)
def test_a_finished_run_needs_no_logger_and_no_gpu(emoshare, small, finished, monkeypatch, flags, change) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    before = files(finished.folder)
    result = emoshare("train", *flags, *small, *change)
    assert result.status == 0, result.err
    assert files(finished.folder) == before
    assert not finished.failure_path.exists()


@pytest.mark.parametrize("flags", [[], ["-m"]])
def test_a_finished_run_needs_no_corpus(emoshare, small, corpus_root, tmp_path, flags) -> None:
    root = tmp_path / "corpus"
    shutil.copytree(corpus_root, root)
    command = ["train", *flags, *small, f"data.root={root}"]
    assert emoshare(*command).status == 0
    root.rename(tmp_path / "unmounted")
    again = emoshare(*command)
    assert again.status == 0, again.err
    assert not list((tmp_path / "outputs").rglob("failure.json"))
    assert "1 done" in emoshare("status", str(tmp_path / "outputs/default")).out


def test_a_finished_run_whose_frames_cannot_be_dropped_is_finished(emoshare, small, tmp_path, monkeypatch) -> None:
    from emoshare.store import cache

    def refuse(folder: Path, requests: object = None) -> bool:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(cache, "drop", refuse)
    result = emoshare("train", "-m", *small, "cache.max_gb=1")
    assert result.status == 0, result.err
    assert "could not be dropped" in result.out
    assert not list((tmp_path / "outputs").rglob("failure.json"))


@pytest.mark.parametrize("flags", [[], ["-m"]])
def test_a_restart_that_fails_leaves_the_run_as_it_was(emoshare, small, finished, monkeypatch, flags) -> None:
    before = files(finished.folder)
    monkeypatch.setattr(neural, "load", lambda *_: (_ for _ in ()).throw(RuntimeError("a restart fails")))
    result = emoshare("train", *flags, *small, "force=true")
    assert result.status == 1
    assert "a restart fails" in result.err
    after = files(finished.folder)
    assert json.loads(after.pop("failure.json"))["command"].endswith("force=True") or flags == []
    assert after == before
    assert finished.state() == "done"
    assert not [path for path in finished.folder.parent.iterdir() if path.name.endswith(".part")]
    assert emoshare("train", *flags, *small).status == 0
    assert not finished.failure_path.exists(), "what was found before the restart stands again"


def test_a_restart_takes_the_place_of_the_old_at_its_end(emoshare, small, finished, monkeypatch) -> None:
    outside = finished.folder.parents[1] / "elsewhere"
    outside.mkdir()
    (outside / "mine.txt").write_text("mine")
    (finished.folder / "link").symlink_to(outside)
    (finished.folder / "note.txt").write_text("of the old run")
    before, seen = files(finished.folder), []
    plain = neural.load

    def look(path: Path, module: object) -> int:
        folder = path.parents[1]
        seen.append((folder.name, folder != finished.folder, files(finished.folder) == before))
        return plain(path, module)

    monkeypatch.setattr(neural, "load", look)
    result = emoshare("train", *small, "force=true")
    assert result.status == 0, result.err
    assert seen == [(finished.name, True, True)]
    assert not (finished.folder / "note.txt").exists()
    assert (outside / "mine.txt").read_text() == "mine"
    assert (
        finished.results().score("devel", "avg")
        == json.loads(before["results.json"])["metrics"]["devel"]["avg"]["mean"]
    )
    assert not [path for path in finished.folder.parent.iterdir() if path.name.endswith((".part", ".old"))]


def test_what_lies_in_the_folder_is_compared_with_what_is_asked(emoshare, small, finished) -> None:
    content = json.loads(finished.results_path.read_text())
    content["config"]["head"]["hidden"] = 8
    write_sealed(finished.results_path, content)
    result = emoshare("train", *small)
    assert result.status == 1
    assert "was made from another config; force=true" in result.err


def test_the_identity_is_worked_out_from_the_files(emoshare, small, finished) -> None:
    """The hash in the name is what the files give; a folder under another name is the same cell."""
    assert finished.identity()["corpus"] == finished.results().corpus.fingerprint
    copy = Run(finished.folder.with_name("renamed"))
    shutil.copytree(finished.folder, copy.folder)
    assert copy.cell() == finished.cell()
    copy.results_path.unlink()
    assert copy.cell() == finished.cell(), "while it is not finished, too"


def test_168_runs_of_a_corpus_are_named_in_no_time(corpus_root, tmp_path, monkeypatch) -> None:
    from emoshare.data import corpus

    made = [config(f"data.root={corpus_root}", f"paths.cache={tmp_path}", f"seed={n}") for n in range(3)]
    first = ResolvedRun(made[0]).run
    monkeypatch.setattr(corpus, "known_corpus", lambda *_: pytest.fail("asked again"))
    assert len({first.name, *(ResolvedRun(c).run.name for c in made)}) == 3


def test_a_restart_where_folders_cannot_be_exchanged(emoshare, small, finished, monkeypatch) -> None:
    """A kill between its two renames leaves the old run under another name: the next call puts it back."""
    monkeypatch.setattr(core_files, "exchange", lambda *_: False)
    renames, rename = [], os.rename

    def killed(old: Path, new: Path) -> None:
        renames.append((Path(old), Path(new)))
        if len(renames) == 2:
            raise KeyboardInterrupt
        rename(old, new)

    before = files(finished.folder)
    monkeypatch.setattr(os, "rename", killed)
    assert emoshare("train", *small, "force=true").status == 130
    monkeypatch.setattr(os, "rename", rename)
    assert not finished.folder.exists()
    result = emoshare("train", *small)
    assert result.status == 0
    assert "skipped, finished before" in result.out + result.err
    assert files(finished.folder) == before
    assert emoshare("train", *small, "force=true").status == 0
    assert finished.is_finished()


def obey_permissions() -> None:
    """Root, too, may write only what its permissions allow: the process gives that capability up."""
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE


@pytest.fixture
def read_only(emoshare, small, tmp_path) -> Iterator[tuple[Path, list[str]]]:
    """A folder with a finished sweep that nobody can write, and the command that made it."""
    command = ["train", "-m", *small, "seed=0,1"]
    assert emoshare(*command).status == 0
    paths = [tmp_path, *tmp_path.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield tmp_path, command
    for path in paths:
        path.chmod(stat.S_IRWXU)


def test_a_finished_sweep_in_folders_that_are_read_only(read_only) -> None:
    folder, command = read_only
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    changed = [*command, "trainer.progress=false", "logger=wandb", "logger.mode=offline"]  # would change sweep.json
    single = [command[0], *command[2:-1], "seed=0"]
    for arguments in (command, changed, single, ["status", f"{folder}/outputs/default"]):
        result = subprocess.run(
            [sys.executable, "-m", "emoshare", *arguments], cwd=folder, env=environment, capture_output=True, text=True,
            check=False, preexec_fn=obey_permissions,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
    assert "2 done" in result.stdout


def test_the_list_of_a_sweep_is_written_under_a_lock(tmp_path) -> None:
    """Calls that add runs at the same time lose none of them."""
    program = (
        "import sys; from pathlib import Path; from emoshare.runs import sweep\n"
        "for n in range(20): sweep.enlist(Path('sweep'), [sweep.ListedRun(f'{sys.argv[1]}-{n}', '', [], {})])"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen([sys.executable, "-c", program, name], cwd=tmp_path, env=environment) for name in "abc"
    ]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert len(sweep.listed_runs(tmp_path / "sweep")) == 60
