"""Log lines of a run of the group `debug` after training: the fall of its training loss, and a profiler's table."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence

import pytorch_lightning as pl
from pytorch_lightning.profilers import SimpleProfiler

from emoshare.core.text import console_table
from emoshare.training.system import Task

log = logging.getLogger("emoshare")
LEAST = 0.01  # share of the time from which an action is a row of the table


def report_debugging(task: Task, trainer: pl.Trainer, history: Sequence[dict[str, float]]) -> None:
    """Log the fall of the training loss where `limit` leaves scores without a meaning, and the table of a profiler.

    history: the rows of metrics.csv.
    """
    if task.config.limit is not None:
        first, last = history[0]["train/loss"], history[-1]["train/loss"]
        log.info("training loss %.4f in epoch 1, %.4f in epoch %d", first, last, len(history))
    profiler = trainer.profiler  # type: ignore[attr-defined]
    if isinstance(profiler, SimpleProfiler):
        table = console_table(("action", "calls", "seconds", "share"), _rows(profiler))
        log.info("time of training and prediction; %s has all actions\n%s", task.run.folder / "run.log", table)


def _rows(profiler: SimpleProfiler) -> Iterator[tuple[str, ...]]:
    """The actions that took longest: name, calls, seconds in total, and their share of the whole time."""
    whole = time.monotonic() - profiler.start_time
    totals = {name: sum(durations) for name, durations in profiler.recorded_durations.items()}
    for name in sorted(totals, key=totals.__getitem__, reverse=True):
        if totals[name] >= LEAST * whole:
            calls = len(profiler.recorded_durations[name])
            yield _short(name), f"{calls:,}", f"{totals[name]:.2f}", f"{totals[name] / whole:.0%}"


def _short(action: str) -> str:
    """Lightning's name of an action without the kind and the arguments of its object, in at most 50 columns."""
    name, brace, rest = action.rpartition("]")[2].partition("{")
    return (name + rest.rpartition("}")[2] if brace else name).lstrip(".")[:50]
