"""Classes and functions from outside the package, by a dotted name, with their options and the source's hash."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from emoshare.core.errors import EmoshareError, OutsideError
from emoshare.core.text import near

FOLDERS: set[str] = set()  # of the modules that were imported: their frames are shown when they crash
_ALLOWED: set[str] = set()  # modules that may be imported in this process where a folder names them
OURS = ("emoshare.runs.trackio_logger", "pytorch_lightning.loggers.MLFlowLogger")  # always may: conf/logger/ names them


def locate(target: str) -> Any:
    """Import the class or function of a dotted name; the working directory counts as on the Python path.

    Raises:
        EmoshareError: there is no such module, or nothing of that name in it.
        OutsideError: the module raises when it is imported.
    """
    module_name, _, name = str(target).rpartition(".")
    if not module_name:
        raise EmoshareError(f"{target}: must be a dotted name, as my_module.MyClass")
    if str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not error.name or not (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise crash(error, target) from error
        raise EmoshareError(
            f"{target}: no module {error.name} on the Python path; add its folder to PYTHONPATH"
        ) from None
    except Exception as error:
        spec = importlib.util.find_spec(module_name.partition(".")[0])
        FOLDERS.add(str(Path(str(spec and spec.origin)).resolve().parent))
        raise crash(error, target) from error
    note_folder(module)
    code = getattr(module, name, None)
    if not callable(code):
        names = [other for other, value in vars(module).items() if callable(value) and not other.startswith("_")]
        what = "nothing of that name" if code is None else "no class or function"
        raise EmoshareError(f"{target}: {what} in {getattr(module, '__file__', module_name)}{near(name, names)}")
    return code


def note_folder(module: Any) -> None:
    """Remember where a module lies, unless it belongs to an installed library."""
    if not is_installed(module):
        FOLDERS.add(str(Path(module.__file__).resolve().parent))


def allow(modules: str | Iterable[str]) -> None:
    """Let modules and what is in them be imported in this process, whichever folder names them."""
    _ALLOWED.update([modules] if isinstance(modules, str) else modules)


def is_allowed(target: str) -> bool:
    """Whether a dotted name lies in a module that may be imported."""
    return any(target == name or target.startswith(f"{name}.") for name in (*OURS, *_ALLOWED))


def refusal(target: str) -> str:
    """The message for code that a folder names and that is not imported, with the way to allow it."""
    name = target.partition(".")[0]
    return (
        f"{target}: is code from outside emoshare, which is not run unless you allow it; if you trust it add "
        f'--allow {name} (in Python: allow=["{name}"])'
    )


def extends(code: Any, *bases: str) -> bool:
    """Whether an object is a class below one of some dotted names; those are not imported for it."""
    if not isinstance(code, type):
        return False
    return any(f"{cls.__module__}.{cls.__qualname__}" in bases for cls in code.__mro__)


def complete(
    code: Any, options: Mapping[str, Any], given: int, prefix: str, target: str, named_by_us: Collection[str] = ()
) -> dict[str, Any]:
    """Options by name, with the defaults of the others, as far as YAML can hold them.

    Args:
        code: the class or function.
        options: those that a config gives.
        given: how many positional arguments emoshare gives it first.
        prefix: of the keys in errors, as `head.`.
        target: its dotted name.
        named_by_us: arguments that emoshare gives it by name, unless `options` do.

    Raises:
        EmoshareError: an option that it does not take, or lacks; a line for each.
    """
    try:
        parameters = list(inspect.signature(code).parameters.values())
    except (TypeError, ValueError):  # of a class in C
        return dict(options)
    named = {p.name: p for p in parameters[given:] if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    every = any(p.kind == p.VAR_KEYWORD for p in parameters)
    problems = [
        f"{prefix}{name}: {target} has no such option{near(name, list(named)) or has(named)}"
        for name in options
        if name not in named and not every
    ]
    known = {*options, *named_by_us}
    missing = [name for name, p in named.items() if p.default is p.empty and name not in known]
    problems += [f"{prefix}{name} is not set: {target} takes it and has no default" for name in missing]
    if problems:
        raise EmoshareError("\n".join(problems))
    plain = (str, int, float, bool, list, dict, type(None))
    defaults = {
        name: list(p.default) if isinstance(p.default, tuple) else p.default
        for name, p in named.items()
        if isinstance(p.default, (*plain, tuple)) and name not in named_by_us
    }
    return defaults | dict(options)


def has(named: Mapping[str, Any]) -> str:
    return f"; it has {', '.join(named)}" if named else "; it has none"


def is_library(code: Any) -> bool:
    """Whether a class or function belongs to an installed library, whose name and options identify it."""
    return is_installed(sys.modules.get(getattr(code, "__module__", "") or ""))


def is_installed(module: Any) -> bool:
    """Whether a module is one of an installed library, or has no file."""
    file = str(getattr(module, "__file__", None) or "")
    return not file or any(f"{os.sep}{name}{os.sep}" in file for name in ("site-packages", "dist-packages"))


def source_hash(code: Any) -> str:
    """16 hex characters of the hash of the source of the module that defines a class or function."""
    module: Any = sys.modules[code.__module__]
    return hashlib.sha256(Path(module.__file__).read_bytes()).hexdigest()[:16]


def crash(error: BaseException, target: str = "") -> OutsideError:
    """An error in code from outside, with the frames of that code."""
    text = f"{type(error).__name__}: {error}".strip()
    lines = [f"{target}: {text}" if target else text, *frames(error.__traceback__)]
    return OutsideError("\n".join(lines))


def frames(trace: TracebackType | None) -> list[str]:
    """The frames of code from outside in a traceback, as Python prints them."""
    own = f"{Path(__file__).resolve().parents[1]}{os.sep}"
    lines = []
    for frame in traceback.extract_tb(trace):
        file = str(Path(frame.filename).resolve())
        if any(file.startswith(f"{folder}{os.sep}") for folder in FOLDERS) and not file.startswith(own):
            lines += [f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}', f"    {frame.line}"]
    return lines


def outside_crash(error: BaseException) -> OutsideError | None:
    """The error with the frames of code from outside alone; None where it went through none."""
    if isinstance(error, EmoshareError) or not FOLDERS or not frames(error.__traceback__):
        return None
    return crash(error)
