"""`emoshare ARGUMENTS` in a process that was forked from one with the libraries: what a shell starts, but for imports.

Its fork server is forked from it as it begins, for those that its sweep would start. See `processes.py`.
"""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection, Pipe
from typing import Any

from emoshare.command import forkserver
from emoshare.command.cli import main
from emoshare.core.interrupt import STOPPING


def command(wire: Connection) -> int:
    """Be the command that comes over the wire: its folder, arguments, and the files for standard output and error."""
    folder, arguments, out, err = wire.recv()
    os.chdir(folder)
    for stream, path in enumerate((os.devnull, out, err)):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, stream)
        os.close(handle)
    if forkserver.can_fork():
        server = Server()
        if server.status is not None:
            return server.status
        forkserver._servers.append(server)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    try:
        return main(arguments)
    finally:
        forkserver.stop()


class Server(forkserver.ForkServer):
    """A fork server that was forked.

    Attributes:
        status: None in the process that forked it; in one that it forks itself, its exit status.
    """

    def __init__(self) -> None:
        self.wire, theirs = Pipe()
        self.ready, self.status = False, None
        parent, pid = os.getpid(), os.fork()
        if pid:
            theirs.close()
            self.process = Child(pid)
            return
        os.setpgid(0, 0)
        self.wire.close()
        signal.signal(signal.SIGINT, lambda *_: os._exit(1))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        forkserver._end_with(parent)
        server, self.status = os.getpid(), forkserver.serve(theirs)
        if os.getpid() == server:
            os._exit(0)

    status: int | None
    process: Any


class Child:
    """A forked process, as `subprocess.Popen` shows one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        os.waitpid(self.pid, 0)
