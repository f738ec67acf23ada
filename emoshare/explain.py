"""Says in one line what went wrong and what to do: the words for errors that libraries raise."""

from __future__ import annotations

import dataclasses
import errno
import re
import typing

from emoshare.config import Config, near
from emoshare.errors import EmoshareError


def explain(error: BaseException) -> str:
    """One line for a user: the file, key or value, and the remedy.

    Hydra's and OmegaConf's messages are reworded; errors that nobody foresaw keep their own first line.
    """
    if isinstance(error, EmoshareError):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full{_file(error)}; free some space or set paths.outputs and paths.cache to another disk"
    if isinstance(error, PermissionError):
        return f"no permission to write{_file(error)}; set paths.outputs, paths.cache and paths.data"
    text = str(error).strip()
    if "out of memory" in text.lower() or type(error).__name__ == "OutOfMemoryError":
        return (
            "out of memory; lower data.batch_size or window.seconds, keep backbone.cache=true (the backbone then "
            "never runs in the training loop), or lower extract.max_batch_seconds"
        )
    module = type(error).__module__.partition(".")[0]
    if module in ("hydra", "omegaconf"):
        causes = [str(e) for e in (error, error.__cause__, error.__context__) if e is not None]
        return _config("\n".join(causes))
    first = text.splitlines()[0] if text else "no message"
    return f"{type(error).__name__}: {first}"


def _file(error: OSError) -> str:
    return f" ({error.filename})" if error.filename else ""


def _config(text: str) -> str:
    """One line for a message of Hydra or OmegaConf."""
    if found := re.search(r"(?:Could not find|Could not load) '(\w+)/([^']+)'", text):
        group, option = found.groups()
        options = re.findall(r"^\t(\S+)$", text, re.M)
        return f"{group}={option}: no such option{near(option, options)} There are: {', '.join(options)}"
    if "missing mandatory value" in text.lower() and (found := re.search(r"(?:full_key|value): (\S+\.\S+)", text)):
        hint = "/path/to/corpus (the folder that holds lab/ and wav/)" if found[1] == "data.root" else "<value>"
        return f"{found[1]} is not set; add {found[1]}={hint}"
    if found := re.search(r"Could not (?:override|append|delete)[^']*'([^']+)'", text):
        return unknown(found[1])
    key = re.search(r"(?:merging override|full_key:) ([\w.]+)", text)
    value = re.search(r"Value '(.*?)'|: (\w+) is not a", text)
    if key and value:
        section, _, name = key[1].rpartition(".")
        return f"{key[1]}={value[1] or value[2]}: must be {_type(section, name)}"
    if found := re.search(r"Error parsing override '(.*?)'", text):
        return f"{found[1]}: an override has the form key=value"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:2])


def unknown(key: str) -> str:
    """One line for a dotted key that the config has not, with the nearest that it has."""
    parts = key.split(".")
    for i, part in enumerate(parts):
        names = list(_fields(".".join(parts[:i])))
        if part not in names:
            return f"{key}: no such key{near(part, names) or '; see emoshare train --help'}"
    return f"{key}: no such key; see emoshare train --help"


TYPES = {"float": "a number", "int": "a whole number", "bool": "true or false", "str": "a word"}


def _type(section: str, name: str) -> str:
    kind = str(_fields(section).get(name)).replace("<class '", "").replace("'>", "")
    for python, words in TYPES.items():
        if kind.startswith(python):
            return words
    return "a list, as in [a, b]" if kind.startswith("list") else f"of type {kind}"


def _fields(path: str) -> dict[str, typing.Any]:
    """Key → type of the config section at a dotted path."""
    section: typing.Any = Config
    for part in filter(None, path.split(".")):
        section = typing.get_type_hints(section).get(part)
        if not dataclasses.is_dataclass(section):
            return {}
    return typing.get_type_hints(section)
