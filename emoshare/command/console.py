"""What is printed: log lines as they are, and of libraries only what they warn of."""

from __future__ import annotations

import logging

log = logging.getLogger("emoshare")
LIBRARIES = ("pytorch_lightning", "lightning", "transformers", "wandb")


class LineHandler(logging.Handler):
    """Prints a log line as it is, on standard output."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), flush=True)


def speak(verbose: bool = False) -> None:
    """Print emoshare's log lines, and of libraries the warnings; with `verbose` details, too."""
    if not log.handlers:
        log.addHandler(LineHandler())
        log.propagate = False
    log.setLevel(logging.DEBUG if verbose else logging.INFO)
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.INFO if verbose else logging.WARNING)
