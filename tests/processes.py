"""Commands in processes of their own, forked from one that has imported the libraries: that takes seconds.

What a shell sees of a command, and what a kill leaves, is the same; only where a test is about the interpreter itself
(what is imported, and when) does it start one.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from emoshare.command import forkserver


@contextmanager
def one_fork_server() -> Iterator[None]:
    """The fork server of a command stays for the next one, as long as that finds modules in the same folders."""
    prepare, stop, path = forkserver.prepare, forkserver.stop, ""

    def prepare_or_keep() -> None:
        nonlocal path
        now = os.environ.get("PYTHONPATH", "")
        if now != path or any(server.process.poll() is not None for server in forkserver._servers):
            stop()
        path = now
        prepare()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forkserver, "prepare", prepare_or_keep)
        patch.setattr(forkserver, "stop", lambda: None)
        yield
    stop()


class Command:
    """`emoshare ARGUMENTS` in a folder, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self.said = [Path(tempfile.mkdtemp(prefix="said", dir=folder.parent)) / name for name in ("out", "err")]
        started = forkserver.start("forked:command", dict(os.environ if environment is None else environment))
        self.process, self.wire = started
        self.wire.send((str(folder), arguments, *map(str, self.said)))
        self.pid = self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.poll()

    def poll(self) -> int | None:
        return self.process.poll()

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = 200) -> int:
        end = time.monotonic() + timeout
        while (status := self.process.poll()) is None:
            assert time.monotonic() < end, "took too long"
            time.sleep(0.01)
        self.wire.close()
        return status

    def communicate(self, timeout: float = 200) -> tuple[str, str]:
        """Standard output and error, when it has ended."""
        self.wait(timeout)
        out, err = (path.read_text() for path in self.said)
        return out, err


def alive(process: psutil.Process) -> bool:
    """Whether a process still runs. One that has ended and whose parent has not asked for its status does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # a zombie, or gone in between
        return False


def workers_of(sweep: int) -> list[psutil.Process]:
    """The workers of a sweep's process that are alive: they are forked by a child of it."""
    servers = [child for child in psutil.Process(sweep).children() if "emoshare.command.forkserver" in child.cmdline()]
    return [worker for server in servers for worker in server.children() if alive(worker)]
