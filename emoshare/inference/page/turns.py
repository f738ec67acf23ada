"""One computation at a time, in a thread, for as long as somebody waits for its answer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from emoshare.inference.page.analysis import Check

Answer = TypeVar("Answer")
WAITING = 4  # computations that may wait for the one that runs
SECONDS = 180.0  # that one may take
THREAD = "analysis"  # the name of the thread that computes
MAX_BYTES = 400e6
BUSY = "Too many recordings are waiting here. Try again in a moment."
LOOK = 0.2  # seconds between two looks at whether the browser still waits


class Refused(Exception):  # noqa: N818 (an answer of the server, read as one)
    """A request that is not served: an HTTP status, and a line for the user."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class Turns:
    """A queue of computations.

    Attributes:
        waiting: how many may wait.
        seconds: how long one may take, from its start.
        max_bytes: of uploads that may be kept at a time. An upload takes no place in the queue while it comes.
        stop: set to end the one that runs at its next check.
    """

    def __init__(self, waiting: int = WAITING, seconds: float = SECONDS, max_bytes: float = MAX_BYTES) -> None:
        self.waiting, self.seconds, self.max_bytes = waiting, seconds, max_bytes
        self.stop = threading.Event()
        self._taken = self._held = 0
        self._lock = asyncio.Lock()

    @contextmanager
    def upload(self) -> Iterator[Callable[[int], None]]:
        """A function to call with the size of each piece that an upload keeps until the block ends.

        Refused where too many recordings wait already, or their bytes are too many.
        """
        self._check()
        mine = 0

        def hold(size: int) -> None:
            nonlocal mine
            if self._held + size > self.max_bytes:
                raise Refused(503, BUSY)
            mine, self._held = mine + size, self._held + size

        try:
            yield hold
        finally:
            self._held -= mine

    def _check(self) -> None:
        if self._taken > self.waiting:
            raise Refused(503, BUSY)

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the queue, for an upload that is there. Refused where too many wait already."""
        self._check()
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def run(self, function: Callable[[Check], Answer], gone: Callable[[], Awaitable[bool]]) -> Answer:
        """Call `function(check)` when its turn comes; `check` raises where the answer is no longer wanted.

        Args:
            function: what to compute; it calls `check` often.
            gone: whether the browser has left.

        Raises:
            Refused: it takes too long, or the browser has left.
        """
        async with self._lock:
            return await self._compute(function, gone)

    async def _compute(self, function: Callable[[Check], Answer], gone: Callable[[], Awaitable[bool]]) -> Answer:
        why: list[Refused] = []

        def check() -> None:
            if self.stop.is_set():
                raise Refused(503, "The server is ending.")
            if why:
                raise why[0]

        work = asyncio.ensure_future(in_thread(function, check))
        ends = time.monotonic() + self.seconds
        try:
            while not work.done():
                if not why and await gone():
                    why.append(Refused(499, "The browser has left."))
                if not why and time.monotonic() > ends:
                    text = f"This takes more than {self.seconds:g} s here. Try a shorter recording or longer windows."
                    why.append(Refused(503, text))
                await asyncio.wait({work}, timeout=LOOK)
        finally:
            why.append(Refused(503, "The server is ending."))  # read only where this was cancelled
        return work.result()


def in_thread(function: Callable[[Check], Any], check: Check) -> asyncio.Future[Any]:
    """Call `function(check)` in a thread that does not keep the program from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(answer: Any, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is None:
            future.set_result(answer)
        else:
            future.set_exception(error)

    def target() -> None:
        answer, problem = None, None
        try:
            check()
            answer = function(check)
        except BaseException as error:
            problem = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, answer, problem)

    threading.Thread(target=target, name=THREAD, daemon=True).start()
    return future


def computing() -> bool:
    """Whether a computation runs, wanted or not."""
    return any(thread.name == THREAD for thread in threading.enumerate())
