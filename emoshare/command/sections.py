"""Hydra's config as the typed one: the schema that it knows, sections of a kind, what a checkpoint says."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.core.kinds import ROOMS, TARGET, class_of
from emoshare.core.schema import MISSING, TABLES_OWN, declared_keys
from emoshare.core.typed import fill_and_collect


@functools.cache  # Hydra keeps it for the life of the process
def register() -> None:
    """Make the keys of the schema and their defaults known to Hydra; types are checked by `to_config`."""
    node: dict[str, Any] = {section: {} for section in ROOMS}
    for name, declared in declared_keys(Config).items():
        if name.partition(".")[0] in ROOMS:  # its keys are those of the class that it holds
            continue
        *sections, key = name.split(".")
        functools.reduce(lambda section, part: section.setdefault(part, {}), sections, node)[key] = declared.default
    schema = OmegaConf.create(node)
    for section in ROOMS:
        OmegaConf.set_struct(schema[section], False)
    ConfigStore.instance().store(name="schema", node=schema)


def to_config(cfg: DictConfig, others: dict[str, Any] | None = None) -> tuple[Config, list[str]]:
    """The resolved config as plain dataclasses, and a line for every unknown key and every value of another type.

    others: gets the keys of a kind that are not those of the chosen one, with their values.
    """
    complete(cfg)
    values = OmegaConf.to_container(cfg, resolve=True)
    config, problems = fill_and_collect(Config, values, asked=True, others=others)
    for section, key in (("paths", "outputs"), ("paths", "data"), ("paths", "cache"), ("data", "root")):
        part = getattr(config, section)
        setattr(part, key, os.path.expanduser(getattr(part, key)))
    if config.backbone.path.startswith("~"):
        config.backbone = config.backbone.with_place(os.path.expanduser(config.backbone.path))
    return config, problems


def complete(cfg: DictConfig) -> None:
    """Give the sections of a kind the defaults of the one that they name, for values that refer to them."""
    for section in ROOMS:
        values = OmegaConf.to_container(cfg[section], resolve=False)
        OmegaConf.set_struct(cfg[section], False)
        with suppress(EmoshareError):
            for name, declared in declared_keys(class_of(section, values)).items():  # type: ignore[arg-type]
                if isinstance(values, dict) and not values.get(TARGET) and name not in values:
                    cfg[section][name] = declared.default


def read_checkpoint(config: Config, problems: list[str]) -> tuple[list[str], list[str]]:
    """Fill in what the files of its backbone tell (backbone=auto, backbone=features).

    problems: what is wrong with the config, a line each. Returns them with what is wrong with the checkpoint, and the
    keys that are still without a value.
    """
    keys = config.backbone.checkpoint_keys
    if not keys or any(line.startswith("backbone.type=") for line in problems):
        return problems, []
    try:
        config.backbone = config.backbone.settle_from(config.window, Path(config.paths.cache))
    except EmoshareError as error:
        problems = [*problems, str(error)]
    unread = any(getattr(config.backbone, key) == MISSING for key in keys)
    return problems, [f"backbone.{key}" for key in keys if unread]


def open_kinds(cfg: DictConfig, values: Sequence[Override]) -> None:
    """Empty a section of a kind whose class the overrides name: it takes any key, as those of a table's layout do."""
    for section in ROOMS:
        named = [o for o in values if o.key_or_group == f"{section}.{TARGET}"]
        whole = [
            o for o in values if o.key_or_group == section and isinstance(value := o.value(), dict) and TARGET in value
        ]
        if named or whole:
            cfg[section] = {}
            OmegaConf.set_struct(cfg[section], False)
    for name in TABLES_OWN:
        if OmegaConf.is_dict(part := OmegaConf.select(cfg, name)):
            OmegaConf.set_struct(part, False)
