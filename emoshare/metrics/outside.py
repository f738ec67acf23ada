"""Metrics of the user's own, as `my_kinds.kendall`: which may be imported here, and their source.

A module is imported only where the user asks for it: in the config of a command, or by `--allow` for a folder's.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from emoshare.core.errors import EmoshareError, brief
from emoshare.core.hashing import digest
from emoshare.core.outside import allow, frames, is_allowed, locate, refusal
from emoshare.metrics.library import is_of_library


def allow_named(names: Iterable[str]) -> None:
    """Let the modules of metrics be imported that a command of the user's names; ours are none of a module."""
    allow(name.rpartition(".")[0] for name in names if "." in name and not is_of_library(name))


def may_import(name: str) -> bool:
    """Whether the module of a dotted name may be imported: the user allows it, or it is one of torchmetrics' own."""
    return "." in name and (is_of_library(name) or is_allowed(name))


def load_object(name: str) -> Any:
    """Import the object of a dotted name. EmoshareError where it is not allowed, or there is none."""
    if not may_import(name):
        raise EmoshareError(refusal(name))
    return locate(name)


@functools.cache
def source_hash(name: str) -> str:
    """A hash of the source of a dotted name's module; empty where it is not at hand. Nothing of it is run.

    Empty for torchmetrics, too, whose names say enough.
    """
    module = name.rpartition(".")[0]
    if is_of_library(name) or ("." in module and not is_allowed(name)):
        return ""
    try:
        spec = importlib.util.find_spec(module)
        return digest(Path(spec.origin).read_text(encoding="utf-8")) if spec and spec.origin else ""
    except (ImportError, ValueError, OSError):
        return ""


def failure(error: BaseException) -> str:
    """An exception in outside code: what it says and where, in one line."""
    lines = frames_text(error).splitlines()
    where = f" ({lines[-2].strip()})" if len(lines) > 1 else ""
    return f"{brief(error) if isinstance(error, Exception) else error}{where}"


def frames_text(error: BaseException) -> str:
    """The frames of an exception that are the user's own, as a traceback shows them; empty where there are none."""
    return "\n".join(frames(error.__traceback__))
