"""backbone.type=concat: the sections of the backbones whose frames are joined, as the config holds them.

`backbone.parts` is a list of plain dicts with each key that differs from its default, so that a run's
config.yaml tells all of its backbones without the files of conf/.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from emoshare.core.backbones import BackboneOptions
from emoshare.core.config import Config
from emoshare.core.schema import LONGEST_NAME, MISSING, declared_keys
from emoshare.core.typed import fill_options


def parts_of(config: BackboneOptions) -> list[BackboneOptions]:
    """The backbones that are joined, none for another type. EmoshareError for a part that is no section of keys."""
    return [fill_options("backbone", part, "backbone.parts") for part in config.parts or ()]


def with_parts(config: BackboneOptions, parts: list[BackboneOptions]) -> BackboneOptions:
    """The config of several backbones as one, whose name and features a frame follow from theirs where not given."""
    known = [part.dim for part in parts]
    names = (part.name if part.layer == "last" else f"{part.name}_layer{part.layer}" for part in parts)
    name = "+".join(names)[:LONGEST_NAME] if config.name == MISSING else config.name
    dim = sum(known) if config.dim == MISSING and MISSING not in known else config.dim
    return replace(config, name=name, dim=dim, parts=[section_of(part) for part in parts])  # type: ignore[call-arg]


def section_of(part: BackboneOptions) -> dict[str, Any]:
    """The keys of a backbone that differ from their defaults, with its name and type."""
    keys = {name: (part.value_of(name), declared.default) for name, declared in declared_keys(type(part)).items()}
    return {name: value for name, (value, default) in keys.items() if value != default or name in ("name", "type")}


def problems(config: Config) -> Iterator[str]:
    """The mistakes in the parts of a config, a line each."""
    backbone = config.backbone
    if not all(isinstance(part, dict) for part in backbone.parts):
        return  # the name of no backbone, which was reported where it was looked up
    if len(backbone.parts) < 2:
        yield "backbone.parts: name at least two backbones"
    if reason := config.unstorable:
        yield f"backbone.parts: stored frames are joined, and here {reason}"
    if not backbone.cache:
        yield "backbone.cache=false: stored frames of the parts are joined; set it to true"
    for part in parts_of(backbone):
        yield from (f"backbone.parts: {part.name}: {problem}" for problem in _part_problems(part))
        if part.from_file and config.augment:
            yield no_variants(part.name)


def no_variants(name: str) -> str:
    """The message for variants of clips whose frames a file holds."""
    return f"augment: {name} has features of the clips as they are, and none of their variants; leave it empty"


def _part_problems(part: BackboneOptions) -> Iterator[str]:
    for key, wrong in {"frozen": not part.frozen, "cache": not part.cache}.items():
        if wrong:
            yield f"{key} must not be {getattr(part, key)}"
    if part.apart:
        yield part.apart
    if part.layer == "weighted":
        yield "layer must be last or an index: a learned sum of layers takes one backbone alone"
    elif part.layer.isdigit() and isinstance(part.layers, int) and int(part.layer) > part.layers:
        yield f"layer={part.layer}: it has the layers 0 to {part.layers}"
