"""Requests to stop: who answers them, and what is left alone."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from emoshare.core.interrupt import ASKING, check_stop, deferring_stop, handling_ctrl_c, handling_stop_signals


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Handlers as Python's own, and as they were afterwards."""
    before = {number: signal.getsignal(number) for number in (*ASKING, signal.SIGINT)}
    for number in ASKING:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ASKING)
def test_what_nobody_puts_off_ends_at_once(number) -> None:
    with pytest.raises(KeyboardInterrupt), handling_stop_signals():
        signal.raise_signal(number)
    assert signal.getsignal(number) == signal.SIG_DFL
    check_stop()  # it was answered


@pytest.mark.parametrize("number", ASKING)
def test_what_is_put_off_is_asked_for_later(number) -> None:
    heard: list[int] = []
    with handling_stop_signals():
        with deferring_stop(heard.append), handling_stop_signals():  # nested, as a run in a command
            signal.raise_signal(number)
        assert heard == [number]
        with pytest.raises(KeyboardInterrupt):
            check_stop()


@pytest.mark.parametrize(
    ("numbers", "impatient", "ends"),
    [
        ([signal.SIGUSR1] * 3, True, False),
        ([signal.SIGTERM, signal.SIGUSR1], True, False),
        ([signal.SIGUSR1, signal.SIGTERM], True, False),
        ([signal.SIGTERM, signal.SIGTERM], True, True),
        ([signal.SIGTERM, signal.SIGTERM], False, False),
    ],
)
def test_a_second_sigterm_ends_at_once_but_in_a_worker(numbers, impatient, ends) -> None:
    ended = False
    with handling_stop_signals(impatient), deferring_stop():
        try:
            for number in numbers:
                signal.raise_signal(number)
        except KeyboardInterrupt:
            ended = True
    assert ended == ends


def test_handlers_of_others_and_ignored_signals_stay() -> None:
    heard: list[int] = []

    def theirs(number: int, _: object) -> None:
        heard.append(number)

    signal.signal(signal.SIGTERM, theirs)  # as submitit
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with handling_stop_signals(), handling_ctrl_c(theirs):
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            signal.raise_signal(number)
    assert heard == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is theirs


def test_other_threads_get_no_signals_and_set_no_handlers() -> None:
    done = []

    def run() -> None:
        with handling_stop_signals(), handling_ctrl_c(lambda *_: None):
            done.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert done == [signal.SIG_DFL]


def test_a_ctrl_c_of_which_a_library_makes_an_error_of_its_own_is_still_one() -> None:
    """As PyTorch does while it writes a checkpoint: `RuntimeError: unexpected pos`."""
    from emoshare.core.lightning import interruptible

    def write(interrupt) -> None:
        try:
            interrupt.handle()
        finally:
            raise RuntimeError("unexpected pos")

    with pytest.raises(KeyboardInterrupt), interruptible() as interrupt:
        write(interrupt)
    with pytest.raises(RuntimeError), interruptible():
        raise RuntimeError("of another kind")
