"""Processes that tests started: whether they have ended."""

from __future__ import annotations

import psutil


def alive(process: psutil.Process) -> bool:
    """Whether a process still runs. One that has ended and whose parent has not asked for its status does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # a zombie, or gone in between
        return False
