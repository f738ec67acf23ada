"""JSON files and the frozen dataclasses that are written to them: read back with every value of its field's type."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from typing import Any, TypeVar, cast

from emoshare.core.schema import hints

Record = TypeVar("Record")
REST = {"rest": True}  # metadata of the field that holds the keys which have no field: they lie beside the others
WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def to_json(record: Any) -> Any:
    """Plain values of a dataclass, or of a container of dataclasses."""
    if dataclasses.is_dataclass(record):
        values = {field.name: to_json(getattr(record, field.name)) for field in dataclasses.fields(record)}
        return values | (values.pop(rest) if (rest := rest_of(type(record))) else {})
    if isinstance(record, dict):
        return {key: to_json(value) for key, value in record.items()}
    return [to_json(value) for value in record] if isinstance(record, list | tuple) else record


def from_json(cls: type[Record], values: Any, at: str, problems: list[str]) -> Record:
    """Build a dataclass from plain values; keys that it has no field for are left out.

    Args:
        cls: the dataclass; a field without a default must be there.
        values: as `to_json` gives them.
        at: begins the names in problems, as `results.`.
        problems: gets a line for each value that is missing or of another type; what is returned is of no use then.
    """
    read: dict[str, Any] = {}
    if not isinstance(values, dict):
        problems.append(f"{at.rstrip('.')}: must be keys and values")
        return cast(Record, None)
    rest, known = rest_of(cls), hints(cls)
    for field in dataclasses.fields(cast(Any, cls)):
        if field.name in values and field.name != rest:
            read[field.name] = _value(known[field.name], values[field.name], f"{at}{field.name}", problems)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            problems.append(f"{at}{field.name}: is missing")
    if rest:
        read[rest] = {key: value for key, value in values.items() if key not in known}
    return cast(Record, None) if problems else cls(**read)


def record_of(cls: type[Record], values: dict[str, Any]) -> Record:
    """Build a dataclass from values of our own, which have no mistakes."""
    made = from_json(cls, values, "", problems := list[str]())
    assert not problems, problems
    return made


def rest_of(cls: Any) -> str | None:
    """The field of a dataclass that holds keys without a field."""
    return next((field.name for field in dataclasses.fields(cls) if "rest" in field.metadata), None)


def _value(kind: Any, value: Any, at: str, problems: list[str]) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _value(arguments[0], value, at, problems)
    if dataclasses.is_dataclass(kind):
        return from_json(cast(type, kind), value, f"{at}.", problems)
    if origin is dict:
        if isinstance(value, dict):
            return {key: _value(arguments[1], item, f"{at}.{key}", problems) for key, item in value.items()}
        problems.append(f"{at}: must be keys and values")
    elif origin in (list, tuple):
        if isinstance(value, list | tuple):
            return origin(_value(arguments[0], item, f"{at}.{place}", problems) for place, item in enumerate(value))
        problems.append(f"{at}: must be a list")
    elif isinstance(value, bool) != (kind is bool) or not isinstance(value, int | float if kind is float else kind):
        problems.append(f"{at}: must be {WORDS[kind]}")
    elif kind is float and not math.isfinite(value):
        problems.append(f"{at}: must be a finite number")
    return value
