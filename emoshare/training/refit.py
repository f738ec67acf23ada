"""Training again on train + devel, for as many epochs as devel has chosen, to predict test and new clips.

The seed is the run's own: the same first weights, and the same draws in each epoch. The learning rate of an epoch is
the one that the selected run had in it, as there is no devel left to steer it by.

In the run's folder: `checkpoints/refit-last.ckpt` is the last epoch, from which a killed run goes on, and with
train.average above 1 `refit-<epoch>.ckpt` are the epochs whose mean is taken. They are removed when
`checkpoints/refit.ckpt`, the weights that predict, is written.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from emoshare.core.bases import OptimizerOptions
from emoshare.data.partition import Corpus, Partition, join_votes
from emoshare.models.module import EmotionShareModule
from emoshare.runs.folder import Run
from emoshare.training.checkpoints import LastCheckpoint, save
from emoshare.training.datamodule import EmotionShareData
from emoshare.training.progress import ProgressReport
from emoshare.training.system import Task
from emoshare.training.trainer import bare_trainer

log = logging.getLogger("emoshare")
LAST = "refit-last"  # name of the checkpoint of the last epoch


def join_partitions(corpus: Corpus) -> Corpus:
    """The corpus with train + devel as its train partition, and no devel."""
    train, devel = corpus.partitions["train"], corpus.partitions["devel"]
    assert train.shares is not None
    assert devel.shares is not None
    both = Partition(
        "train",
        train.files + devel.files,
        np.concatenate([train.shares, devel.shares]),
        np.concatenate([train.seconds, devel.seconds]),
        train.start,
        np.concatenate([train.rows, devel.rows]),
        join_votes([train, devel]),
    )
    return replace(corpus, partitions={"train": both})


def refit(task: Task, module: EmotionShareModule, data: EmotionShareData, epochs: int, *more: Callback) -> None:
    """Train a fresh module on all of `data` for `epochs` epochs, going on from the last one if there is one."""
    trainer = bare_trainer(
        task.resolved, epochs,
        [LastCheckpoint(last_of(task.run)), ProgressReport(task.resolved, task.place, epochs), *more],
        limit_val_batches=0,
    )  # fmt: skip
    path = last_of(task.run)
    trainer.fit(module, data, ckpt_path=path if path.exists() else None)


def last_of(run: Run) -> Path:
    """The checkpoint of the last epoch of training again."""
    return run.refit.with_name(f"{LAST}.ckpt")


def remove_temporary(run: Run) -> None:
    """Remove the checkpoints that only training again needed."""
    for path in run.refit.parent.glob("refit-*.ckpt"):
        path.unlink()


def relative_rates(config: OptimizerOptions, history: Sequence[dict[str, float]], epochs: int) -> list[float]:
    """The learning rate in each of the first epochs of a run's history, as a share of the config's.

    While the rate still rises it is set in each step; the epoch in which that ends goes on at the full rate.
    """
    return [1.0 if row["epoch"] < config.warmup else row["lr"] / config.lr for row in history[:epochs]]


class KeepEpochs(Callback):
    """Writes the weights of some epochs, for their mean."""

    def __init__(self, run: Run, epochs: Sequence[int]) -> None:
        self.run, self.epochs = run, epochs

    def path(self, epoch: int) -> Path:
        return self.run.refit.with_name(f"refit-{epoch}.ckpt")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch in self.epochs:
            save(self.path(trainer.current_epoch), cast(EmotionShareModule, pl_module), trainer.current_epoch)
