"""One computation at a time, a bounded queue, and ends to what takes too long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
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
        asyncio.run(upload.received(Slow(), seconds=0.1))  # type: ignore[arg-type]
