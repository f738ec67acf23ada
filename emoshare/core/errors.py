"""The exception that a user reads, its kinds, and tests for errors of memory, disk and permissions."""

import errno
import os
from collections.abc import Callable
from typing import Any

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a disk, a quota or a file limit that is reached
TOO_MANY_OPEN = (errno.EMFILE, errno.ENFILE)


class EmoshareError(Exception):
    """Bad input: a message of one line (or one report) that names the file, key or value and the remedy.

    The command line prints it without a traceback and exits with status 1; a notebook shows it alone.
    """

    def _render_traceback_(self) -> list[str]:
        """The lines that IPython shows in place of a traceback."""
        return [f"emoshare: {self}"]


class NotAtHandError(EmoshareError):
    """A checkpoint or package that this machine lacks; the message holds the command that fetches it."""


class OutsideError(EmoshareError):
    """Code from outside the package has raised; the message has its own frames, a line each."""


def paragraphs(error: EmoshareError) -> list[str]:
    """The problems that an error tells of; lines that are indented belong to the one above them."""
    texts: list[str] = []
    for line in str(error).splitlines():
        if line.startswith(" ") and texts:
            texts[-1] += f"\n{line}"
        else:
            texts.append(line)
    return texts


def together(*steps: Callable[[], Any]) -> list[Any]:
    """Take all steps, and return their values. EmoshareError with the lines of all that fail: they show at once."""
    values, problems = [], []
    for step in steps:
        try:
            values.append(step())
        except EmoshareError as error:
            problems.append(str(error))
    if problems:
        raise EmoshareError("\n".join(dict.fromkeys(problems)))
    return values


def out_of_memory(error: BaseException) -> bool:
    """Whether the machine or a GPU ran out of memory, whichever library says so."""
    words = ("out of memory", "not enough memory", "allocate memory", "unable to allocate", "bad_alloc", "bad alloc")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


def limit_errno(error: BaseException | None) -> int | None:
    """The number of the system's error where a disk, a quota or a limit of files is behind an error; else None.

    Libraries tell of it in exceptions of their own: as the cause, or in words alone.
    """
    first, seen = error, set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in (*FULL, *TOO_MANY_OPEN):
            return error.errno
        error = error.__cause__ or error.__context__
    text = str(first)
    return next((code for code in (*FULL, *TOO_MANY_OPEN) if os.strerror(code) in text), None)


class NoRunError(EmoshareError):
    """A file that is none of a run's, as that of an evaluation: a search for runs passes it."""


class UnusableClips(ValueError):  # noqa: N818 (it carries the clips, and is named after them)
    """A backbone cannot work on some clips of a batch. The caller knows their files and names them.

    `rows`: their places in the batch. `reason`: what the backbone needs, or does with them.
    """

    def __init__(self, rows: list[int], reason: str) -> None:
        super().__init__(f"clips {', '.join(map(str, rows))} of the batch: {reason}")
        self.rows, self.reason = rows, reason


def is_read_only(error: OSError) -> bool:
    """Whether a file could not be written because its place can only be read."""
    return error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)


def brief(error: Exception) -> str:
    """An exception in one short line."""
    return f"{type(error).__name__}: {error}".strip().splitlines()[0][:200]
