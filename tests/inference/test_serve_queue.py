"""One computation at a time, a bounded queue, and ends to what takes too long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, ClassVar

import pytest

pytest.importorskip("starlette", reason="the extra `serve` is not installed")

from emoshare.inference.page import turns, upload
from emoshare.inference.page.turns import Refused, Turns


async def stays() -> bool:
    return False


def test_one_computation_at_a_time_and_a_bounded_queue() -> None:
    queue, running, most = Turns(waiting=2), [0], [0]

    def compute(check: Callable[[], None]) -> str:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.05)
        running[0] -= 1
        return "done"

    async def ask() -> str:
        with queue.place():
            return await queue.run(compute, stays)

    async def ask_all() -> list[Any]:
        return await asyncio.gather(*(ask() for _ in range(5)), return_exceptions=True)

    answers = asyncio.run(ask_all())
    assert answers.count("done") == 3
    assert [error.status for error in answers if isinstance(error, Refused)] == [503, 503]
    assert most == [1]
    assert asyncio.run(ask()) == "done"  # there is room again


def test_uploads_take_no_place_in_the_queue_and_a_bounded_memory() -> None:
    queue = Turns(waiting=0, max_bytes=100)
    with ExitStack() as uploads:
        holds = [uploads.enter_context(queue.upload()) for _ in range(50)]
        for hold in holds:
            hold(2)
        with pytest.raises(Refused) as refused:
            holds[0](1)
        assert refused.value.status == 503
        with queue.place(), pytest.raises(Refused), queue.upload():  # a full queue refuses before anything is read
            pass
        with queue.place():
            pass
    with queue.upload() as hold:
        hold(100)  # the others gave theirs back


def looping(check: Callable[[], None]) -> None:
    for _ in range(1_000):
        check()
        time.sleep(0.01)


def test_what_takes_too_long_ends(monkeypatch) -> None:
    monkeypatch.setattr(turns, "LOOK", 0.02)
    with pytest.raises(Refused, match=r"more than 0\.1 s"):
        asyncio.run(Turns(seconds=0.1).run(looping, stays))


def test_what_nobody_waits_for_ends(monkeypatch) -> None:
    monkeypatch.setattr(turns, "LOOK", 0.02)

    async def leaves() -> bool:
        return True

    began = time.monotonic()
    with pytest.raises(Refused, match="browser has left"):
        asyncio.run(Turns().run(looping, leaves))
    assert time.monotonic() - began < 2


def test_a_slow_upload_ends() -> None:
    class Slow:
        headers: ClassVar[dict[str, str]] = {}

        async def stream(self) -> Any:
            while True:
                await asyncio.sleep(0.02)
                yield b"x"

    with pytest.raises(Refused, match="took more than"):
        asyncio.run(upload.receive(Slow(), seconds=0.1))


class Hasty(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next event in place of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:
            self.ahead += max(self._scheduled[0]._when - self.time(), 0)
        super()._run_once()  # type: ignore[misc]


def run(work: Any) -> Any:
    with asyncio.Runner(loop_factory=Hasty) as runner:
        return runner.run(work)


class Request:
    """An upload whose pieces come at times of their own."""

    def __init__(self, sizes: list[int], pause: float, announced: int) -> None:
        self.headers = {"content-length": str(announced)}
        self.sizes, self.pause = sizes, pause

    async def stream(self) -> Any:
        for size in self.sizes:
            yield bytes(size)
            await asyncio.sleep(self.pause)


def test_an_upload_that_stands_still_ends_long_before_one_that_goes_on() -> None:
    async def refused(request: Request) -> float:
        begun = asyncio.get_running_loop().time()
        with pytest.raises(Refused) as error:
            await upload.receive(request, seconds=60.0)
        assert error.value.status == 408
        return asyncio.get_running_loop().time() - begun

    assert 9.9 < run(refused(Request([1], 1e6, 50_000_000))) < 10.1
    assert 34.9 < run(refused(Request([1] * 50 + [0] * 1000, 0.5, 100))) < 35.6
    data = run(upload.receive(Request([1] * 100, 0.5, 100), seconds=60.0))
    assert data == bytes(100)
