"""Runs of a head that take a second, and what they leave."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch

from emoshare.runs.folder import Run


def settings_of(corpus: Path, folder: Path) -> list[str]:
    """Overrides of a run on the small corpus, in a folder of its own."""
    return [
        "data=compare23", f"data.root={corpus}", "backbone=logmel", "window.seconds=1", "trainer.epochs=6",
        "trainer.progress=false", "logger=none", "trainer.accelerator=cpu", "trainer.precision=32-true",
        f"paths.outputs={folder}/outputs", f"paths.cache={folder}/cache",
    ]  # fmt: skip


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
