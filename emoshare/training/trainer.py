"""Lightning's trainer with the settings of a run, and the history of epochs."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, EarlyStopping
from pytorch_lightning.loggers import Logger

from emoshare.core.files import write_text
from emoshare.core.lightning import new_trainer
from emoshare.metrics.metric import Metric
from emoshare.metrics.registry import find
from emoshare.runs.resolved import ResolvedRun
from emoshare.training.checkpoints import AtomicCheckpoints, BestCheckpoint, LastCheckpoint


class History(Callback):
    """Writes metrics.csv after every epoch; part of the checkpoint, so that a resumed run goes on in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            self.rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.log("lr", self.rate)  # for the loggers, in float32

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {name: value.item() for name, value in sorted(trainer.callback_metrics.items())}
        self.rows.append({"epoch": trainer.current_epoch, **metrics, "lr": self.rate})
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.rows[0]), lineterminator="\n", restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]


class EarlyStop(EarlyStopping):
    """Ends training after `patience` epochs without a better devel score; a resumed run remembers that it has ended.

    An epoch whose score is no number is one without a better score.
    """

    def __init__(self, select: Metric, patience: int) -> None:
        super().__init__(
            f"devel/{select.name}",
            patience=patience,
            mode=select.mode,
            check_finite=False,
            check_on_train_epoch_end=True,
        )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


def best_of(trainer: pl.Trainer) -> list[Path]:
    """The checkpoints of the best epochs, the best first."""
    return next(callback.best_paths() for callback in trainer.callbacks if isinstance(callback, BestCheckpoint))  # type: ignore[attr-defined]


def history_of(trainer: pl.Trainer) -> list[dict[str, float]]:
    """The rows of metrics.csv so far."""
    return next(callback.rows for callback in trainer.callbacks if isinstance(callback, History))  # type: ignore[attr-defined]


def make_trainer(resolved: ResolvedRun, loggers: list[Logger], *more: Callback) -> pl.Trainer:
    """Lightning's trainer for one device, with selection by a devel score."""
    run, config = resolved.run, resolved.config
    select = find(config.train.select)
    best = BestCheckpoint(run.best.parent, select, config.train.average)
    callbacks = [History(run.folder / "metrics.csv"), best, LastCheckpoint(run.last), *more]  # the last knows the best
    if config.train.patience is not None:
        callbacks.append(EarlyStop(select, config.train.patience))
    return bare_trainer(resolved, config.trainer.epochs, callbacks, logger=loggers)


def bare_trainer(resolved: ResolvedRun, epochs: int, callbacks: list[Callback], **options: Any) -> pl.Trainer:
    """Lightning's trainer for one device with the given callbacks alone; options: of Lightning's Trainer."""
    config, folder = resolved.config, resolved.run.folder
    ours = {
        "precision": resolved.precision,
        "deterministic": "warn" if config.trainer.deterministic else False,
        "num_sanity_val_steps": 0,
        "logger": False,
        "gradient_clip_val": config.optimizer.clip,
    }
    arguments = {**ours, **options, **config.trainer.options}
    trainer = new_trainer(resolved.device, epochs, folder, callbacks, [AtomicCheckpoints()], **arguments)
    if resolved.precision in ("bf16-true", "16-true"):
        keep_inputs(trainer)
    return trainer


def keep_inputs(trainer: pl.Trainer) -> None:
    """Leave stored frames and labels as they are, where Lightning rounds all of a batch to the weights' precision.

    Devel would be scored against rounded labels, and a clip get other shares than the trained model gives it anew.
    """
    convert = trainer.precision_plugin.convert_input

    def convert_waves(data: Any) -> Any:
        return convert(data) | {name: data[name] for name in ("frames", "shares") if name in data}

    trainer.precision_plugin.convert_input = convert_waves  # type: ignore[method-assign]
