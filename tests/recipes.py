"""Runs of a head that take a second, and what they leave."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from composed import config

from emoshare.models.module import EmotionShareModule
from emoshare.runs.folder import Run
from emoshare.runs.resolved import ResolvedRun
from emoshare.training.train import train


def settings_of(corpus: Path, folder: Path) -> list[str]:
    """Overrides of a run on the small corpus, in a folder of its own."""
    return [
        "data=compare23", f"data.root={corpus}", "backbone=logmel", "window.seconds=1", "trainer.epochs=6",
        "trainer.progress=false", "logger=none", "trainer.accelerator=cpu", "trainer.precision=32-true",
        f"paths.outputs={folder}/outputs", f"paths.cache={folder}/cache",
    ]  # fmt: skip


def cut_in(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """End training once, as a kill would, in the second step of an epoch, counted from 0."""
    plain, done = EmotionShareModule.on_train_batch_start, []

    def stop(self: EmotionShareModule, batch: object, step: int) -> None:
        if (self.current_epoch, step) == (epoch, 1) and not done:
            done.append(True)
            raise MemoryError("killed")
        plain(self, batch, step)

    monkeypatch.setattr(EmotionShareModule, "on_train_batch_start", stop)


def resumed_as_uninterrupted(overrides: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[Run, Run]:
    """Train a run whole, and another that is cut in its third epoch and goes on: they must be equal. Returns both."""
    whole, cut = (config(*overrides, f"sweep.name={name}") for name in ("whole", "cut"))
    train(whole)
    cut_in(monkeypatch, 2)
    with pytest.raises(MemoryError):
        train(cut)
    train(cut)
    before, after = ResolvedRun(whole).run, ResolvedRun(cut).run
    assert (before.folder / "metrics.csv").read_text() == (after.folder / "metrics.csv").read_text()
    for part in ("devel", "test"):
        np.testing.assert_array_equal(table(before, part), table(after, part))
    return before, after


def table(run: Run, part: str) -> np.ndarray:
    """The predictions of a partition, (N, E)."""
    with (run.folder / f"predictions/{part}.csv").open() as file:
        return np.array([[float(x) for x in row[1:]] for row in list(csv.reader(file))[1:]])


def epochs(run: Run, column: str) -> list[float]:
    """A column of metrics.csv."""
    with (run.folder / "metrics.csv").open() as file:
        return [float(row[column]) for row in csv.DictReader(file)]


def weights(path: Path) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint."""
    return torch.load(path, weights_only=True)["state_dict"]
