"""backbone.type=concat: the sections of the backbones whose frames are joined, as the config holds them.

`backbone.parts` is a list of plain dicts in which each key that differs from its default stands, so that a run's
config.yaml tells all of its backbones without the files of conf/.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from emoshare.core.config import BackboneConfig, Config, unstorable
from emoshare.core.schema import LONGEST_NAME, MISSING
from emoshare.core.typed import fill

CONCAT = "concat"


def parts_of(config: BackboneConfig) -> list[BackboneConfig]:
    """The backbones that are joined, none for another type. EmoshareError for a part that is no section of keys."""
    if config.type != CONCAT:
        return []
    return [fill(BackboneConfig, part, "backbone.parts") for part in config.parts]


def with_parts(config: BackboneConfig, parts: list[BackboneConfig]) -> BackboneConfig:
    """The config of several backbones as one, whose name and features a frame follow from theirs where not given."""
    defaults = asdict(BackboneConfig())
    sections = [{key: value for key, value in asdict(part).items() if value != defaults[key]} for part in parts]
    known = [part.dim for part in parts]
    names = (part.name if part.layer == "last" else f"{part.name}_layer{part.layer}" for part in parts)
    name = "+".join(names)[:LONGEST_NAME] if config.name == MISSING else config.name
    dim = sum(known) if config.dim == MISSING and MISSING not in known else config.dim
    return replace(config, name=name, dim=dim, parts=sections)


def problems(config: Config) -> Iterator[str]:
    """What is wrong with the parts of a config, a line each."""
    backbone = config.backbone
    if backbone.type != CONCAT:
        if getattr(backbone, "parts", None):
            yield f"backbone.parts: is of the backbone concat, and this one is {backbone.name}; choose concat"
        return
    if not all(isinstance(part, dict) for part in backbone.parts):
        return  # a name that stands for no backbone, of which was told where it was looked up
    if len(backbone.parts) < 2:
        yield "backbone.parts: name at least two backbones"
    if reason := unstorable(config):
        yield f"backbone.parts: stored frames are joined, and here {reason}"
    if not backbone.cache:
        yield "backbone.cache=false: stored frames of the parts are joined; set it to true"
    if backbone.layer != "last":
        yield f"backbone.layer={backbone.layer}: each part of a concat has a layer of its own; set it there"
    for part in parts_of(backbone):
        yield from (f"backbone.parts: {part.name}: {problem}" for problem in _part_problems(part))


def _part_problems(part: BackboneConfig) -> Iterator[str]:
    changed: dict[str, Any] = {"type": part.type == CONCAT, "frozen": not part.frozen, "cache": not part.cache}
    yield from (f"{key} must not be {getattr(part, key)}" for key, wrong in changed.items() if wrong)
    if part.type == "audeep":
        yield "its autoencoders are trained on the corpus by a run of its own, and no part of a concat; fuse the runs"
    if part.layer == "weighted":
        yield "layer must be last or an index: a learned sum of layers takes one backbone alone"
    elif part.layer.isdigit() and isinstance(part.layers, int) and int(part.layer) > part.layers:
        yield f"layer={part.layer}: it has the layers 0 to {part.layers}"
