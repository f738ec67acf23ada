"""run.log: everything that a run and its libraries said while it was trained, with the time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LIBRARIES = ("pytorch_lightning", "lightning", "transformers", "py.warnings")
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextmanager
def run_log(path: Path) -> Iterator[None]:
    """Append to a log file what is logged and warned of inside the block; details too.

    What stays quiet on the terminal stays so: libraries' own lines and Python's warnings go to the file alone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = logging.FileHandler(path, encoding="utf-8")
    file.setLevel(logging.DEBUG)  # what is for a bar alone stays out
    file.setFormatter(logging.Formatter(FORMAT))
    logging.captureWarnings(True)
    loggers = [logging.getLogger(name) for name in ("emoshare", *LIBRARIES)]
    verbose = any(getattr(handler, "details", False) for handler in logging.getLogger("emoshare").handlers)
    before = [(logger, logger.level, logger.propagate) for logger in loggers]
    levels = [(handler, handler.level) for logger in loggers for handler in logger.handlers]
    try:
        for logger in loggers:
            details = logging.DEBUG if logger.name == "emoshare" else logging.INFO
            shown = logger.getEffectiveLevel() if verbose or logger.name == "emoshare" else logging.WARNING
            for handler in logger.handlers:  # of the terminal: what its logger would have stopped, it stops now
                handler.setLevel(max(handler.level, shown))
            logger.setLevel(min(logger.getEffectiveLevel(), details))
            logger.propagate = logger.propagate and logger.name == "emoshare"
            logger.addHandler(file)
        yield
    except BaseException:
        logging.getLogger("emoshare").debug("the run ended here", exc_info=True)  # a traceback, for the file alone
        raise
    finally:
        for logger in loggers:
            logger.removeHandler(file)
        for logger, level, propagate in before:
            logger.setLevel(level)
            logger.propagate = propagate
        for handler, level in levels:
            handler.setLevel(level)
        logging.captureWarnings(False)
        file.close()
