"""A run under a cluster's scheduler: its variables change nothing, its signals stop a run after an epoch."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from emoshare.models.module import EmotionShareModule

ROOT = Path(__file__).parents[2]
CLUSTERS = {  # as their first process but one sees them
    "slurm": {
        "SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "4", "SLURM_PROCID": "1", "SLURM_LOCALID": "1",
        "SLURM_NODEID": "1", "SLURM_NODELIST": "n[1-2]", "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "2",
    },
    "torchrun": {
        "RANK": "1", "LOCAL_RANK": "1", "GROUP_RANK": "1", "NODE_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "x",
    },
    "lsf": {
        "LSB_JOBID": "7", "LSB_DJOB_RANKFILE": "/nonexistent", "LSB_HOSTS": "a b", "JSM_NAMESPACE_LOCAL_RANK": "1",
        "JSM_NAMESPACE_SIZE": "2", "JSM_NAMESPACE_RANK": "1",
    },
    "mpi": {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "PMI_RANK": "1", "PMI_SIZE": "2"},
    "kubeflow": {"KUBERNETES_PORT": "tcp://x", "MASTER_ADDR": "x", "MASTER_PORT": "1", "WORLD_SIZE": "2", "RANK": "1"},
    "lightning": {
        "PL_TRAINER_MAX_TIME": "00:00:00:01", "PL_TRAINER_LIMIT_TRAIN_BATCHES": "1", "PL_TRAINER_NUM_NODES": "2",
        "PL_TRAINER_STRATEGY": "ddp", "PL_TRAINER_DEVICES": "2", "PL_GLOBAL_SEED": "9",
    },
}  # fmt: skip


def only(sweep: Path) -> Path:
    [folder] = sweep.glob("*-seed*")
    return folder


def numbers(folder: Path) -> dict[str, str]:
    """What a run has learned and predicted, byte by byte."""
    return {
        name: (folder / name).read_text() for name in ("metrics.csv", "predictions/devel.csv", "predictions/test.csv")
    }


@pytest.fixture
def plain(emoshare, small, tmp_path) -> dict[str, str]:
    """The numbers of a run outside any cluster."""
    assert emoshare("train", *small, "sweep.name=plain").status == 0
    return numbers(only(tmp_path / "outputs/plain"))


def test_a_clusters_variables_change_nothing(emoshare, small, tmp_path, plain, monkeypatch) -> None:
    for cluster, variables in CLUSTERS.items():
        with monkeypatch.context() as there:
            for name, value in variables.items():
                there.setenv(name, value)
            run = emoshare("train", *small, f"sweep.name={cluster}")
            changed = [variable for variable, value in variables.items() if os.environ.get(variable) != value]
        assert run.status == 0, (cluster, run.err)
        assert numbers(only(tmp_path / f"outputs/{cluster}")) == plain, cluster
        assert changed in ([], ["PL_GLOBAL_SEED"])  # Lightning notes there what was seeded


def test_all_of_them_at_once_and_a_checkpoint_that_an_older_version_left(small, tmp_path, plain) -> None:
    """From the import of Lightning on; metrics reach the logger, and hpc_ckpt_1.ckpt is never restored."""
    pytest.importorskip("tensorboard")
    folder = only(tmp_path / "outputs/plain")
    left = tmp_path / "outputs/there" / folder.name
    left.mkdir(parents=True)
    for place in (left, left / "checkpoints"):
        place.mkdir(exist_ok=True)
        shutil.copy(folder / "checkpoints/best.ckpt", place / "hpc_ckpt_1.ckpt")
    state = torch.load(left / "hpc_ckpt_1.ckpt", weights_only=True)
    state["state_dict"] = {name: torch.zeros_like(value) for name, value in state["state_dict"].items()}
    torch.save(state, left / "hpc_ckpt_1.ckpt")
    everything = {name: value for variables in CLUSTERS.values() for name, value in variables.items()}
    command = [sys.executable, "-m", "emoshare", "train", *small, "sweep.name=there", "logger=tensorboard"]
    environment = os.environ | everything | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert numbers(left) == plain
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(left / "tensorboard"))
    events.Reload()
    rows = list(csv.DictReader((left / "metrics.csv").open()))
    assert [event.value for event in events.Scalars("devel/avg")] == pytest.approx(
        [float(r["devel/avg"]) for r in rows]
    )


def signalled(monkeypatch: pytest.MonkeyPatch, epoch: int, *signals: int) -> None:
    """Send signals in the middle of an epoch, counted from 0, the first time that it is trained."""
    plain, sent = EmotionShareModule.training_step, []

    def step(self: EmotionShareModule, batch: Any, number: int) -> Any:
        if self.current_epoch == epoch and number == 1 and not sent:
            sent.append(number)
            for one in signals:
                signal.raise_signal(one)
        return plain(self, batch, number)

    monkeypatch.setattr(EmotionShareModule, "training_step", step)


LONGER = [
    "trainer.epochs=5",
    "head.dropout=0.2",
    "optimizer.patience=0",
    "train.refit=true",
    "trainer.precision=32-true",
]


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_run_stops_after_its_epoch_and_goes_on_to_the_same_numbers(
    emoshare, small, tmp_path, monkeypatch, number
) -> None:
    assert emoshare("train", *small, *LONGER, "sweep.name=whole").status == 0
    signalled(monkeypatch, 2, number, signal.SIGUSR1)
    command = ["train", *small, *LONGER, "sweep.name=cut"]
    run = emoshare(*command)
    assert run.status == 130
    assert run.err == "emoshare: interrupted; the same command goes on from here\n"
    assert "asked to stop: that will be after epoch 3;" in run.out
    assert "stopped after epoch 3 of 5" in run.out
    cut = only(tmp_path / "outputs/cut")
    assert torch.load(cut / "checkpoints/last.ckpt", weights_only=True)["epoch"] == 2
    assert not (cut / "results.json").exists()
    assert signal.getsignal(number) == signal.SIG_DFL
    assert emoshare(*command).status == 0
    assert numbers(cut) == numbers(only(tmp_path / "outputs/whole"))


def test_a_second_sigterm_stops_at_once(emoshare, small, tmp_path, monkeypatch) -> None:
    signalled(monkeypatch, 1, signal.SIGTERM, signal.SIGTERM)
    assert emoshare("train", *small, *LONGER).status == 130
    state = torch.load(only(tmp_path / "outputs/default") / "checkpoints/last.ckpt", weights_only=True)
    assert state["epoch"] == 0


def test_an_ignored_ctrl_c_stays_ignored(emoshare, small, monkeypatch) -> None:
    """As below `nohup`, or in the background of a shell without job control."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        signalled(monkeypatch, 0, signal.SIGINT)
        assert emoshare("train", *small).status == 0
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_asked_in_its_last_epoch_a_run_is_finished_and_the_sweep_stops(emoshare, small, tmp_path, monkeypatch) -> None:
    signalled(monkeypatch, 1, signal.SIGUSR1)
    run = emoshare("train", "-m", *small, "seed=0,1", "sweep.parallel=1")
    assert run.status == 130
    assert len(list(tmp_path.rglob("results.json"))) == 1
    assert len(list(tmp_path.rglob("metrics.csv"))) == 1
    again = emoshare("train", "-m", *small, "seed=0,1", "sweep.parallel=1")
    assert "2 done" in again.out


def test_an_error_after_the_signal_is_no_failure_of_the_run(emoshare, small, tmp_path, monkeypatch) -> None:
    """Its loader's processes may have got the signal, too, and be gone."""
    signalled(monkeypatch, 0, signal.SIGTERM)
    plain = EmotionShareModule.training_step

    def step(self: EmotionShareModule, batch: Any, number: int) -> Any:
        loss = plain(self, batch, number)
        if number == 1:
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated.")
        return loss

    monkeypatch.setattr(EmotionShareModule, "training_step", step)
    run = emoshare("train", *small)
    assert (run.status, run.err) == (130, "emoshare: interrupted; the same command goes on from here\n")
    assert not list(tmp_path.rglob("failure.json"))
