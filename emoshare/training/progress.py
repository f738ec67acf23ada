"""Where a run is: its place in the sweep, its epoch, its scores, and how long it and the sweep still take."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from emoshare.core.config import Config
from emoshare.core.progress import duration, report
from emoshare.runs.results import Results
from emoshare.runs.sweep import Place

log = logging.getLogger("emoshare")


def label(config: Config, place: Place | None) -> str:
    """`run 7 of 30  hubert_large 5.5 s seed 1`; without its number outside a sweep."""
    number = f"run {place.number} of {place.total}  " if place else ""
    head = "" if config.head.name == "mlp" else f" {config.head.name}"
    fold = "" if config.data.fold is None else f" fold {config.data.fold}"
    return f"{number}{config.backbone.name}{head} {config.window.seconds:g} s seed {config.seed}{fold}"


def finished_line(config: Config, place: Place | None, results: Results) -> str:
    """What a run of a sweep leaves on the terminal: one line."""
    scores = [f"devel Avg {results.score('devel', 'avg'):.4f}{results.mean_of('devel')}"]
    if results.epochs is not None:
        scores[0] += f" in epoch {results.best['epoch'] + 1}"
    if "test" in results.metrics:
        scores.append(f"test SCC {results.score('test', 'scc'):.4f}{results.mean_of('test')}")
    return " · ".join([label(config, place), *scores, duration(results.timings["total_seconds"])])


class ProgressReport(Callback):
    """Reports every epoch: the best score so far, and the time left by the epochs of this call."""

    def __init__(self, config: Config, place: Place | None) -> None:
        self.config, self.place = config, place
        self.best = float("-inf")
        self.begun, self.first = 0.0, 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.begun, self.first = time.monotonic(), trainer.current_epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        select = self.config.train.select
        value = float(trainer.callback_metrics[f"devel/{select}"])
        self.best = max(self.best, value)
        epoch, epochs = trainer.current_epoch + 1, self.config.trainer.epochs
        seconds = (time.monotonic() - self.begun) / (epoch - self.first)  # of an epoch
        text = f"{label(self.config, self.place)} · epoch {epoch}/{epochs} · devel {_name(select)} {_short(value)}"
        text += f" (best {_short(self.best)})"
        left = []
        if epoch < epochs:
            left.append(f"{duration((epochs - epoch) * seconds)} left")
        if self.place and self.place.later:
            later = self.place.later * (self.place.mean_seconds or epochs * seconds) / self.place.beside
            left.append(f"sweep {duration((epochs - epoch) * seconds + later)} left")
        text += f" · {', '.join(left)}" if left else ""
        report(log, text, epoch / epochs)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]


def _name(select: str) -> str:
    return "Avg" if select == "avg" else select.upper()


def _short(value: float) -> str:
    """A score without its leading zero, two decimals."""
    return f"{value:.2f}".replace("0.", ".", 1)
