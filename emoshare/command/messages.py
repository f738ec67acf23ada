"""Says in one line what went wrong and what to do: the words for errors that libraries raise."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import typing
from collections.abc import Sequence

from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError, out_of_memory
from emoshare.core.text import near

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNWRITABLE = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT, errno.ENAMETOOLONG,
)  # fmt: skip
TYPES = {"float": "a number", "int": "a whole number", "bool": "true or false", "str": "a word"}


def explain(error: BaseException) -> str:
    """One line for a user: the file, key or value, and the remedy.

    Hydra's and OmegaConf's messages are reworded; errors that nobody foresaw keep their own first line.
    """
    if isinstance(error, EmoshareError):
        found = re.match(r"Caught \w+ in DataLoader worker.*EmoshareError: (.*)", str(error), re.S)
        return found[1].strip() if found else str(error)  # PyTorch puts the worker's traceback before it
    if isinstance(error, OSError) and error.errno:
        return _system(error)
    text = str(error).strip()
    if out_of_memory(error):
        return (
            "out of memory; lower data.batch_size or window.seconds, keep backbone.cache=true (the backbone then "
            "never runs in the training loop), or lower extract.max_batch_seconds"
        )
    module = type(error).__module__.partition(".")[0]
    if module in ("hydra", "omegaconf"):
        return _config(error)
    first = text.splitlines()[0] if text else "no message"
    if module == "wandb":
        return f"W&B: {first}; logger.mode=offline keeps the run on this machine, logger=none goes without"
    return f"{type(error).__name__}: {first}"


def _system(error: OSError) -> str:
    """One line for an error of the operating system; those that EmoshareError does not name come from writing."""
    reason = os.strerror(error.errno or 0)
    where = f"{error.filename}: {reason}" if error.filename else reason
    if error.errno in FULL:
        return f"{where}; free some space, or set paths.outputs and paths.cache to another disk"
    if error.errno in UNWRITABLE:
        return f"{where}; set paths.outputs, paths.cache and paths.data to folders that can be written"
    return where


def _config(error: BaseException) -> str:
    """One line for an error of Hydra or OmegaConf."""
    text = "\n".join(str(e) for e in (error, error.__cause__, error.__context__) if e is not None)
    if override := getattr(error, "override", None):
        return f"{override}: an override has the form key=value, or key='a b' for a value with spaces or brackets"
    if found := re.search(r"(?:Could not find|Could not load) '(\w+)/([^']*)'", text):
        return unknown_option(found[1], found[2], re.findall(r"^\t(\S+)$", text, re.M))
    if found := re.search(r"(?:Ambiguous value for argument|Sweep parameters) '(.+?)'(?:\n| requires)", text):
        return f"{found[1]}: several values are a sweep; add -m before them, or write [a,b] for a list"
    key = found[1] if (found := re.search(r"full_key: ([\w.]+)", text)) else ""
    if "missing mandatory value" in text.lower() and key:
        hint = "/path/to/corpus (the folder that holds lab/ and wav/)" if key == "data.root" else "<value>"
        return f"{key} is not set; add {key}={hint}"
    if found := re.search(r"Could not (?:override|append|delete)[^']*'([^']+)'", text):
        return unknown(max(found[1], key, key=len))
    if message := _mistyped(text, key):
        return message
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:2])


def _mistyped(text: str, key: str) -> str:
    """One line for a value that its key cannot hold; empty where the text is about something else."""
    found = re.search(r"Error merging override (.*)", text)
    if found and found[1].startswith("~"):
        return f"{found[1]}: a key cannot be taken away; give it another value"
    if found and not key:
        key = found[1].lstrip("+").partition("=")[0]
    value = re.search(r"Value '(.*)' (?:of type|is not)", text)
    if not key or not (found or value):
        return ""
    given = found[1] if found else f"{key}={value[1] if value else ''}"
    subject = "" if given.lstrip("+").startswith(f"{key}=") else f" {key}"  # as for window={seconds:abc}
    section, _, name = key.rpartition(".")
    return f"{given}:{subject} must be {_type(section, name)}"


def unknown(key: str) -> str:
    """One line for a dotted key that the config has not, with the nearest that it has."""
    if key.startswith("trainer.options."):
        return f"{key}: an option of Lightning's Trainer is added with a plus sign: +{key}=…"
    parts = key.split(".")
    for i, part in enumerate(parts):
        names = list(_fields(".".join(parts[:i])))
        if part not in names:
            return f"{key}: no such key{near(part, names) or '; see emoshare train --help'}"
    return f"{key}: no such key; see emoshare train --help"


def unknown_option(group: str, option: str, options: Sequence[str]) -> str:
    """One line for an option that a config group has not, with those that it has."""
    hint = near(option, list(options))
    return f"{group}={option}: no such option{hint}{' There' if hint else '; there'} are: {', '.join(options)}"


def _type(section: str, name: str) -> str:
    """What a key takes, in words."""
    kind = str(_fields(section).get(name)).replace("<class '", "").replace("'>", "")
    for python, words in TYPES.items():
        if kind.startswith(python):
            return words
    return {"list": "a list, as in [a, b]", "dict": "keys and values, as in {a: 1}"}.get(kind[:4], "a group of keys")


def _fields(path: str) -> dict[str, typing.Any]:
    """Key → type of the config section at a dotted path."""
    section: typing.Any = Config
    for part in filter(None, path.split(".")):
        section = typing.get_type_hints(section).get(part)
        if not dataclasses.is_dataclass(section):
            return {}
    return typing.get_type_hints(section)
