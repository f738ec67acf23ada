"""The parts of backbone=concat, from the names on the command line to complete sections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.core.parts import with_parts
from emoshare.core.schema import MISSING
from emoshare.core.text import near
from emoshare.core.typed import fill_options

Sections = Callable[[str], dict[str, Any]]  # name of a backbone in conf/ → the keys in its file


def read_parts(config: Config, names: Sequence[str], section_of: Sections) -> list[str]:
    """Put the sections of the parts in place of their names, in a config of backbone=concat.

    names: of the backbones in conf/. Returns what is wrong, a line for each part; then the parts stay as they were.
    """
    problems, parts = [], []
    for item in config.backbone.parts:
        try:
            part = fill_options("backbone", values_of(item, names, section_of), "backbone.parts", asked=True)
            part = part.settle_from(config.window, Path(config.paths.cache))
            if unset := [key for key in ("name", "type", "dim", "layers") if getattr(part, key) == MISSING]:
                raise EmoshareError(f"{', '.join(unset)} not set")
            if part in parts:
                raise EmoshareError("is named twice")
            parts.append(part)
        except EmoshareError as error:
            label = item if isinstance(item, str) else (item.get("name") if isinstance(item, dict) else item)
            problems += [f"backbone.parts: {label}: {line}" for line in str(error).splitlines()]
    if not problems and parts:
        config.backbone = with_parts(config.backbone, parts)
    return problems


def values_of(item: Any, names: Sequence[str], section_of: Sections) -> dict[str, Any]:
    """The keys of a part, given by its name, its checkpoint's path, or some keys with one of the two."""
    given = {"name": item} if isinstance(item, str) else item
    if not isinstance(given, dict):
        raise EmoshareError("must be the name of a backbone, the path of a checkpoint, or keys as {name: …, layer: …}")
    name = str(given.get("name", MISSING))
    if "type" in given:  # all that is to be known
        return given
    if name in names and "path" not in given:
        return section_of(name) | given
    others = {key: value for key, value in given.items() if key != "name"}
    path = Path(str(given.get("path", name))).expanduser()
    if "path" not in given and "/" not in name and not path.is_dir():
        raise EmoshareError(f"no such backbone, and no folder of a checkpoint{near(name, list(names))}")
    named = {"name": name} if "path" in given and name != MISSING else {}
    return {"type": "auto"} | others | named | {"path": str(path)}
