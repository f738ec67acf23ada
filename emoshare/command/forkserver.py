"""Processes that help a command, forked from one that has imported the libraries: that takes seconds, a fork none.

Only on Linux, and only where no GPU is there: a process that has looked at one must not be forked. Elsewhere each of
them is an interpreter of its own, which imports for itself.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from typing import Any, Protocol

from emoshare.core.cores import gpu_driver
from emoshare.core.interrupt import block_signals

LIBRARIES = "emoshare.command.verbs:load_libraries"


class Process(Protocol):
    """A forked process with the methods of `subprocess.Popen` that are used."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self) -> int: ...
    def send_signal(self, sig: int) -> None: ...


class Forked:
    """A process of the fork server, as `subprocess.Popen` shows one; its status is asked of its parent."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self.server, self.pid = server, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            try:
                self.returncode = self.server.ask("status", self.pid)
            except (EOFError, OSError):  # the server was killed, and so it ends
                self.returncode = -signal.SIGKILL
        return self.returncode

    def wait(self) -> int:
        while (status := self.poll()) is None:
            time.sleep(0.01)
        return status

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)


class ForkServer:
    """The process that imports, and forks when it is asked to; seen from the command's."""

    def __init__(self) -> None:
        self.process, self.wire = _interpreter("emoshare.command.forkserver:serve", dict(os.environ))
        self.ready = False

    def wait(self) -> None:
        """Until it has imported what it has to."""
        if not self.ready:
            self.wire.recv()
            self.ready = True

    def ask(self, *request: Any, handle: int | None = None) -> Any:
        """The server's answer, which comes at once; handle: a file that it gets."""
        with block_signals():
            self.wire.send(request)
            if handle is not None:
                send_handle(self.wire, handle, self.process.pid)
            return self.wire.recv()

    def fork(self, target: str, environment: dict[str, str]) -> tuple[Forked, Connection]:
        """A process that calls a function, as `start`."""
        wire, theirs = Pipe()
        with theirs:
            pid = self.ask("fork", target, environment, str(Path.cwd()), handle=theirs.fileno())
        return Forked(self, pid), wire

    def close(self) -> None:
        self.wire.close()
        self.process.kill()
        self.process.wait()


_servers: list[ForkServer] = []  # one at most


def can_fork() -> bool:
    """Whether processes are forked here: on Linux without a GPU's driver."""
    return sys.platform == "linux" and not gpu_driver()


def prepare() -> None:
    """Wait until processes can be started at once, so that Ctrl-C need not be held back for longer."""
    if can_fork():
        if not _servers:
            with block_signals():
                _servers.append(ForkServer())
        _servers[0].wait()


def stop() -> None:
    """End the fork server, after all that it has forked; it takes as much memory as its libraries."""
    while _servers:
        _servers.pop().close()


def start(target: str, environment: dict[str, str] | None = None) -> tuple[Process, Connection]:
    """A process that calls a function, `module:name`, with one end of a pipe; and the other end.

    It begins with the signals blocked that ask to stop, and in a process group of its own: Ctrl-C reaches this process
    alone, which passes it on.
    """
    environment = dict(os.environ) if environment is None else environment
    if not can_fork():
        return _interpreter(target, environment)
    prepare()
    return _servers[0].fork(target, environment)


def _interpreter(target: str, environment: dict[str, str]) -> tuple[subprocess.Popen[bytes], Connection]:
    wire, theirs = Pipe()
    command = [sys.executable, "-m", "emoshare.command.forkserver", target, str(theirs.fileno())]
    with theirs, block_signals():
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], process_group=0
        )
    return process, wire


def apart(module: str, name: str, *arguments: Any) -> Any:
    """Call a function of a module in a process of its own, so that its imports take no memory here."""
    process, wire = start("emoshare.command.forkserver:answer")
    try:
        wire.send((module, name, arguments))
        returned, value = wire.recv()
    except (EOFError, OSError):
        raise RuntimeError(f"{module}: its process ended without an answer (status {process.wait()})") from None
    finally:
        wire.close()
        process.wait()
    if returned:
        return value
    raise value


# In the other processes


def answer(wire: Connection) -> int:
    """The other end of `apart`: it says nothing but its answer."""
    logging.disable()
    with Path(os.devnull).open("w") as nothing:
        for stream in (1, 2):
            os.dup2(nothing.fileno(), stream)
    module, name, arguments = wire.recv()
    try:
        outcome = True, getattr(importlib.import_module(module), name)(*arguments)
    except Exception as error:
        outcome = False, error
    wire.send(outcome)
    return 0


def serve(control: Connection) -> int:
    """Fork when asked to, until the command's process closes its end. Returns in the forked processes, too."""
    with suppress(Exception):  # a process that needs it says what is wrong
        _find(LIBRARIES)()
    _send(control, None)
    while True:
        try:
            kind, *arguments = control.recv()
            if kind == "fork":
                handle = recv_handle(control)
                parent, pid = os.getpid(), _fork()
                if not pid:
                    _end_with(parent)
                    control.close()
                    return _run(handle, *arguments)
                os.close(handle)
                control.send(pid)
            else:
                control.send(_status(*arguments))
        except (EOFError, OSError):
            return 0


def _send(wire: Connection, message: Any) -> None:
    with suppress(OSError):
        wire.send(message)


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12 warns of threads; those of BLAS are idle, and made anew
        return os.fork()


def _status(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _run(handle: int, target: str, environment: dict[str, str], folder: str) -> int:
    """The work of a forked process."""
    os.setpgid(0, 0)
    os.environ.clear()
    os.environ.update(environment)
    with suppress(OSError):
        os.chdir(folder)
    function: Callable[[Connection], int] = _find(target)
    return function(Connection(handle))


def _find(target: str) -> Callable[..., Any]:
    module, _, name = target.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def _end_with(parent: int) -> None:
    """Be interrupted when the process dies that started this one; only Linux can do this."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it has died before
            os._exit(1)


if __name__ == "__main__":
    _end_with(os.getppid())
    sys.exit(_find(sys.argv[1])(Connection(int(sys.argv[2]))))
