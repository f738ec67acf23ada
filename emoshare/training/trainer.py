"""Lightning's trainer as a run uses it: which of its options may be set, the history of epochs, Ctrl-C."""

from __future__ import annotations

import csv
import inspect
import io
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger

from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.core.files import write_text
from emoshare.core.text import near
from emoshare.runs.folder import Run
from emoshare.training.checkpoints import AtomicCheckpoints, BestCheckpoint


class Interrupt(Callback):
    """Ends a run at its next batch after a Ctrl-C that had no effect: Python drops what is raised in a finalizer."""

    asked = False

    def handle(self, *_: Any) -> None:
        """As Python's own handler of SIGINT."""
        self.asked = True
        raise KeyboardInterrupt

    def on_train_batch_start(self, *_: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Ctrl-C is KeyboardInterrupt, as everywhere else: Lightning makes it SystemExit, and ignores the next one."""
    interrupt, main = Interrupt(), threading.current_thread() is threading.main_thread()  # others get no signals
    before = signal.signal(signal.SIGINT, interrupt.handle) if main else None
    try:
        yield interrupt
    except SystemExit as leave:
        raise KeyboardInterrupt from leave
    finally:
        if main:
            signal.signal(signal.SIGINT, signal.default_int_handler if before is None else before)


class History(Callback):
    """Writes metrics.csv after every epoch; part of the checkpoint, so that a resumed run goes on in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        self.rows.append({"epoch": trainer.current_epoch, "lr": self.rate, **dict(sorted(metrics.items()))})
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.rows[0]), lineterminator="\n", restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]


SET_BY_EMOSHARE = (  # arguments of Lightning's Trainer that come from other keys, or that a run cannot do without
    "max_epochs", "accelerator", "devices", "precision", "deterministic", "logger", "callbacks", "plugins",
    "default_root_dir", "num_sanity_val_steps", "enable_progress_bar", "enable_model_summary", "enable_checkpointing",
)  # fmt: skip
CHANGE_THE_MEANING = {  # arguments with which a run would no longer be what its config says
    "limit_train_batches": "a run trains on its whole partition",
    "limit_val_batches": "a run is scored on its whole partition",
    "limit_test_batches": "a run predicts its whole partition",
    "limit_predict_batches": "a run predicts its whole partition",
    "overfit_batches": "a run trains on its whole partition",
    "fast_dev_run": "a run trains for trainer.epochs",
    "max_steps": "a run ends by trainer.epochs",
    "min_steps": "a run ends by trainer.epochs",
    "max_time": "a run ends by trainer.epochs",
    "min_epochs": "a run ends by trainer.epochs",
    "check_val_every_n_epoch": "every epoch is scored on devel",
    "val_check_interval": "every epoch is scored on devel",
    "reload_dataloaders_every_n_epochs": "the loaders decide on the order of clips",
    "use_distributed_sampler": "the loaders decide on the order of clips",
    "strategy": "a run trains on one device",
    "num_nodes": "a run trains on one device",
    "sync_batchnorm": "a run trains on one device",
    "barebones": "it switches checkpoints and logging off",
    "inference_mode": "predictions are made without gradients",
    "model_registry": "checkpoints stay in the run's folder",
}


def check_options(options: dict[str, Any]) -> None:
    """Check `trainer.options`, which are handed to Lightning's Trainer.

    Raises:
        EmoshareError: options that the Trainer does not take, that emoshare sets itself, or that change what a run is;
            all of them are named.
    """
    known = [name for name in inspect.signature(pl.Trainer.__init__).parameters if name != "self"]
    problems = []
    for name in options:
        if name in SET_BY_EMOSHARE:
            problems.append(f"trainer.options.{name}: is set by emoshare itself; leave it out")
        elif name in CHANGE_THE_MEANING:
            problems.append(f"trainer.options.{name}: not possible here, {CHANGE_THE_MEANING[name]}; leave it out")
        elif name not in known:
            hint = near(name, known) or "; leave it out"
            problems.append(f"trainer.options.{name}: is no argument of Lightning's Trainer{hint}")
    if problems:
        raise EmoshareError("\n".join(problems))


def make_trainer(
    config: Config, run: Run, loggers: list[Logger], device: torch.device, precision: str, *more: Callback
) -> pl.Trainer:
    """Lightning's trainer for one device, with selection by devel Avg."""
    callbacks = [History(run.folder / "metrics.csv"), BestCheckpoint(run.best.parent, config.train.select), *more]
    return pl.Trainer(
        max_epochs=config.trainer.epochs,
        accelerator=device.type,
        devices=[device.index] if device.type == "cuda" else 1,
        precision=precision,  # type: ignore[arg-type]
        deterministic="warn" if config.trainer.deterministic else False,
        logger=loggers,
        callbacks=callbacks,
        plugins=[AtomicCheckpoints()],
        default_root_dir=run.folder,
        num_sanity_val_steps=0,
        enable_progress_bar=False,  # emoshare draws one bar for the whole sweep
        enable_model_summary=False,
        **config.trainer.options,
    )
