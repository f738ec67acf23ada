"""The keys that a run does not read, by the declaration beside each of them (`schema.Key.only`, `.unless`).

Such a key changes no number, so that it is in no identity; and where a user gives it, it would be silently ignored.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, NamedTuple

from emoshare.core.config import Config
from emoshare.core.kinds import SELECTORS, sibling_keys, values_for
from emoshare.core.schema import Declared, keys_of, value_at, value_text

OF_SEVERAL = ("system", "experiment", "without")  # groups whose options set keys of several sections


def unread_keys(config: Config) -> dict[str, str]:
    """Every key that a run does not read → the other key whose value is the reason."""
    reasons = {name: declared.key.blocking_key(partial(value_at, config)) for name, declared in keys_of(config).items()}
    return {name: other for name, other in reasons.items() if other}


class Unread(NamedTuple):
    """A key's value, and why no run reads it, with the remedy."""

    value: Any
    reason: str


def find_unread_values(config: Config, searched: Collection[str] = ()) -> dict[str, Unread]:
    """Every key that the run does not read although it is given → its value, and the reason.

    A key counts as given where it has another value than its default, or where a search chooses its value.

    Args:
        config: the run's.
        searched: keys and groups whose values a search chooses; what depends on them is not known yet.
    """

    def at(name: str) -> Any:
        return value_at(config, name)

    keys, unread = keys_of(config), {}
    for name, other in unread_keys(config).items():
        known = {other, other.partition(".")[0], *OF_SEVERAL}.isdisjoint(searched)
        if known and (name in searched or at(name) != keys[name].default):
            unread[name] = Unread(at(name), _reason(keys[name], other, at(other), config.head.name))
    return unread


def find_keys_of_others(config: Config, others: Mapping[str, Any], searched: Collection[str] = ()) -> dict[str, Unread]:
    """Keys that belong to another class than the one that their section holds, as another head's → value and reason.

    others: dotted key → its value. searched: as for `find_unread_values`.
    """
    unread = {}
    for name, value in others.items():
        section, _, key = name.partition(".")
        if not {section, f"{section}.{SELECTORS[section]}", *OF_SEVERAL}.isdisjoint(searched):
            continue
        owners, selector = values_for(section, sibling_keys(section, key)), f"{section}.{SELECTORS[section]}"
        chosen = getattr(getattr(config, section), SELECTORS[section])
        options = " or ".join(owners[:4]) + (" or …" if len(owners) > 4 else "")
        why = f"is read with {selector}={options} alone, and here it is {chosen}"
        unread[name] = Unread(value, f"{why}; leave it out, or {_remedy(selector)}")
    return unread


def _remedy(key: str) -> str:
    """The way to have a key read that another one blocks. A class is chosen by its group, which sets its keys, too."""
    section, _, name = key.rpartition(".")
    return f"choose another {section} ({section}=…)" if SELECTORS.get(section) == name else f"change {key}"


def _reason(declared: Declared, other: str, actual: Any, head: str) -> str:
    if other == "head.network":
        why = f"is read by heads that are trained in epochs, and head={head} is not"
        return f"{why}; leave it out, or {_remedy('head.name')}"
    options = " or ".join(map(value_text, declared.key.only.get(other, ())))
    why = f"is read with {other}={options} alone, and here it is {value_text(actual)}" if options else ""
    why = why or f"is not read with {other}={value_text(actual)}"
    return f"{why}; leave it out, or {_remedy(other)}"
