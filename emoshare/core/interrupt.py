"""Ctrl-C while Lightning trains. Imports Lightning: import this module where something is trained."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pytorch_lightning.callbacks import Callback


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
