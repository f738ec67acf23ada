"""Locks of a frame store: one process computes it, and nothing that is used is pruned.

Beside the store's folder, `<hash>.lock` is held by the one process that computes and `<hash>.use` is shared by those
that read or compute. The system frees both when a process dies. In a cache that can only be read there are no locks:
nobody can prune it from here.
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from emoshare.core.errors import read_only

log = logging.getLogger(__name__)

USE = "a+"  # how .use files are opened: NFS shares a lock only on what can be read


def share(folder: Path) -> IO[str] | None:
    """A lock that keeps the store from being pruned until the file is closed; None where nothing can be written."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        use = open(f"{folder}.use", USE)  # noqa: SIM115 (the lock outlives this function)
    except OSError as error:
        if read_only(error):
            return None
        raise
    fcntl.flock(use, fcntl.LOCK_SH)
    return use


@contextmanager
def exclusive(folder: Path) -> Iterator[bool]:
    """True where nobody reads or computes the store, and nobody can begin to; or where nothing can be written."""
    try:
        use = open(f"{folder}.use", USE)  # noqa: SIM115
    except OSError as error:
        if not read_only(error):
            raise
        yield True
        return
    with use:
        try:
            fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def computing(folder: Path) -> Iterator[None]:
    """Be the one process that computes the store: waits for another that does, takes over where it died."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{folder}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("%s: another process extracts these frames; waiting for it", folder)
        lock.acquire(poll_interval=0.2)
    try:
        use = share(folder)
        try:
            yield
        finally:
            if use is not None:
                use.close()
    finally:
        lock.release()
