"""Plain nested values, as a YAML or JSON file holds them, to the typed dataclasses of a config."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Any, TypeVar

from emoshare.core.errors import EmoshareError
from emoshare.core.text import near

Section = TypeVar("Section")


def fill(cls: type[Section], values: Any, where: str) -> Section:
    """An instance of a dataclass, nested ones included, with every value converted to its field's type.

    A key that is absent keeps its default, so that the config of an older version can be read.

    Args:
        cls: a dataclass whose fields all have defaults.
        values: nested dicts by field name.
        where: what the values were read from; begins the error message.

    Raises:
        EmoshareError: unknown keys and values of another type; all of them are named.
    """
    problems: list[str] = []
    section = _section(cls, values, "", problems)
    if problems:
        raise EmoshareError("\n".join(f"{where}: {problem}" for problem in problems))
    return section


def _section(cls: type[Section], values: Any, prefix: str, problems: list[str]) -> Section:
    hints = _hints(cls)  # type: ignore[arg-type]
    if not isinstance(values, dict):
        problems.append(f"{prefix.rstrip('.') or 'the whole'}: must be keys and values, not {values!r}")
        return cls()
    for name in values.keys() - hints.keys():
        problems.append(f"{prefix}{name}: no such key{near(str(name), list(hints))}")
    filled = {}
    for name in hints.keys() & values.keys():
        if dataclasses.is_dataclass(hints[name]):
            filled[name] = _section(hints[name], values[name], f"{prefix}{name}.", problems)
            continue
        try:
            filled[name] = _convert(hints[name], values[name])
        except (TypeError, ValueError):
            problems.append(f"{prefix}{name}: {values[name]!r} is not {_words(hints[name])}")
    return cls(**filled)


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _convert(kind: Any, value: Any) -> Any:
    """The value as the type; TypeError or ValueError where it is not one. A mark of a missing value (`???`) stays."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any or value == "???":
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(kind for kind in arguments if kind is not type(None)), value)
    if origin is list:
        return [_convert(arguments[0], item) for item in _checked(list | tuple, value)]
    if origin is dict:
        return dict(_checked(dict, value))
    if kind is float:  # YAML reads 1e-3, without a point, as a word
        return float(_checked(int | float | str, value))
    return _checked(kind, value)


def _checked(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError
    return value


def _words(kind: Any) -> str:
    """A type in plain words, for a message."""
    if isinstance(kind, types.UnionType):  # as `float | None`
        return _words(typing.get_args(kind)[0])
    names = {float: "a number", int: "a whole number", bool: "true or false", str: "a word"}
    return names.get(kind) or ("a list" if typing.get_origin(kind) is list else "keys and values")
