"""Progress of a run: its place in the sweep, its epoch, its scores, and the remaining time of both."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from emoshare.core.progress import BAR, MINUTE, duration, report
from emoshare.metrics.registry import find
from emoshare.runs.resolved import ResolvedRun
from emoshare.runs.results import Results
from emoshare.runs.sweep import Place

log = logging.getLogger("emoshare")


def label(run: ResolvedRun, place: Place | None) -> str:
    """`run 7 of 30  hubert_large 5.5 s seed 1`; without its number outside a sweep, or a seed that does not count."""
    number = f"run {place.number} of {place.total}  " if place else ""
    config = run.config
    head = f" {config.head.extension}" if config.head.extension else ""
    counted = {"seed": run.seed, "fold": config.data.fold}
    which = "".join(f" {key} {value}" for key, value in counted.items() if value is not None)
    return f"{number}{config.backbone.name}{head} {config.window.seconds:g} s{which}{place.varied if place else ''}"


def finished_line(run: ResolvedRun, place: Place | None, results: Results) -> str:
    """The line that a finished run of a sweep leaves on the terminal."""
    main, first = results.main, results.scoring_metrics[0]
    scores = [f"devel {main.label} {results.score('devel', main.name):.4f}{results.mean_of('devel')}"]
    if results.best.epoch is not None:
        scores[0] += f" in epoch {results.best.epoch + 1}"
    if "test" in results.metrics:
        scores.append(f"test {first.label} {results.score('test', first.name):.4f}{results.mean_of('test')}")
    return " · ".join([label(run, place), *scores, duration(results.timings["total_seconds"])])


class ProgressReport(Callback):
    """Reports every epoch, and within long ones: the best score so far, and the time left by what this call has done.

    epochs: to be trained, without scores where that is on train + devel.
    """

    def __init__(self, run: ResolvedRun, place: Place | None, epochs: int | None = None) -> None:
        self.place, self.epochs = place, epochs or run.config.trainer.epochs
        self.name = label(run, place) + (" · train + devel" if epochs else "")
        self.select = find(run.config.train.select)
        self.best, self.scores = math.nan, ""
        self.begun, self.first, self.shown, self.noted = 0.0, 0, 0.0, 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.begun = self.shown = self.noted = time.monotonic()
        self.first = trainer.current_epoch

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if now - self.shown >= 1:
            self._report(trainer.current_epoch + (batch_idx + 1) / trainer.num_training_batches, now)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if (score := trainer.callback_metrics.get(f"devel/{self.select.name}")) is not None:
            value = float(score)
            self.best = (self.best, value)[self.select.best([self.best, value])]
            self.scores = f" · devel {self.select.label} {_short(value)} (best {_short(self.best)})"
        self._report(trainer.current_epoch + 1, time.monotonic())

    def _report(self, epoch: float, now: float) -> None:
        """epoch: the number of finished ones, with the part of the present one."""
        epochs, whole = self.epochs, epoch == int(epoch)
        seconds = (now - self.begun) / (epoch - self.first)  # of an epoch
        part = "" if whole else f", {epoch % 1:.0%} of it"
        text = f"{self.name} · epoch {math.ceil(epoch)}/{epochs}{part}{self.scores}"
        remaining = []
        if epoch < epochs:
            remaining.append(f"{duration((epochs - epoch) * seconds)} left")
        if self.place and self.place.later:
            later = self.place.later * (self.place.mean_seconds or epochs * seconds) / self.place.beside
            remaining.append(f"sweep {duration((epochs - epoch) * seconds + later)} left")
        text += f" · {', '.join(remaining)}" if remaining else ""
        note = whole or now - self.noted >= MINUTE
        report(log, text, epoch / epochs, logging.DEBUG if note else BAR)
        self.shown, self.noted = now, now if note else self.noted

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]


def _short(value: float) -> str:
    """A score without its leading zero, two decimals."""
    return f"{value:.2f}".replace("0.", ".", 1)
