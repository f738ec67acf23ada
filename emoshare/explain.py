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
        return f"no permission to write{_file(error)}; set paths.outputs, paths.cache or paths.data to a folder of yours"
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


def _keys(path: str) -> list[str]:
    """The keys of the config section at a dotted path."""
    section: typing.Any = Config
    for part in filter(None, path.split(".")):
        hints = typing.get_type_hints(section)
        section = hints.get(part)
        if not dataclasses.is_dataclass(section):
            return []
    return [f.name for f in dataclasses.fields(section)]


def _config(text: str) -> str:
    """One line for a message of Hydra or OmegaConf."""
    if found := re.search(r"(?:Could not find|Could not load) '(\w+)/([^']+)'", text):
        group, option = found.groups()
        options = re.findall(r"^\t(\S+)$", text, re.M)
        return f"{group}={option}: no such option{near(option, options)} There are: {', '.join(options)}"
    if found := re.search(r"Missing mandatory value: (\S+)", text):
        return f"{found[1]} is not set; add {found[1]}=<value>"
    if found := re.search(r"Could not (?:override|append|delete)[^']*'([^']+)'", text):
        parent, _, key = found[1].rpartition(".")
        if key not in _keys(parent):
            return f"{found[1]}: no such key{near(key, _keys(parent))}"
    value = re.search(r"Value '(.*?)'(?: of type '\w+')? (?:could not be converted|is not a valid|cannot)", text)
    key = re.search(r"full_key: (\S+)", text)
    if value and key:
        wanted = re.search(r"converted to (\w+)", text)
        return f"{key[1]}={value[1]}: must be a value of type {wanted[1] if wanted else 'another type'}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:3])
