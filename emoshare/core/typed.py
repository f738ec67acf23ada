"""Plain nested values, as a YAML or JSON file or Hydra holds them, to the typed dataclasses of a config."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, TypeVar, cast

from emoshare.core.errors import EmoshareError, paragraphs
from emoshare.core.kinds import TARGET, Outside, class_of, sibling_keys
from emoshare.core.outside import is_allowed
from emoshare.core.schema import MISSING, hints, value_text
from emoshare.core.usual import suggestion

WORDS = {
    float: "a number", int: "a whole number", bool: "true or false", str: "a word", list: "a list, as in [a, b]",
    Any: "a word, or a list as in [a, b]",
}  # fmt: skip
Section = TypeVar("Section")
SWITCH = {  # the spellings of YAML 1.1, and 0 and 1
    "true": True, "yes": True, "on": True, "y": True, "1": True,
    "false": False, "no": False, "off": False, "n": False, "0": False,
}  # fmt: skip


def fill(cls: type[Section], values: Any, where: str, asked: bool = False) -> Section:
    """An instance of a dataclass, nested ones included, with every value converted to its field's type.

    A key that is absent keeps its default.

    Args:
        cls: a dataclass whose fields all have defaults.
        values: nested dicts by field name.
        where: what the values were read from; begins the error message.
        asked: they are of a command of the user's, so that code from outside that they name may be imported.

    Raises:
        EmoshareError: unknown keys and values of another type; all of them are named.
    """
    section, problems = fill_and_collect(cls, values, asked)
    if problems:
        raise EmoshareError("\n".join(f"{where}: {problem}" for problem in problems))
    return section


def fill_options(section: str, values: Any, where: str, asked: bool = False) -> Any:
    """The object of a kind, as a section of that name holds it. Raises EmoshareError as `fill`."""
    cls = class_of(section, values) if isinstance(values, dict) else object
    filler = _Filler(cls, asked, others := dict[str, Any]())
    made = filler.kind(section, values, "")
    problems = [
        *filler.problems,
        *(f"{name}={value_text(value)}: no such key of {made.name}" for name, value in others.items()),
    ]
    if problems:
        raise EmoshareError("\n".join(f"{where}: {problem}" for problem in problems))
    return made


def fill_and_collect(
    cls: type[Section], values: Any, asked: bool = False, others: dict[str, Any] | None = None
) -> tuple[Section, list[str]]:
    """Do as `fill`, but return the mistakes, a line for each; a key with a mistake keeps its default.

    others: gets the keys of a section that belong to another class than the one it holds, with values that are not
    their defaults.
    """
    filler = _Filler(cls, asked, {} if others is None else others)
    return filler.section(cls, values, ""), filler.problems


class _Filler:
    """Fills dataclasses, and collects the mistakes."""

    def __init__(self, root: type, asked: bool, others: dict[str, Any]) -> None:
        self.root, self.asked, self.others = root, asked, others
        self.problems: list[str] = []

    def kind(self, section: str, values: Any, prefix: str) -> Any:
        """The object of a kind."""
        if not isinstance(values, dict):
            self.problems.append(f"{section}={value_text(values)}: must be keys and values")
            return class_of(section, {})()
        try:
            cls = class_of(section, values)
        except EmoshareError as error:
            self.problems.append(str(error))
            return class_of(section, {})()
        given = {str(name): value for name, value in values.items()}
        if issubclass(cls, Outside):
            return self.outside(cls, given, prefix)
        for name in [name for name in given if name not in hints(cls)]:
            siblings = sibling_keys(section, name)
            if not siblings:
                continue
            value = given.pop(name)
            if all(value != declared.default for declared in siblings.values()):
                self.others[f"{prefix}{name}"] = value
        before = len(self.problems)
        made = self.section(cls, given, prefix)
        if len(self.problems) == before:
            self.settle(made, prefix, "")
        return made

    def outside(self, cls: type, values: dict[str, Any], prefix: str) -> Any:
        """The object for a class or function from outside: what its section does not know are options of it."""
        own = {
            name: values.pop(name) for name in [*values] if name in hints(cls) and name not in ("options", "allowed")
        }
        target = str(own[TARGET])
        made: Any = self.section(cls, {"name": target.rpartition(".")[2], **own}, prefix)
        made.options, made.allowed = values, self.asked or is_allowed(target)
        self.settle(made, prefix, f"{prefix}{TARGET}=")
        return made

    def settle(self, made: Any, prefix: str, whole: str) -> None:
        """Let the object of a user's own command settle its options. whole: begins what concerns no single option."""
        if self.asked:
            try:
                made.settle(prefix)
            except EmoshareError as error:
                self.problems += [line if line.startswith(prefix) else f"{whole}{line}" for line in paragraphs(error)]

    def section(self, cls: type[Section], values: Any, prefix: str) -> Section:
        """An instance of a dataclass."""
        problems, root = self.problems, self.root
        known = hints(cls)
        if not isinstance(values, dict):
            problems.append(f"{prefix.rstrip('.') or 'config'}={value_text(values)}: must be keys and values")
            return cls()
        for name in sorted(map(str, values.keys() - known.keys())):
            key = prefix + name
            problems.append(f"{key}: no such key{suggestion(key, name, list(known), root)}")
        filled: dict[str, Any] = {}
        for field in dataclasses.fields(cast(Any, cls)):
            name, kind = field.name, known[field.name]
            if name not in values:
                continue
            if "kind" in field.metadata:
                filled[name] = self.kind(field.metadata["kind"], values[name], f"{prefix}{name}.")
            elif dataclasses.is_dataclass(kind):
                filled[name] = self.section(cast(type, kind), values[name], f"{prefix}{name}.")
            else:
                try:
                    filled[name] = _convert(kind, values[name])
                except (TypeError, ValueError, OverflowError):
                    problems.append(f"{prefix}{name}={value_text(values[name])}: must be {type_in_words(kind)}")
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
        return [_convert(arguments[0], item) for item in _check_type(list | tuple, value)]
    if origin is dict:
        return dict(_check_type(dict, value))
    if kind is bool:
        return SWITCH[text] if (text := str(value).lower()) in SWITCH else _check_type(bool, value)
    if isinstance(value, bool):
        return value_text(value) if kind is str else _check_type(bool, None)
    return kind(_check_type({float: int | float | str, int: int | str, str: int | float | str}[kind], value))


def _check_type(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError
    return value


def type_in_words(kind: Any) -> str:
    """The values that a key of a type takes, in plain words."""
    if isinstance(kind, types.UnionType):  # as `float | None`
        return f"{type_in_words(typing.get_args(kind)[0])} or null"
    return WORDS.get(typing.get_origin(kind) or kind, "keys and values, as in {a: 1}")
