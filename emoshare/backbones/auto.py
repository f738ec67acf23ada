"""backbone.type=auto: everything about an encoder is read from its checkpoint, given by its path alone.

The settled config is that of a backbone with the same values in a YAML file, so both share stored frames. What was read
of a folder is remembered under the cache, so that finished runs are found when the folder is gone.
"""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from emoshare.backbones import architecture, checkpoint, families, hub
from emoshare.backbones.architecture import READ
from emoshare.core.config import WindowConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.files import where_writable
from emoshare.core.hashing import digest, read_sealed, write_sealed
from emoshare.core.kinds import classes
from emoshare.core.schema import LONGEST_NAME, MISSING


def is_unsettled(config: Any) -> bool:
    """Whether anything is left to be read from the checkpoint."""
    return config.path != MISSING and config.read_from_checkpoint


def settle(config: Any, window: WindowConfig, cache: Path | None = None) -> Any:
    """The config with name, class and sizes as the checkpoint has them; one that says all of that is returned as it is.

    Reads (of a hub model: fetches) its config.json and preprocessor file, no weights. cache: paths.cache, where it is
    remembered what was read.
    Raises EmoshareError where the checkpoint is not at hand, is no speech encoder of transformers, or differs from what
    the config does say; and where it does not say what this window needs: all such keys at once.
    """
    if not is_unsettled(config):
        return config
    config = replace(config, name=name_of(config.path) if config.name == MISSING else config.name)
    note = cache and cache / "checkpoints" / f"{digest([str(Path(config.path).absolute()), asdict(config)])}.json"
    try:
        settled = read(config, window, config_folder(config))
    except EmoshareError:
        if note is None or not note.is_file() or Path(config.path).exists():
            raise
        return replace(config, **read_sealed(note, "delete it"))
    if note:
        remember(note, {key: getattr(settled, key) for key in (*READ, "conv_norm")})
    return settled


def remember(note: Path, values: dict[str, Any]) -> None:
    """Write what was read of a checkpoint, unless it is there or the cache can't be written."""
    with where_writable():
        if not note.is_file() or read_sealed(note, "delete it") != values:
            write_sealed(note, values)


def read(config: Any, window: WindowConfig, folder: Path) -> Any:
    """The config with what a checkpoint's folder says."""
    source, values = architecture.read_config(folder)
    kind = architecture.kind_of(config, values, source)
    pairs = architecture.sizes(kind, architecture.encoder_config(config, values | {"model_type": kind}, source))
    sizes = {key: value for key, (_, value) in pairs.items() if getattr(config, key) in (MISSING, None)}
    kind = kind if config.type in ("auto", MISSING) else config.type
    config = replace(config, type=kind, **sizes)
    family = families.FAMILIES[kind]
    parsed = architecture.describe(config, folder, checkpoint.preprocessing(folder) if family.samples else None)
    if family.samples:
        checkpoint.policy(config, window, architecture.norm_of(kind, parsed), folder)
    return config


def config_folder(config: Any) -> Path:
    """The folder with the checkpoint's config.json: local, in the hub's cache, or fetched without the weights."""
    if config.path in ("tiny", *classes("backbone")):
        raise EmoshareError(f"backbone.path={config.path}: is built in; choose the backbone {config.path}")
    bare = replace(config, pretrained=False)
    return checkpoint.locate(bare) or hub.download(bare)


def name_of(path: str) -> str:
    """The last part of a folder or hub name, as a name for tables and run folders."""
    place = Path(path).expanduser()
    cached = re.search(r"models--(?:.*--)?([^/]+)/snapshots/[^/]+/?$", path)  # a folder of the hub's cache
    name = cached[1] if cached else (place.name or place.absolute().name)
    if name in ("", "..", "."):
        name = place.resolve().name
    return name.lstrip(".")[:LONGEST_NAME] or "auto"
