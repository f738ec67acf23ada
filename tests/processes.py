"""Processes that tests started: whether they have ended."""

from __future__ import annotations

import psutil


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
