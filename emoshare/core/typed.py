"""Plain nested values, as a YAML or JSON file or Hydra holds them, to the typed dataclasses of a config."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, TypeVar, cast

from emoshare.core.errors import EmoshareError
from emoshare.core.schema import MISSING, hints, shown
from emoshare.core.usual import suggestion

WORDS = {
    float: "a number", int: "a whole number", bool: "true or false", str: "a word", list: "a list, as in [a, b]",
}  # fmt: skip
Section = TypeVar("Section")
SWITCH = {  # the spellings of YAML 1.1, and 0 and 1
    "true": True, "yes": True, "on": True, "y": True, "1": True,
    "false": False, "no": False, "off": False, "n": False, "0": False,
}  # fmt: skip


def fill(cls: type[Section], values: Any, where: str) -> Section:
    """An instance of a dataclass, nested ones included, with every value converted to its field's type.

    A key that is absent keeps its default.

    Args:
        cls: a dataclass whose fields all have defaults.
        values: nested dicts by field name.
        where: what the values were read from; begins the error message.

    Raises:
        EmoshareError: unknown keys and values of another type; all of them are named.
    """
    section, problems = fill_and_collect(cls, values)
    if problems:
        raise EmoshareError("\n".join(f"{where}: {problem}" for problem in problems))
    return section


def fill_and_collect(cls: type[Section], values: Any) -> tuple[Section, list[str]]:
    """As `fill`, but the mistakes are returned, a line for each; a key with a mistake keeps its default."""
    problems: list[str] = []
    return _section(cls, values, "", problems, cls), problems


def _section(cls: type[Section], values: Any, prefix: str, problems: list[str], root: type) -> Section:
    known = hints(cls)
    if not isinstance(values, dict):
        problems.append(f"{prefix.rstrip('.') or 'config'}={shown(values)}: must be keys and values")
        return cls()
    for name in sorted(map(str, values.keys() - known.keys())):
        key = prefix + name
        problems.append(f"{key}: no such key{suggestion(key, name, list(known), root)}")
    filled: dict[str, Any] = {}
    for name, kind in known.items():
        if name not in values:
            continue
        if dataclasses.is_dataclass(kind):
            filled[name] = _section(cast(type, kind), values[name], f"{prefix}{name}.", problems, root)
            continue
        try:
            filled[name] = _convert(kind, values[name])
        except (TypeError, ValueError, OverflowError):
            problems.append(f"{prefix}{name}={shown(values[name])}: must be {type_in_words(kind)}")
    return cls(**filled)


def _convert(kind: Any, value: Any) -> Any:
    """The value as the type; TypeError or ValueError where it is not one. A mark of a missing value (`???`) stays."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any or value == MISSING:
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(kind for kind in arguments if kind is not type(None)), value)
    if origin is list:
        return [_convert(arguments[0], item) for item in _checked(list | tuple, value)]
    if origin is dict:
        return dict(_checked(dict, value))
    if kind is bool:
        return SWITCH[text] if (text := str(value).lower()) in SWITCH else _checked(bool, value)
    if isinstance(value, bool):
        return shown(value) if kind is str else _checked(bool, None)
    return kind(_checked({float: int | float | str, int: int | str, str: int | float | str}[kind], value))


def _checked(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError
    return value


def type_in_words(kind: Any) -> str:
    """What a key of a type takes, in plain words."""
    if isinstance(kind, types.UnionType):  # as `float | None`
        return f"{type_in_words(typing.get_args(kind)[0])} or null"
    return WORDS.get(typing.get_origin(kind) or kind, "keys and values, as in {a: 1}")
