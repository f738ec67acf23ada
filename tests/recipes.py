"""Runs of a head that take a second, and what they leave."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from emoshare.models.module import EmotionShareModule
from emoshare.runs.folder import Run


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
