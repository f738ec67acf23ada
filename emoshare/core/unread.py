"""Which keys a run does not read, by what is declared beside each of them (`schema.Key.only`, `.unless`).

Such a key changes no number, so that it is in no identity; and where a user gives it, it would be silently ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from emoshare.core.config import Config
from emoshare.core.schema import Declared, declared_keys, shown, value_at

OF_SEVERAL = ("system", "experiment", "without")  # groups whose options set keys of several sections


def unread_keys(at: Callable[[str], Any]) -> dict[str, str]:
    """Every key that a run does not read → the other key whose value is the reason. at: dotted key → its value."""
    found = {name: declared.key.unread_by(at) for name, declared in declared_keys(Config).items()}
    return {name: other for name, other in found.items() if other}


def find_unread_values(config: Config, searched: Collection[str] = ()) -> dict[str, str]:
    """Every key that the run does not read although it is given → a line that says so.

    A key counts as given where it has another value than its default, or where a search chooses its value.

    Args:
        config: the run's.
        searched: keys and groups whose values a search chooses; what depends on them is not known yet.
    """

    def at(name: str) -> Any:
        return value_at(config, name)

    keys, found = declared_keys(Config), {}
    for name, other in unread_keys(at).items():
        known = {other, other.partition(".")[0], *OF_SEVERAL}.isdisjoint(searched)
        if known and (name in searched or at(name) != keys[name].default):
            found[name] = _line(keys[name], at(name), other, at(other))
    return found


def _line(declared: Declared, value: Any, other: str, found: Any) -> str:
    wanted = " or ".join(map(shown, declared.key.only.get(other, ())))
    why = f"is read with {other}={wanted} alone, and here it is {shown(found)}" if wanted else ""
    why = why or f"is not read with {other}={shown(found)}"
    return f"{declared.name}={shown(value)}: {why}; leave it out, or change {other}"
