"""Processes that help with a computation and end with it, however it ends.

They share work through files, so that nothing comes back from them.
"""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

log = logging.getLogger("emoshare")

PATIENCE = 5  # seconds to end in


@contextmanager
def helping(count: int, function: Callable[..., None], arguments: tuple[Any, ...]) -> Iterator[None]:
    """`count` processes call `function(number, *arguments)`, number from 1, while the block runs.

    They end with the block, on Ctrl-C, and when this process dies. One that fails is warned of and costs nothing else.
    """
    helpers = []
    try:
        for number in range(1, count + 1):
            helpers.append(_start(function, (number, *arguments)))  # noqa: PERF401 (those before a failure are ended)
        yield
    finally:
        ended = [process.poll() for process, _ in helpers]
        for process, _ in helpers:
            _dismiss(process)
        for status, (process, said) in zip(ended, helpers, strict=True):
            _wait(process)
            if status not in (None, 0):
                said.seek(0)
                lines = said.read().decode(errors="replace").strip().splitlines()
                log.warning("a helper process failed (%s); the others did its work", lines[-1] if lines else "killed")
            said.close()


def _start(function: Callable[..., None], arguments: tuple[Any, ...]) -> tuple[subprocess.Popen[bytes], Any]:
    said = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the process)
    process = subprocess.Popen(
        [sys.executable, "-c", "from emoshare.core.helpers import run; run()"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said,
        process_group=0,  # Ctrl-C reaches the first process alone, which ends the others
    )  # fmt: skip
    assert process.stdin
    with suppress(BrokenPipeError):  # it has died already: seen at the end
        work = pickle.dumps((function, arguments))
        process.stdin.write(len(work).to_bytes(8, "big") + work)
        process.stdin.flush()
    return process, said


def _dismiss(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin
    with suppress(BrokenPipeError):
        process.stdin.close()


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run() -> None:
    """Run a helper process. It ends when its standard input is closed."""
    logging.disable()
    work = sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read(8), "big"))

    def end_with_parent() -> None:
        while os.read(0, 1024):
            pass
        os._exit(0)

    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        function, arguments = pickle.loads(work)  # which imports what it needs, and that can take seconds
        function(*arguments)
    except BaseException:
        traceback.print_exc()  # to the file that the first process reads
        os._exit(1)
    os._exit(0)
