"""Locks of a frame store. The system frees each of them when its process dies.

`flock` on files that are open for reading and writing, which NFS asks for. In a cache that can only be read there are
no locks: nobody can prune it from here.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from emoshare.core.files import where_writable


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Be the only process that changes what a store lists: for the moment of a look or an entry, not of a computation.

    The lock lies beside the folder, which may be deleted and made again under it.
    """
    with ExitStack() as stack:
        with where_writable():
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(Path(f"{folder}.lock").open("a+", encoding="utf-8"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def share(path: Path) -> IO[bytes] | None:
    """A lock on a file that others may share, until it is closed; None where it can only be read, or is not there."""
    with where_writable(), suppress(FileNotFoundError):
        file = path.open("r+b")
        fcntl.flock(file, fcntl.LOCK_SH)
        return file
    return None


def is_free(path: str | Path) -> bool:
    """Whether no process holds a lock on a file; True where it can only be read, or is gone."""
    with where_writable(), suppress(FileNotFoundError), Path(path).open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
