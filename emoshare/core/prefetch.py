"""Work done by threads while the main thread does something else: results ahead of it, or calls behind it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int = 2,
    ahead: int = 2,
    initializer: Callable[[], None] | None = None,
) -> Generator[Result]:
    """Yield `function` of each item, in order, computed by threads up to `ahead` items before the caller takes them.

    What the function raises is raised here. `initializer` is called once by each thread.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, initializer=initializer) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def in_background(function: Callable[..., None], behind: int = 2) -> Iterator[Callable[..., None]]:
    """Calls of the function run one after the other in a thread; its exception is raised at a later call or the end.

    A call waits while more than `behind` calls are not done yet.
    """
    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1) as pool:

        def call(*arguments: Any) -> None:
            waiting.append(pool.submit(function, *arguments))
            if len(waiting) > behind:
                waiting.popleft().result()

        try:
            yield call
            while waiting:
                waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
