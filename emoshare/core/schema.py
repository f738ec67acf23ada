"""Declarations of config keys: meaning, unit and allowed values, in one place beside the default.

The declaration is the `metadata` of a dataclass field, so that validation and the help pages read the same words.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

MISSING: Any = "???"  # a value that must be given
LONGEST_NAME = 100  # characters of a name that becomes part of a file name
MANY = 1_000_000  # more than any sensible count of epochs, units or clips
TABLES_OWN = ("data.columns", "data.splits", "data.classes", "data.rows")  # keys whose parts have any names


@dataclass(frozen=True)
class Key:
    """The declaration of one key; a key without one takes every value of its type that is not empty."""

    meaning: str = ""
    unit: str = ""
    at_least: float = -math.inf
    more_than: float = -math.inf
    at_most: float = math.inf
    less_than: float = math.inf
    choices: tuple[str, ...] = ()  # the only words that it takes
    words: tuple[str, ...] = ()  # words that a text key takes beside a number in its range
    whole: bool = False  # that number is a whole one
    file_name: bool = False  # becomes (part of) the name of a file or folder
    note: str = ""  # why the range is what it is
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)  # another key → its values with which it is read
    unless: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)  # … with which it is not
    neutral: bool | None = None  # whether it changes no number of any run; None: as its section
    within_cell: bool = False  # whether the runs of a cell differ in it

    def range_text(self) -> str:
        """The allowed values in words, as `0.025 to 3600 s`; empty where all of the type are."""
        if self.choices:
            return ", ".join(self.choices)
        words, span = ", ".join(self.words), self._span()
        note = f" ({self.note})" if self.note else ""
        return " or ".join(filter(None, (words, span))) + note

    def blocking_key(self, at: Callable[[str], Any]) -> str | None:
        """The other key whose value keeps this one from being read; None where nothing does.

        at: dotted key → its value.
        """
        others = (name for name, values in self.only.items() if at(name) not in values)
        return next(others, next((name for name, values in self.unless.items() if at(name) in values), None))

    def within(self, facts: Mapping[str, Any]) -> Key:
        """The key with `only` and `neutral` from the metadata of its section's field, which hold for all keys in it."""
        neutral = facts.get("neutral") if self.neutral is None else self.neutral
        return dataclasses.replace(self, only={**facts.get("only", {}), **self.only}, neutral=neutral)

    def _span(self) -> str:
        low, high = max(self.at_least, self.more_than), min(self.at_most, self.less_than)
        unit = f" {self.unit}" if self.unit else ""
        least = f"{'more than' if self.more_than > self.at_least else 'at least'} {number(low)}"
        most = f"{'less than' if self.less_than < self.at_most else 'at most'} {number(high)}"
        bounds = [text for text, bound in ((least, low), (most, high)) if math.isfinite(bound)]
        return " and ".join(bounds) + unit if bounds else ""

    def holds(self, value: float) -> bool:
        """Whether a number is finite and in the range."""
        inside = self.at_least <= value <= self.at_most and self.more_than < value < self.less_than
        return inside and (isinstance(value, int) or math.isfinite(value))


def key(default: Any, meaning: str, **declared: Any) -> Any:
    """A dataclass field with its declaration; `declared` are the other fields of `Key`."""
    metadata = {"key": Key(meaning, **declared)}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def section(cls: type, **facts: Any) -> Any:
    """A dataclass field that holds a dataclass of keys. facts: those about all of them, as for `Key.within`."""
    return field(default_factory=cls, metadata=facts)


@dataclass(frozen=True)
class Declared:
    """A key of a config class, by its dotted name."""

    name: str
    type: Any  # as annotated: float, str | None, list[str] …
    default: Any
    key: Key

    @property
    def optional(self) -> bool:
        return type(None) in typing.get_args(self.type)

    @property
    def kind(self) -> type:
        """The type without None and without what is in it: float, str or list."""
        options = typing.get_args(self.type) if isinstance(self.type, types.UnionType) else (self.type,)
        kind = next(option for option in options if option is not type(None))
        return typing.get_origin(kind) or kind


def hints(cls: Any) -> dict[str, Any]:
    """Name → type of the fields of a dataclass."""
    return _hints(cls)


def declared_keys(cls: Any) -> dict[str, Declared]:
    """Every key of a dataclass of dataclasses, in the order of its fields."""
    return _all_keys(cls)


def keys_of(config: Any) -> dict[str, Declared]:
    """Every key of a config, by its dotted name: those of the objects that its sections hold, whatever their class."""
    keys: dict[str, Declared] = {}
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if not dataclasses.is_dataclass(value):
            keys[f.name] = declared_keys(type(config))[f.name]
            continue
        own = value.own_keys() if hasattr(value, "own_keys") else declared_keys(type(value))
        for name, declared in own.items():
            keys[f"{f.name}.{name}"] = dataclasses.replace(
                declared, name=f"{f.name}.{name}", key=declared.key.within(f.metadata)
            )
        if "kind" in f.metadata:  # its name tells it from the others of the kind, whatever it is called in its class
            name = f"{f.name}.name"
            keys[name] = dataclasses.replace(keys[name], default=f.metadata["default"])
    return keys


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    types_of = typing.get_type_hints(cls)
    return {f.name: types_of[f.name] for f in dataclasses.fields(cls)}


@functools.cache
def _all_keys(cls: Any) -> dict[str, Declared]:
    return {declared.name: declared for declared in _walk(cls, "", {})}


def _walk(cls: Any, prefix: str, facts: Mapping[str, Any]) -> Iterator[Declared]:
    """facts: the metadata of the field that holds the class."""
    for f in dataclasses.fields(cls):
        kind, name = hints(cls)[f.name], f"{prefix}{f.name}"
        if "kind" in f.metadata:
            yield from f.metadata["keys"](name)
            continue
        if dataclasses.is_dataclass(kind):
            yield from _walk(kind, f"{name}.", {**facts, **f.metadata})
            continue
        default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        key = f.metadata.get("key", Key())
        yield Declared(name, kind, default, key.within(facts))


def value_at(config: Any, name: str) -> Any:
    """The value at a dotted key; the config itself at an empty one, as the section of a key at its top."""
    return functools.reduce(_value_in, filter(None, name.split(".")), config)


def _value_in(section: Any, name: str) -> Any:
    return section.value_of(name) if hasattr(section, "value_of") else getattr(section, name)


def number(value: float) -> str:
    """A bound as people write it: 4294967295, 0.025, 1e+09."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e12 else f"{value:g}"


def value_text(value: Any) -> str:
    """A value as it is written on the command line and in YAML: null, true, [a, b]; control characters escaped."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(map(value_text, value))}]"
    text = str(value).removesuffix(".0") if isinstance(value, float) else str(value)
    return text if text.isprintable() else repr(text)[1:-1]
