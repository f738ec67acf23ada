"""Temporary files and folders: their names, and the removal of those that a killed process left behind.

A temporary name is random: `.<name>-<16 hex>.part<suffix>`. A leftover is deleted by the first write of a later process
in its folder, once nothing in it has changed for an hour.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

ABANDONED = 3600  # seconds without a change, after which no living process is taken to own a temporary file
PART = re.compile(r"\..+-[0-9a-f]{16}\.part(\.\w+)?")
AWAY = re.compile(r"\.(?P<name>.+)-[0-9a-f]{16}\.old")  # a folder that was being replaced: see `files.swap`


def temporary_name(path: Path) -> Path:
    """A name beside `path`, of its suffix, that nobody else uses or can guess."""
    return path.with_name(f".{beginning(path.stem)}-{secrets.token_hex(8)}.part{path.suffix}")


def beginning(name: str) -> str:
    """The first 200 bytes of a file's name, so that a temporary name has room for it: a name has 255 bytes at most."""
    return os.fsencode(name)[:200].decode(errors="ignore") or "x"


HELD: set[str] = set()  # temporary folders of this process


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """A new empty folder beside `path`, deleted when the block ends, unless it has another name by then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep_once(path.parent.absolute())
    folder = path.with_name(f".{beginning(path.name)}-{secrets.token_hex(8)}.part")
    folder.mkdir()
    handle, place = os.open(folder, os.O_RDONLY), os.path.realpath(folder)
    HELD.add(place)
    try:
        with suppress(OSError):  # some network file systems lock no folders: there, its age alone protects it
            fcntl.flock(handle, fcntl.LOCK_SH)
        yield folder
    finally:
        HELD.discard(place)
        os.close(handle)
        delete(folder)


def sweep_tree(folder: Path, alone: bool = False) -> None:
    """`sweep_leftovers` for a folder and all below it."""
    for inside, _, _ in os.walk(folder):
        sweep_leftovers(Path(inside), alone)


def sweep_leftovers(folder: Path, alone: bool = False) -> None:
    """Delete what killed processes left in a folder, and put back a folder that one of them was about to replace.

    A leftover is taken for abandoned when nothing in it has changed for an hour and no process holds its lock, or when
    the caller is `alone` in the folder: no other process may write there.
    What cannot be deleted stays, without a word.
    """
    with suppress(OSError):
        for path in list(folder.glob(".*")):
            if match := AWAY.fullmatch(path.name):
                repair_folder(folder / match["name"])
            with suppress(OSError):
                if is_leftover(path) and (alone or is_abandoned(path)):
                    delete(path)


sweep_once = cache(sweep_leftovers)  # at the first write of this process in each folder


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Be the only one that renames in a folder; where the file system locks no folders, one of several."""
    if os.path.realpath(folder) in HELD:  # nobody else writes there, and this process would wait for its own lock
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def repair_folder(path: Path) -> None:
    """Put the old folder back where a kill between two renames left none at `path`. See `files.swap`."""
    if path.exists() or not path.parent.exists():
        return
    candidates = [
        old for old in path.parent.glob(".*.old") if (m := AWAY.fullmatch(old.name)) and m["name"] == path.name
    ]
    with suppress(OSError), lock_folder(path.parent):  # another process may have done it
        for old in sorted(candidates, key=lambda old: old.stat().st_mtime)[-1:]:
            os.rename(old, path)


def is_leftover(path: Path) -> bool:
    """Whether a path is of something temporary."""
    return bool(PART.fullmatch(path.name) or AWAY.fullmatch(path.name))


def is_abandoned(path: Path) -> bool:
    """Whether nothing in a file or folder has changed for an hour, and no process holds its lock."""
    is_folder = path.is_dir() and not path.is_symlink()
    newest = path.lstat().st_mtime
    for folder, _, names in os.walk(path) if is_folder else ():
        newest = max([newest, *(os.lstat(f"{folder}/{name}").st_mtime for name in (".", *names))])
    if time.time() - newest < ABANDONED:
        return False
    if not is_folder:
        return True
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # no locks in this file system
        pass
    finally:
        os.close(handle)
    return True


def delete(path: Path) -> None:
    """Delete a file, a link (never what it names) or a folder, as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
