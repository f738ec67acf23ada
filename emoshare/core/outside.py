"""Code of the user's own that a config names, as `my_kinds.kendall`: found on the Python path, known by its source.

A module is imported only where the user asks for it: in the config of a command, or by `--allow` for what a run's or an
exported folder names.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from emoshare.core.errors import EmoshareError, brief
from emoshare.core.hashing import digest

PACKAGE = Path(__file__).parents[1]
_allowed: set[str] = set()  # modules of this process


def allow(names: Iterable[str]) -> None:
    """Let modules be imported in this process. names: of modules (`my_kinds`), or dotted ones of what is in them."""
    _allowed.update(name.partition(".")[0] for name in names)


def is_allowed(name: str) -> bool:
    """Whether the module of a dotted name may be imported."""
    return name.partition(".")[0] in _allowed


def load_object(name: str) -> Any:
    """What a dotted name stands for, as `my_kinds.kendall`.

    Raises:
        EmoshareError: its module is not allowed, not there or fails, or has nothing of that name.
    """
    module, _, attribute = name.rpartition(".")
    if not is_allowed(name):
        raise EmoshareError(f"{name}: code from outside; --allow {name.partition('.')[0]} imports it")
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            raise EmoshareError(
                f"{name}: no module {error.name} on the Python path; set PYTHONPATH to the folder of {error.name}.py"
            ) from None
        raise EmoshareError(f"{name}: {failure(error)}") from None
    except Exception as error:
        raise EmoshareError(f"{name}: {failure(error)}") from None
    if not hasattr(loaded, attribute):
        raise EmoshareError(f"{name}: {loaded.__file__ or module} has no {attribute}")
    return getattr(loaded, attribute)


@functools.cache
def source_hash(name: str) -> str:
    """A hash of the source of a dotted name's module; empty where it is not at hand. Nothing of it is run."""
    module = name.rpartition(".")[0]
    try:
        spec = importlib.util.find_spec(module) if "." not in module or is_allowed(name) else None
        return digest(Path(spec.origin).read_text(encoding="utf-8")) if spec and spec.origin else ""
    except (ImportError, ValueError, OSError):
        return ""


def failure(error: BaseException) -> str:
    """An exception in outside code: what it says and where, in one line."""
    frames = user_frames(error)
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{brief(error) if isinstance(error, Exception) else error}{where}"


def frames_text(error: BaseException) -> str:
    """The frames of an exception that are the user's own, as a traceback shows them; empty where there are none."""
    return "".join(traceback.format_list(user_frames(error))).rstrip()


def user_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """The frames of an exception outside this package and installed ones."""
    folders = {str(PACKAGE), sys.prefix, sys.base_prefix, str(Path(sys.base_prefix).resolve())}
    installed = (*(f"{folder}/" for folder in folders), "<frozen")
    return [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(installed)]
