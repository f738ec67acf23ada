"""Lightning's trainer as a run uses it: selection by devel Avg, and nothing half-written, lost or forgotten."""

from __future__ import annotations

import csv
import inspect
import io
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.io import TorchCheckpointIO

from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.core.files import replacing, write_text
from emoshare.core.text import near
from emoshare.runs.folder import Run


class Interrupt(Callback):
    """Ends a run at its next batch where Ctrl-C fell on deaf ears: what is raised in a finalizer is lost."""

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


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Name the checkpoint that cannot be read, and the way out."""
    try:
        yield
    except Exception as error:  # zip's, pickle's and torch's own
        reason = str(error).partition("\n")[0]
        raise EmoshareError(f"{path}: not readable ({reason}); resume=false trains the run from its start") from error


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that are written whole or not at all: a killed run never leaves half of one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        buffer = io.BytesIO()  # writing to a path itself, PyTorch hides why it could not
        torch.save(checkpoint, buffer)
        with replacing(Path(path)) as temporary:
            temporary.write_bytes(buffer.getbuffer())

    def load_checkpoint(self, path: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
        with readable(path):
            return super().load_checkpoint(path, *arguments, **options)


class Checkpoints(ModelCheckpoint):
    """Knows its best epoch also where the run's folder was moved: Lightning would forget it and go on."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        here, there = str(self.dirpath), str(state_dict["dirpath"])
        paths = {k: v.replace(there, here) for k, v in state_dict.items() if isinstance(v, str)}
        best = {path.replace(there, here): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "best_k_models": best})


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


class EpochBar(TQDMProgressBar):
    """One bar per epoch; what devel and the predictions take is not worth a bar of their own."""

    def init_validation_tqdm(self) -> Tqdm:
        return Tqdm(disable=True)

    def init_predict_tqdm(self) -> Tqdm:
        return Tqdm(disable=True)


QUIET = (  # warnings that tell a user nothing
    ".*isinstance.treespec, LeafSpec.*",  # Lightning about PyTorch
    ".*smaller than the logging interval.*",  # metrics are logged by epoch
    ".*does not have many workers.*",  # stored frames need none
    ".*Checkpoint directory .* exists and is not empty.*",  # a resumed run
    ".*module.s. in eval mode at the start of training.*",  # the frozen backbone
)


OURS = (  # arguments of Lightning's Trainer that trainer.options may not set
    "max_epochs", "accelerator", "devices", "precision", "deterministic", "logger", "callbacks", "plugins",
    "default_root_dir", "num_sanity_val_steps", "enable_progress_bar", "enable_model_summary",
)  # fmt: skip


def check_options(options: dict[str, Any]) -> None:
    """Raise EmoshareError for trainer.options that Lightning's Trainer does not take, or that emoshare sets itself."""
    known = [name for name in inspect.signature(pl.Trainer.__init__).parameters if name != "self"]
    for name in options:
        if name in OURS:
            raise EmoshareError(f"trainer.options.{name}: is set by emoshare itself; leave it out")
        if name not in known:
            hint = near(name, known) or "; leave it out"
            raise EmoshareError(f"trainer.options.{name}: is no argument of Lightning's Trainer{hint}")


def make_trainer(
    config: Config, run: Run, loggers: list[Logger], device: torch.device, precision: str, *more: Callback
) -> pl.Trainer:
    """Lightning's trainer for one device, with selection by devel Avg."""
    checkpoints = Checkpoints(
        run.best.parent,
        filename="best",
        monitor=f"devel/{config.train.select}",
        mode="max",
        save_last=True,
        save_on_train_epoch_end=True,  # after the scheduler's step, so that a resumed run has taken it too
        enable_version_counter=False,
    )
    callbacks: list[Callback] = [History(run.folder / "metrics.csv"), checkpoints, *more]
    watched = config.trainer.progress and sys.stdout.isatty()
    if watched:
        callbacks.append(EpochBar(refresh_rate=10))
    for noise in QUIET:
        warnings.filterwarnings("ignore", message=noise)
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
        enable_progress_bar=watched,
        enable_model_summary=watched,
        **config.trainer.options,
    )
