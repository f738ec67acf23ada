"""What stands on W&B after an offline sweep, read back from its files; TensorBoard, and no logger at all."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from composed import config
from offline import Logged, inspect
from processes import Command

from emoshare.core.config import EMOTIONS, Config
from emoshare.core.errors import EmoshareError
from emoshare.core.hashing import write_sealed
from emoshare.runs.logger import logging_to
from emoshare.runs.resolved import ResolvedRun
from emoshare.runs.trackers.wandb import wandb_mode

ROOT = Path(__file__).parents[2]
FAILING = ("optimizer=sgd", "optimizer.lr=1e-3,1e30")  # the loss is no number, when logging has begun


class Sweep(NamedTuple):
    status: int
    out: str
    err: str
    runs: dict[Path, Logged]  # by run folder, in the order in which they ran
    connected: bool  # to whatever network


@pytest.fixture(scope="module")
def sweep(corpus_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """2 backbones × (a good run, then one that fails); whoever wants to reach a network reaches a socket of ours."""
    folder = tmp_path_factory.mktemp("sweep")
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = f"http://127.0.0.1:{server.getsockname()[1]}"
        proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"), here)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_") and k.lower() != "no_proxy"}
        process = Command(
            folder, "train", "-m", "data=compare23", f"data.root={corpus_root}", "backbone=logmel,tiny",
            "window.seconds=1", "trainer.epochs=2", "logger=wandb", "logger.tags=[mine]", "metrics=[scc,ccc,pcc]",
            "sweep.name=some", *FAILING, environment={**environment, **proxies, "WANDB_BASE_URL": here},
        )  # fmt: skip
        out, err = process.communicate()
        connected = select.select([server], [], [], 0)[0]
    logged = {run: inspect(run) for run in (folder / "outputs/some").glob("*-seed0-*")}
    assert all(len(found) == 1 for found in logged.values()), out + err
    ordered = sorted(logged, key=lambda run: logged[run][0].of("environment")[0]["started_at"])
    return Sweep(process.wait(), out, err, {run: logged[run][0] for run in ordered}, bool(connected))


def good(sweep: Sweep) -> dict[Path, Logged]:
    return {folder: run for folder, run in sweep.runs.items() if (folder / "results.json").exists()}


def test_every_job_is_a_run_of_its_own(sweep) -> None:
    runs = [logged.of("run")[0] for logged in sweep.runs.values()]
    assert [run["display_name"] for run in runs] == [folder.name for folder in sweep.runs]
    assert len({run["run_id"] for run in runs}) == 4
    assert {run["run_group"] for run in runs} == {"some"}
    assert {run["project"] for run in runs} == {"emoshare"}
    assert [set(run["tags"]) for run in runs] == [
        {name, "1s", "compare23", "mine"} for name in ("logmel", "logmel", "tiny", "tiny")
    ]


def test_the_whole_resolved_config_is_there(sweep) -> None:
    for folder, logged in sweep.runs.items():
        found = {k: v for k, v in logged.of("run")[0]["config"]["update"].items() if k != "_wandb"}
        assert found == yaml.safe_load((folder / "config.yaml").read_text())


def test_every_epoch_is_there(sweep) -> None:
    for folder, logged in good(sweep).items():
        rows = list(csv.DictReader((folder / "metrics.csv").open()))
        assert list(logged.epochs) == [0, 1]
        for row in rows:
            for name in row:  # all of them, under the same names
                assert logged.epochs[int(row["epoch"])][name] == pytest.approx(float(row[name]))
        assert {"lr", "train/loss", "devel/loss", "devel/avg", "emotions/scc/Anger"} <= set(rows[0])


def test_the_first_section_of_charts_is_what_runs_are_compared_by(sweep) -> None:
    """W&B sorts sections by what stands before the first slash; names without one stand in a section `Charts`."""
    for logged in good(sweep).values():
        names = {name for epoch in logged.epochs.values() for name in epoch if not name.startswith("_")}
        sections = sorted({name.partition("/")[0] for name in names if "/" in name})
        assert sections[0] == "devel"
        compared = {name for name in names if name.startswith("devel/")}
        assert compared >= {f"devel/{name}" for name in ("avg", "scc", "ccc", "loss")}
        assert not any(emotion in name for name in compared for emotion in EMOTIONS)


def test_the_summary_has_the_best_metrics(sweep) -> None:
    for folder, logged in good(sweep).items():
        results = json.loads((folder / "results.json").read_text())
        assert logged.summary["best/epoch"] == results["best"]["epoch"]
        for part in ("devel", "test"):
            for name in ("scc", "ccc", "pcc", "avg"):
                assert logged.summary[f"best/{part}/{name}"] == pytest.approx(results["metrics"][part][name]["mean"])
            for name in ("scc", "ccc", "avg"):
                low, high = (logged.summary[f"best/{part}/{name}_{end}"] for end in ("low", "high"))
                assert low < high
        assert logged.summary["cost/extract_seconds"] == pytest.approx(results["timings"]["extract_seconds"])
        assert logged.summary["cost/frames_gb"] == pytest.approx(results["frames"]["bytes"] / 1e9)


def test_the_table_has_a_row_per_emotion(sweep) -> None:
    for folder, logged in good(sweep).items():
        results = json.loads((folder / "results.json").read_text())
        table = json.loads((logged.folder / "files" / logged.summary["tables/emotions.path"]).read_text())
        assert [row[0] for row in table["data"]] == results["targets"]
        for column, name in enumerate(table["columns"][1:], 1):
            part, metric = name.split("/")
            for row in table["data"]:
                assert row[column] == pytest.approx(results["metrics"][part][metric][row[0]])
        assert {"devel/scc", "devel/ccc", "test/scc", "test/ccc"} <= set(table["columns"])


def test_the_figures_are_there(sweep) -> None:
    for folder, logged in good(sweep).items():
        for name in ("learning_curve", "shares"):
            image = logged.folder / "files" / logged.summary[f"figures/{name}.path"]
            assert image.read_bytes() == (folder / f"figures/{name}.png").read_bytes()


def test_a_failing_job_is_finished_as_failed_and_leaks_into_no_other(sweep) -> None:
    """Good and failing jobs take turns: each has its own exit code, and nothing of the one before it."""
    exits = [[record.get("exit_code", 0) for record in logged.of("exit")] for logged in sweep.runs.values()]
    assert exits == [[0], [1], [0], [1]]
    assert [bool(logged.epochs) for logged in sweep.runs.values()] == [True, False, True, False]
    reasons = [logged.summary.get("failure") for logged in sweep.runs.values()]
    assert [bool(reason) for reason in reasons] == [False, True, False, True]
    assert all("loss became" in reason for reason in reasons if reason)
    assert sweep.status == 1


def test_nothing_is_asked_sent_or_said(sweep) -> None:
    assert not sweep.connected
    assert "wandb" not in (sweep.out + sweep.err).lower().replace("logger=wandb", "")


@pytest.mark.parametrize(
    ("environment", "key", "mode"),
    [
        (None, None, "offline"), ("", None, "offline"), ("disabled", None, "disabled"), ("dryrun", None, "offline"),
        ("online", None, "online"), ("run", None, "online"), ("online", "offline", "offline"),
        ("disabled", "offline", "offline"), ("offline", "disabled", "disabled"), ("nonsense", "offline", "offline"),
    ],
)  # fmt: skip
def test_the_key_beats_the_environment_which_beats_offline(monkeypatch, environment, key, mode) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if environment is not None:
        monkeypatch.setenv("WANDB_MODE", environment)
    assert wandb_mode(key) == mode


def test_modes_that_are_none_and_loggers_that_are_not_there(monkeypatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "onlin")
    with pytest.raises(EmoshareError, match=r"WANDB_MODE=onlin: .*did you mean 'online'"):
        config("logger=wandb").logger.check(Config())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmoshareError, match=r"logger=tensorboard: .*emoshare\[tensorboard\]"):
        config("logger=tensorboard").logger.check(Config())
    config("logger=none").logger.check(Config())


def test_a_key_may_come_from_a_netrc_file(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(EmoshareError, match=r"W&B online: .*wandb login"):
        wandb_mode("online")
    (tmp_path / "netrc").write_text("machine wandb.example.org login user password secret\n")
    assert wandb_mode("online") == "online"


def test_disabled_is_nowhere(monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # an import of it fails
    with logging_to(ResolvedRun(config("logger.mode=disabled"))) as loggers:
        assert loggers == []
    assert not list(tmp_path.iterdir())


def test_without_wandb_it_is_never_imported(corpus_root, tmp_path) -> None:
    program = (
        "import sys; from emoshare.command.cli import main; status = main(sys.argv[1:]); "
        "sys.exit(status or ('wandb' in sys.modules and 'wandb was imported'))"
    )
    command = [
        sys.executable, "-c", program, "train", "data=compare23", f"data.root={corpus_root}", "backbone=logmel",
        "window.seconds=1", "trainer.epochs=1", "logger=none",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert len(list(tmp_path.rglob("metrics.csv"))) == 1
    assert not list(tmp_path.rglob("wandb"))


def test_tensorboard_writes_event_files(emoshare, small, tmp_path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert emoshare("train", *small, "logger=tensorboard").status == 0
    [events] = tmp_path.rglob("tensorboard")
    found = accumulator.EventAccumulator(str(events))
    found.Reload()
    [metrics] = tmp_path.rglob("metrics.csv")
    rows = list(csv.DictReader(metrics.open()))
    for name in rows[0]:
        assert [event.value for event in found.Scalars(name)] == pytest.approx([float(row[name]) for row in rows])
    results = json.loads((metrics.parent / "results.json").read_text())
    [best] = found.Scalars("best/test/scc")
    assert best.value == pytest.approx(results["metrics"]["test"]["scc"]["mean"])


def test_a_fusion_is_a_run_like_its_members(emoshare, small, tmp_path) -> None:
    swept = ["logger=wandb", "logger.tags=[mine]", "seed=0,1", "sweep.row=a", "sweep.parallel=1", "sweep.name=some"]
    swept += ["trainer.epochs=1", "+sweep.fuse.both={rows: [a], seeds: all, weights: greedy}"]
    assert emoshare("train", "-m", *small, *swept).status == 0
    [folder] = tmp_path.glob("outputs/some/fusion-*")
    [logged] = inspect(folder)
    results = json.loads((folder / "results.json").read_text())
    [run] = logged.of("run")
    assert (run["display_name"], run["run_group"], run["job_type"]) == (folder.name, "some", "fusion")
    assert set(run["tags"]) == {"logmel", "compare23", "mine"}
    assert logged.summary["best/devel/avg"] == pytest.approx(results["metrics"]["devel"]["avg"]["mean"])
    gain = results["best"]["gain"]["devel"]["avg"]
    assert logged.summary["gain/devel/avg/difference"] == pytest.approx(gain["difference"])
    table = json.loads((logged.folder / "files" / logged.summary["tables/members.path"]).read_text())
    weights = {row[0]: row[table["columns"].index("weight")] for row in table["data"]}
    assert weights == {**{member["run"]: member["weight"] for member in results["members"]}, "fusion": None}
    members = [inspect(path.parent)[0].of("run")[0] for path in tmp_path.glob("outputs/some/logmel-*/results.json")]
    assert [member["job_type"] for member in members] == ["train", "train"]
    assert not [record for record in logged.of("exit") if record.get("exit_code")]


def test_a_fusion_whose_members_were_online_is_made_without_a_key(emoshare, small, tmp_path, monkeypatch) -> None:
    assert emoshare("train", "-m", *small, "seed=0,1", "trainer.epochs=1").status == 0
    for path in tmp_path.glob("outputs/default/*/results.json"):
        content = json.loads(path.read_text())
        content["config"]["logger"] |= {"name": "wandb", "mode": "online"}
        write_sealed(path, content)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    run = emoshare("fuse", "outputs/default", "--out", "outputs/fused")
    assert run.status == 0, run.err
    assert "the fusion is not logged" in run.out


def test_a_killed_run_goes_on_under_the_same_id_with_its_whole_history(emoshare, small, tmp_path) -> None:
    """The newest of its two offline folders holds all epochs, so that nothing is lost whatever is uploaded."""
    command = ["train", *small, "logger=wandb", "trainer.epochs=30"]
    own = dict(os.environ)
    own.pop("WANDB_SERVICE", None)  # of this process: W&B would hold the run for a moment after the kill
    process = Command(tmp_path, *command, environment=own)
    while not list(tmp_path.rglob("last.ckpt")):
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    [run] = (tmp_path / "outputs/default").glob("logmel-*")
    before = len((run / "metrics.csv").read_text().splitlines()) - 1
    assert 0 < before < 30
    assert emoshare(*command).status == 0
    first, second = inspect(run)
    assert not first.of("exit")
    assert {logged.folder.name.partition("-default-")[2] for logged in (first, second)} == {run.name}
    assert second.of("exit")
    rows = {int(row["epoch"]): float(row["devel/avg"]) for row in csv.DictReader((run / "metrics.csv").open())}
    assert {epoch: row["devel/avg"] for epoch, row in second.epochs.items()} == pytest.approx(rows)
    assert list(rows) == list(range(30))
