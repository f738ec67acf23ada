"""run.log: everything that a run and its libraries logged while it was trained, with the time."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from emoshare.core.progress import duration

LIBRARIES = ("pytorch_lightning", "lightning", "transformers", "py.warnings")
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

PROGRESS = re.compile(r" · ((?:epoch|extracting:|fit) \d+/.*)")
TAIL = 2**16  # bytes at a log's end that are looked at


def progress_of(path: Path) -> str:
    """The last progress in a run's log, and the time since the last line; empty where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(os.fstat(file.fileno()).st_size - TAIL, 0))
            lines = file.read().decode("utf-8", "replace").splitlines()
            silent = time.time() - os.fstat(file.fileno()).st_mtime
    except OSError:
        return ""
    matches = (PROGRESS.search(line) for line in reversed(lines) if " DEBUG emoshare" in line)
    last = next((match[1] for match in matches if match), "")
    return f"{last} ({duration(max(silent, 0))} ago)" if last else ""


def _passes(name: str, level: int, record: logging.LogRecord) -> bool:
    """Whether a handler, which loggers may share, takes a record: of one logger, from a level on."""
    return record.levelno >= level or not f"{record.name}.".startswith(f"{name}.")


@contextmanager
def run_log(path: Path) -> Iterator[None]:
    """Append the log lines and warnings of the block to a file, details too.

    Nothing more appears on the terminal, or in the log of a program that calls emoshare: libraries' own lines and
    Python's warnings go to the file alone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = logging.FileHandler(path, encoding="utf-8")
    file.setLevel(logging.DEBUG)  # what is for a bar alone stays out
    file.setFormatter(logging.Formatter(FORMAT))
    logging.captureWarnings(True)
    onward = logging.Handler()
    loggers = [logging.getLogger(name) for name in ("emoshare", *LIBRARIES)]
    verbose = any(getattr(handler, "details", False) for handler in logging.getLogger("emoshare").handlers)
    before = [(logger, logger.level, logger.propagate) for logger in loggers]
    muted: list[tuple[logging.Handler, Callable[[logging.LogRecord], bool]]] = []
    try:
        for logger in loggers:
            details = logging.DEBUG if logger.name == "emoshare" else logging.INFO
            shown = logger.getEffectiveLevel() if verbose or logger.name == "emoshare" else logging.WARNING
            for handler in logger.handlers:  # of the terminal: what its logger would have stopped, it stops now
                muted.append((handler, partial(_passes, logger.name, shown)))
                handler.addFilter(muted[-1][1])
            if logger.name == "emoshare" and logger.propagate and logger.parent:  # the handlers of who calls us
                onward.setLevel(shown)
                onward.emit = logger.parent.callHandlers  # type: ignore[method-assign]
                logger.addHandler(onward)
            logger.setLevel(min(logger.getEffectiveLevel(), details))
            logger.propagate = False
            logger.addHandler(file)
        yield
    except BaseException:
        logging.getLogger("emoshare").debug("the run ended here", exc_info=True)  # a traceback, for the file alone
        raise
    finally:
        for logger in loggers:
            logger.removeHandler(file)
            logger.removeHandler(onward)
        for logger, level, propagate in before:
            logger.setLevel(level)
            logger.propagate = propagate
        for handler, mute in muted:
            handler.removeFilter(mute)
        logging.captureWarnings(False)
        file.close()
