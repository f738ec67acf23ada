"""The other end of `parallel.Worker`: a process that is sent runs and trains them, until its socket is closed."""

from __future__ import annotations

import atexit
import gc
import logging
import pickle
import signal
import threading
from contextlib import suppress
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from typing import Any

from emoshare.command.console import LineHandler, speak
from emoshare.command.messages import one_line
from emoshare.command.parallel import DONE, FRAMES, INTERRUPTED, LOG
from emoshare.command.verbs import load_libraries
from emoshare.core.errors import EmoshareError
from emoshare.core.interrupt import STOPPING, handling_stop_signals


class Wire:
    """Sends messages from several threads; none where the sweep's process has ended."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.lock = connection, threading.Lock()

    def send(self, kind: str, content: Any = None) -> None:
        with self.lock, suppress(OSError):
            self.connection.send((kind, content))

    def put_nowait(self, record: logging.LogRecord) -> None:
        """Called by QueueHandler."""
        self.send(LOG, record)


class Forward(LineHandler):
    """Sends log lines to the sweep's process in place of printing them."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(progress=True)
        self.queue = QueueHandler(wire)  # type: ignore[arg-type]

    def emit(self, record: logging.LogRecord) -> None:
        shown = record.levelno >= (logging.DEBUG if self.details else logging.INFO)
        if shown or (self.progress and getattr(record, "step", None) is not None):
            self.queue.emit(record)


def work(connection: Connection) -> None:
    """Train the runs that arrive."""
    wire = Wire(connection)
    logging.getLogger("emoshare").addHandler(Forward(wire))
    with suppress(Exception):  # a run that needs it says what is wrong
        load_libraries()  # takes seconds, while other runs go on
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            return
        speak(job.call.verbose, job.run.config.trainer.progress)
        try:
            outcome: Any = job.do(lambda: wire.send(FRAMES))
        except Exception as error:
            outcome = _portable(error)
        wire.send(DONE, outcome)


def _portable(error: Exception) -> Exception:
    """The error, or one of the same words where it cannot be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return EmoshareError(one_line(error))
    return error


def main(connection: Connection) -> int:
    atexit.register(gc.freeze)  # as in cli.main: the sweep waits for this process
    try:
        signal.signal(
            signal.SIGINT, signal.default_int_handler
        )  # the sweep's process sends it, and may ignore it itself
        with handling_stop_signals(impatient=False):  # it passes SIGTERM on, which its cluster may have sent here, too
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
            work(connection)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0
