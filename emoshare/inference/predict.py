"""Shares of many files, kept as they come, so that whatever ends the work costs little of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from emoshare.core.config import RATE
from emoshare.core.errors import EmoshareError
from emoshare.inference.intervals import intervals_of, with_intervals
from emoshare.inference.model import Model
from emoshare.inference.reading import Reading
from emoshare.inference.shares import Journal, Shares, check_suffix, join

log = logging.getLogger("emoshare")

UNSEEN = 0.02  # seconds that a window need not cover: windows end with whole frames


@dataclass(frozen=True)
class Predicted:
    """The outcome of predicting some files."""

    table: Shares
    reading: Reading
    seconds: dict[str, float] = field(default_factory=dict)  # of the recordings that were read

    @property
    def longer(self) -> dict[str, tuple[float, float, float]]:
        """File → start and end of its one window, and its seconds, where these are more. All are, without a step."""
        spans: dict[str, tuple[float, float]] = {}
        for file, start, end in zip(self.table.files, self.table.start, self.table.end, strict=True):
            first, last = spans.get(file, (start, end))
            spans[file] = min(first, start), max(last, end)
        whole = {file: (start, end, self.seconds.get(file, end)) for file, (start, end) in spans.items()}
        return {file: span for file, span in whole.items() if span[2] - (span[1] - span[0]) > UNSEEN}

    @property
    def failures(self) -> dict[str, str]:
        """File → the reason why it cannot be predicted."""
        return self.reading.failed


def predict_files(
    model: Model, files: Sequence[Path], windows: float | None = None, step: float | None = None,
    journal: Journal | None = None, scale: float | None = None,
) -> Predicted:  # fmt: skip
    """Shares of files, in their order; a bad file is left out and named.

    Args:
        model: that predicts.
        files: to read.
        windows: seconds of a window, as for `Model.predict`.
        step: seconds between windows, as for `Model.predict`.
        journal: keeps the rows as they come; files whose rows it has are not read again.
        scale: of files of floats, as for `audio.read`.

    Raises:
        EmoshareError: windows or step are no such, or the backbone cannot be had. Nothing is read then.
    """
    windows = model.window_seconds(windows, step)
    _ = model.parts
    names = [str(file) for file in files]
    waiting = [name for name in names if journal is None or name not in journal.done]
    reading = Reading(model.results.run, len(names), len(names) - len(waiting))
    tables: list[Shares] = []
    seconds: dict[str, float] = {}

    def predict_group(names: list[str], waves: list[np.ndarray]) -> Shares:
        seconds.update((name, len(wave) / RATE) for name, wave in zip(names, waves, strict=True))
        return model.table(names, waves, windows, step)

    for table in reading.tables(waiting, predict_group, scale):
        if journal is not None:
            journal.add(table)
        else:
            tables.append(table)
    table = join(tables, model.targets) if journal is None else journal.table()
    return Predicted(table.order(names), reading, seconds)


def predict_to(
    model: Model, files: Sequence[Path], out: Path, windows: float | None = None, step: float | None = None,
    intervals: bool = False, scale: float | None = None,
) -> Predicted:  # fmt: skip
    """Predict as `predict_files`, into a .csv or .parquet file, which is there when all files are done.

    What is done is kept beside it in `<out>.partial` until then: the same call goes on from there, after whatever ended
    the first one.

    intervals: with the columns of `with_intervals`. scale: as for `predict_files`.

    Raises:
        EmoshareError: out has another suffix, another process writes it, what is kept is of another prediction, or the
            run has no intervals.
    """
    check_suffix(out)
    if intervals:
        intervals_of(model.results)
    model.window_seconds(windows, step)
    _ = model.parts  # whatever is wrong with the model is said before anything is written
    partial = out.with_name(f"{out.name}.partial")
    asked = {"run": model.results.run, "finished": model.results.finished, "windows": windows, "step": step}
    asked |= {"scale": scale} if scale else {}
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{partial}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise EmoshareError(f"{out}: another process writes it; wait for it, or name another file") from None
    try:
        with closing(Journal(partial, asked, model.targets)) as journal:
            if journal.done:
                log.info("%s: %d files are done already; going on", out, len(journal.done))
            predicted = predict_files(model, files, windows, step, journal, scale)
        table = with_intervals(predicted.table, model.results) if intervals else predicted.table
        table.write(out)
        partial.unlink()
        return predicted
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
