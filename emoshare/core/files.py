"""Files and folders that are written as a whole or not at all, and JSON whose errors are one line.

Everything is written under a temporary name in the same folder and then renamed.
"""

from __future__ import annotations

import ctypes
import errno
import json
import math
import os
import random
import secrets
import stat
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path, PureWindowsPath
from typing import Any

from emoshare.core.errors import EmoshareError, is_read_only, limit_errno
from emoshare.core.leftovers import delete, lock_folder, repair_folder, sweep_once, temporary_folder, temporary_name

RENAME_EXCHANGE, AT_FDCWD = 2, -100  # linux/fs.h, fcntl.h
PATIENCE = 60  # seconds of trying to replace a folder that other processes replace, too


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new empty file beside `path`, which takes its place when the block ends, and vanishes when the block fails.

    The block writes to the file by its name, in whatever way: torch.save(state, temporary) needs no second copy in
    memory. A loss of power, too, leaves `path` as it was or as it is to be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep_once(path.parent.absolute())
    temporary = temporary_name(path)
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))  # EXCL follows no planted link
        try:
            yield temporary
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except Exception as error:
        raise with_path(error, path, temporary)  # noqa: B904 (it is the error itself, or has it as its cause)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A new empty folder beside `path`, which takes its place when the block ends, and vanishes when the block fails.

    At every moment `path` is the old folder as a whole or the new one. Where the file system cannot exchange two
    names, a kill between two renames can leave neither: the next `replacing_folder`, `repair_folder` or
    `sweep_leftovers` puts the old one back. A link in place of `path` stays, and the folder that it names is replaced.
    """
    target = Path(os.path.realpath(path))
    repair_folder(target)
    with temporary_folder(target) as folder:
        try:
            yield folder
            sync_tree(folder)
            swap(folder, target)
            sync(target.parent)
        except Exception as error:
            raise with_path(error, path, folder)  # noqa: B904 (as above)


def check_replaceable(path: Path, known: Collection[str], what: str) -> None:
    """Raise EmoshareError unless a folder holds nothing but the files of an earlier `what`, so that it may be replaced.

    known: all names that such a folder can hold; hidden files do not count. what: `a report`.
    """
    if not os.path.lexists(path) or (path.is_dir() and not _strangers(path, known)):
        return
    strange = f", as {_strangers(path, known)[0]}" if path.is_dir() else ""
    raise EmoshareError(f"{path}: holds something that is not {what}{strange}; name another folder with --out")


def check_nothing_else(folder: Path, known: Iterable[str], what: str) -> None:
    """Raise EmoshareError where a folder that is to be replaced by a new `what` holds more than patterns in `known`.

    The work of git counts, too; other hidden files do not.
    """
    names = [path.name for path in folder.iterdir() if path.name == ".git" or not path.name.startswith(".")]
    if other := sorted(name for name in names if not any(fnmatch(name, pattern) for pattern in known)):
        raise EmoshareError(
            f"{folder}: holds more than {what}, as {other[0]}, which would go with it; move that away, or name another "
            "folder"
        )


def _strangers(folder: Path, known: Collection[str]) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in known and not path.name.startswith("."))


def with_path(error: Exception, path: Path, temporary: Path | None = None) -> Exception:
    """The error itself, or that of a full disk which it tells of, with the path that was to be written.

    Writing to an open file names none, and libraries have exceptions of their own for it.
    """
    if isinstance(error, EmoshareError):
        return error
    code = error.errno if isinstance(error, OSError) and error.errno else limit_errno(error)
    if code is None:
        return error
    place = getattr(error, "filename", None)
    if place is None or (temporary is not None and str(place).startswith(str(temporary))):
        place = str(path)
    full = OSError(code, os.strerror(code), place)
    full.__cause__ = error
    return full


def reserve(path: Path) -> None:
    """Take the space of a file that was made by its size alone: writing to its pages on a full disk is a bus error."""
    if hasattr(os, "posix_fallocate"):
        try:
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        except OSError as error:
            raise with_path(error, path) from None


def swap(new: Path, path: Path) -> None:
    """Put the folder `new` at `path`; a folder that was at `path` is at `new` then."""
    end = time.monotonic() + PATIENCE
    while True:
        away = path.with_name(f".{path.name}-{secrets.token_hex(8)}.old")
        try:
            with lock_folder(path.parent):
                if not path.exists():
                    os.rename(new, path)
                elif not exchange(new, path):
                    os.rename(path, away)
                    os.rename(new, path)
                    with suppress(FileNotFoundError):  # put back by another process, see below
                        os.rename(away, new)
                return
        except OSError as error:  # where nothing can be locked, another process may have come between: look again
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT) or not new.exists():
                raise
            if time.monotonic() > end:
                raise OSError(errno.EBUSY, "other processes keep replacing this folder", str(path)) from error
            repair_folder(path)
            delete(away)
            time.sleep(random.uniform(0, 0.1))


def exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system or the file system cannot. OSError for other reasons."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:  # no Linux, or an old C library
        return False
    if rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(other))


@contextmanager
def where_writable() -> Iterator[None]:
    """Leave the block at the first step that is refused because the place can only be read."""
    try:
        yield
    except OSError as error:
        if not is_read_only(error):
            raise


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are safe on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """`sync` for all files and folders below one."""
    for inside, _, names in os.walk(folder):
        for name in names:
            path = Path(inside, name)
            if path.is_file() and not path.is_symlink():
                sync(path)
        sync(Path(inside))


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def finite(value: Any) -> Any:
    """The same value with null for what JSON cannot hold (NaN and infinities)."""
    if isinstance(value, dict):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON, whole or not at all."""
    write_text(path, json.dumps(finite(value), indent=1, allow_nan=False) + "\n")


def check_regular(path: str | Path) -> None:
    """ValueError for a pipe or a device: opening a pipe waits for its writer, and a device may never end.

    To be called before opening. `open` refuses a folder itself.
    """
    mode = Path(path).stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise ValueError("not a regular file (a pipe or a device)")


def read_bytes(path: Path) -> bytes:
    """The content of a regular file. OSError; ValueError for a pipe or a device."""
    check_regular(path)
    return path.read_bytes()


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """A JSON object; EmoshareError names the file, what is wrong with it, and the remedy."""
    try:
        content = json.loads(read_bytes(path).decode("utf-8"), parse_constant=refuse)
        if not isinstance(content, dict):
            raise ValueError("not a JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise EmoshareError(f"{path}: not readable ({error}); {remedy}") from error
    return content


def refuse(constant: str) -> None:
    """ValueError for NaN and infinities, which Python reads and JSON has not."""
    raise ValueError(f"{constant} is no JSON")


def without_paths(value: Any) -> Any:
    """The same with the last name alone of every absolute path."""
    if isinstance(value, dict):
        return {key: without_paths(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(inner) for inner in value]
    if isinstance(value, str) and (value.startswith(("/", "~", "..")) or PureWindowsPath(value).is_absolute()):
        return PureWindowsPath(value).name or value
    return value
