"""One line for what went wrong and what to do about it: for the errors of libraries, and for bad overrides.

All that is said about the grammar of the command line (`key=value`, `-m`, `+`) is said here.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emoshare.core.config import Config
from emoshare.core.errors import FULL, TOO_MANY_OPEN, EmoshareError, limit_errno, out_of_memory
from emoshare.core.outside import outside_crash
from emoshare.core.schema import declared_keys, hints
from emoshare.core.text import near
from emoshare.core.typed import type_in_words
from emoshare.core.usual import suggestion

# an unquoted value with brackets, in a list or mapping
BRACKETS = re.compile(r"([:\[,]\s*)([^\s'\"{}\[\],:][^'\"{}\[\],:]*\([^'\"{}\[\],:]*)")
FEW = 16  # options of a group that are all named beside the nearest
OWN = ("data", "experiment", "system")  # groups whose options are often the user's own files
OF_LOSSES = "; a weighted sum is written with its quotes, as 'loss={kl: 1, ccc: 0.5}'"
IN_PYTHON = " (in Python: emoshare.sweep)"
YAML_HINTS = {  # words of its parser → the remedy
    "'\\t'": "indent by spaces, not by tabs",
    "expected ',' or": 'quote a name with brackets, as in "Joy [1-7]"',
    "expected <block end>": 'quote the whole value, as in "[1-7] Joy", and indent the keys of a section alike',
    "mapping values are not allowed": 'quote a text with a colon, as in "a: b", and indent the keys of a section alike',
    "expected '<document start>'": "indent the keys of a section alike",
    "found character": "quote the value",
    "end of stream": "close its quotes",
    "duplicate key": "leave one of them out",
    "alias": "quote a value that begins with an asterisk",
    "constructor for the tag": "quote a value that begins with an exclamation mark",
}
PLUGINS = {  # options of Hydra's groups → the extra that brings them
    "optuna": "optuna", "joblib": "joblib", "ray": "ray", "submitit_slurm": "slurm", "submitit_local": "slurm",
}  # fmt: skip
UNWRITABLE = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT, errno.ENAMETOOLONG,
)  # fmt: skip


def one_line(error: BaseException) -> str:
    """One line for a user: the file, key or value, and the remedy; of code of theirs its frames, too.

    Hydra's and OmegaConf's messages are reworded; unforeseen errors keep their own first line.
    """
    limit = limit_errno(error)
    if limit in TOO_MANY_OPEN or (limit and not isinstance(error, EmoshareError)):
        named = isinstance(error, OSError) and error.errno == limit
        return _system(error if named else OSError(limit, ""))  # type: ignore[arg-type]
    if isinstance(error, EmoshareError):
        match = re.match(r"Caught \w+ in DataLoader worker.*EmoshareError: (.*)", str(error), re.S)
        return match[1].strip() if match else str(error)  # PyTorch puts the worker's traceback before it
    if crash := outside_crash(error):
        return str(crash)
    if isinstance(error, OSError) and error.errno:
        return _system(error)
    if line := bad_yaml(error):
        return line
    text = str(error).strip()
    if out_of_memory(error):
        return (
            "out of memory; lower data.batch_size or window.seconds, keep backbone.cache=true (the backbone then "
            "never runs in the training loop), or lower extract.max_batch_seconds"
        )
    if type(error).__module__.partition(".")[0] in ("hydra", "omegaconf"):
        return _config(error)
    first = text.splitlines()[0] if text else "no message"
    return f"{type(error).__name__}: {first}"


def _system(error: OSError) -> str:
    """One line for an error of the operating system; those that EmoshareError does not name come from writing."""
    reason = os.strerror(error.errno or 0)
    where = f"{error.filename}: {reason}" if error.filename else reason
    if error.errno in TOO_MANY_OPEN:
        return f"{where}; raise the limit (`ulimit -n 65536`), or have fewer data.workers, or a smaller sweep.parallel"
    if error.errno in FULL:
        return f"{where}; free some space, or write to another disk (--out, or paths.outputs and paths.cache)"
    if error.errno in UNWRITABLE:
        return (
            f"{where}; set paths.outputs, paths.cache and paths.data (or --out, --cache) to folders that can be written"
        )
    return where


def _config(error: BaseException) -> str:
    """One line for an error of Hydra or OmegaConf."""
    text = "\n".join(str(e) for e in (error, error.__cause__, error.__context__) if e is not None)
    if match := re.search(r"(?:Could not find|Could not load) '([\w/]+)/([^'/]*)'", text):
        if extra := PLUGINS.get(match[2]):
            return f'{match[1]}={match[2]}: its plugin is not installed; run `pip install "emoshare[{extra}]"`'
        return unknown_option(match[1], match[2], re.findall(r"^\t(\S+)$", text, re.M))
    key = match[1] if (match := re.search(r"full_key: ([\w.]+)", text)) else ""
    if match := re.search(r"Could not (?:override|append|delete)[^']*'([^']+)'", text):
        return unknown(max(match[1], key, key=len))
    if match := re.search(r"Error merging override (.*)", text):
        declared = declared_keys(Config).get(match[1].lstrip("+").partition("=")[0])
        return f"{match[1]}: must be {type_in_words(declared.type) if declared else 'a value of another kind'}"
    if match := re.search(r"In '([^']+)': .*merge DictConfig with ListConfig", text):
        return f"{match[1]}.yaml: holds a list; must be keys and values, as `root: /data/talks`"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:2])


def of_files(error: BaseException, folder: Path | None) -> str:
    """As `one_line`, for an error from reading config files; folder: of --config-dir."""
    if isinstance(error, UnicodeDecodeError):
        for path in sorted(folder.rglob("*.yaml")) if folder else ():
            try:
                path.read_text(encoding="utf-8")
            except UnicodeDecodeError as wrong:
                line = wrong.object[: wrong.start].count(b"\n") + 1
                return f"{shorten(path)}:{line}: is not UTF-8; save the file as UTF-8"
    return one_line(error)


def bad_yaml(error: BaseException) -> str:
    """One line for a YAML file that cannot be parsed, with file and line; empty for other errors."""
    mark, problem = getattr(error, "problem_mark", None), str(getattr(error, "problem", None) or "no YAML")
    if mark is None:
        return ""
    start, line = getattr(error, "context_mark", None), mark.line + 1
    hint = next((hint for words, hint in YAML_HINTS.items() if words in problem), "")
    if problem.endswith(("but got ':'", "but got '<stream end>'")) and start:
        hint, line = "close its brackets", start.line + 1
    return f"{shorten(mark.name)}:{line}: {problem}{hint and f'; {hint}'}"


def bad_override(override: str) -> str:
    """One line for an override that Hydra's grammar does not know."""
    if not override.partition("=")[0].strip("+~"):
        return f"{override}: an override has the form key=value"
    quoted = BRACKETS.sub(lambda value: f"{value[1]}'{value[2].rstrip()}'", override)
    if quoted != override:
        return f'{override}: a value with brackets needs quotes: "{quoted}"'
    if override.count("{") != override.count("}"):
        return f"{override}: the shell has split it; put quotes around it, as in 'loss={{kl: 1, ccc: 0.5}}'"
    if "#" in override:
        key, _, value = override.partition("=")
        return f"{override}: a value with # needs quotes of its own: \"{key}='{value}'\""
    if ";" in override:
        return f"{override}: values are separated by a comma, not by a semicolon; quote a value that holds one"
    if re.search(r"[^\W\d_a-zA-Z]", override):
        return f'{override}: letters beyond A to Z need quotes of their own, as in data.targets=["Wärme"]'
    return f"{override}: an override has the form key=value, or key='a b' for a value with spaces or brackets"


def several_values(override: str) -> str:
    """One line for values of a sweep in a command that is none."""
    remedy = f"add -m before them, or write [a,b] for a list{IN_PYTHON}{_sum(override)}"
    return f"{override}: several values are a sweep; {remedy}"


def comes_later(replaced: Sequence[str], last: str) -> str:
    """One line for overrides of a key that a later one replaces."""
    return f"{' and '.join(dict.fromkeys(replaced))}: {last} comes later, and it alone counts"


def of_a_sweep(override: str) -> str:
    """One line for an override that a single run has no use for."""
    return f"{override}: is of a sweep, and this is one run; add -m, or leave it out{IN_PYTHON}"


def is_a_sweep(experiment: str, keys: Sequence[str]) -> str:
    """One line for an experiment of several runs in a command that makes one."""
    one = " ".join(f"{key}=…" for key in keys)
    return f"{experiment}: is a sweep over {', '.join(keys)}; add -m before it, or name one run with {one}{IN_PYTHON}"


def one_option(group: str, options: Sequence[str]) -> str:
    """One line for a list where a config group takes one of its options."""
    several = ",".join(options)
    return f"{group}=[{several}]: one option only; for a run of each: -m {group}={several}{_sum(f'{group}=')}"


def _sum(override: str) -> str:
    """The hint on weighted sums, for an override that names several losses."""
    return OF_LOSSES if override.startswith("loss=") else ""


def with_grammar(mistake: str) -> str:
    """A mistake in a config with what to add to the command line, where that is not plain from it."""
    if match := re.match(r"([\w.]+) is not set", mistake):
        hint = "/path/to/corpus" if match[1] == "data.root" else "<value>"
        return f"{mistake}; add {match[1]}={hint}"
    if mistake.startswith("data.fold=null"):
        return f"{mistake}; -m runs all of them"
    return mistake


def unknown(key: str) -> str:
    """One line for a dotted key that the config has not, with the nearest that it has."""
    if key.startswith("sweep.fuse."):
        return f"{key}: a fusion is added with a plus sign: +{key}=[row,row]"
    if key.startswith("trainer.options."):
        return f"{key}: an option of Lightning's Trainer is added with a plus sign: +{key}=…"
    section: Any = Config
    for part in key.split("."):
        names = list(hints(section)) if hasattr(section, "__dataclass_fields__") else []
        if part not in names:
            hint = suggestion(key, part, names, Config) or "; see emoshare train --help"
            return f"{key}: no such key{hint}"
        section = hints(section)[part]
    return there_already(f"{key}=…")


def there_already(override: str) -> str:
    """One line for a plus sign before what the config has. override: without it."""
    return f"+{override}: is in the config already; write {override}"


def unknown_option(group: str, option: str, options: Sequence[str], folder: Path | None = None) -> str:
    """One line for an option that a config group has not, with those that it has.

    folder: of --config-dir.
    """
    if group == "loss" and re.search("[+:]", option):
        return f"{group}={option}: no such option{OF_LOSSES}"
    hint = near(option, list(options), 0.6)
    others = "" if hint and len(options) > FEW else f"{' There' if hint else '; there'} are: {', '.join(options)}"
    own = "" if group not in OWN else _own_option(f"{group}/{option}.yaml", folder)
    return f"{group}={option}: no such option{hint}{others or ' `emoshare train --help` lists all'}{own}"


def _own_option(file: str, folder: Path | None) -> str:
    """The remedy for a file that the folder of --config-dir lacks."""
    if folder is None:
        return f"; one of your own takes --config-dir FOLDER (which holds {file})"
    above = folder.parent if (folder.parent / file).is_file() else None
    return f"; {shorten(folder)} holds no {file}" + (f": name --config-dir {shorten(above)}" if above else "")


def shorten(path: str | Path) -> str:
    """A path as seen from the working directory, where that is shorter."""
    return min(str(path), os.path.relpath(path), key=len)
