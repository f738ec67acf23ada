"""Requests to stop: Ctrl-C, and the signals by which a cluster announces the end of a job's time. No PyTorch.

SIGTERM and SIGUSR1 ask to stop: training stops after its epoch, everything else at once, as what is done is on the
disk. SIGUSR1 may come again; a second SIGTERM stops training at once, as Ctrl-C (SIGINT) does. A signal that is ignored
(`nohup`, `trap ''`, a background job of a shell without job control) or that has a handler of somebody else's
(submitit's, which puts a job back into SLURM's queue) is left to them.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

ASKING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))
STOPPING = {signal.SIGINT, *ASKING}
React = Callable[[int], None]


class StopRequest:
    """Whether this process was asked to stop, and who puts that off to a better moment."""

    made = terminated = False
    impatient = True  # a second SIGTERM stops at once
    deferring: tuple[React, ...] = ()  # the innermost last

    def handle(self, number: int, _: Any) -> None:
        """A signal's handler."""
        again = self.impatient and self.terminated and number == signal.SIGTERM
        self.made, self.terminated = True, self.terminated or number == signal.SIGTERM
        if again or not self.deferring:
            raise KeyboardInterrupt
        self.deferring[-1](number)


REQUEST = StopRequest()


@contextmanager
def handling_stop_signals(impatient: bool = True) -> Iterator[None]:
    """Make SIGTERM and SIGUSR1 ask to stop in the block, instead of killing the process; it may be nested.

    impatient: a second SIGTERM stops at once.
    """
    taken = [number for number in ASKING if _main_thread() and signal.getsignal(number) == signal.SIG_DFL]
    if taken:
        REQUEST.impatient = impatient
    for number in taken:
        signal.signal(number, REQUEST.handle)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
        if taken:  # what was asked is answered with the block
            REQUEST.made = REQUEST.terminated = False


@contextmanager
def deferring_stop(react: React = lambda _: None) -> Iterator[None]:
    """Answer a request to stop by `react` in the block, which calls `check_stop` where it can stop well."""
    before = REQUEST.deferring
    REQUEST.deferring = (*before, react)
    try:
        yield
    finally:
        REQUEST.deferring = before


def check_stop() -> None:
    """Raise KeyboardInterrupt where this process was asked to stop."""
    if REQUEST.made:
        raise KeyboardInterrupt


@contextmanager
def block_signals() -> Iterator[None]:
    """Block the signals that stop this process; processes started in the block never get one unless they ask."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def handling_ctrl_c(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Call `handler` at a Ctrl-C in the block, unless it is ignored; afterwards Ctrl-C does as before."""
    before = signal.getsignal(signal.SIGINT)
    if not _main_thread() or before == signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler if before is None else before)


def _main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()  # others get no signals
