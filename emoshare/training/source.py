"""Where a run's frames come from: the store, filled first if need be, or the backbone in the training loop."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from emoshare.backbones import checkpoint
from emoshare.backbones.base import Backbone, load_backbone
from emoshare.core.config import Config
from emoshare.core.files import read_json, write_json
from emoshare.core.hardware import loop_dtype, resolve_dtype
from emoshare.data.corpus import Corpus
from emoshare.data.window import Window
from emoshare.store.extract import TensorStore, ensure_store
from emoshare.store.recipe import VERSION

log = logging.getLogger("emoshare")


@dataclass(frozen=True)
class Source:
    """Stored frames, or a backbone that computes them in the loop; the other is None."""

    store: TensorStore | None
    backbone: Backbone | None
    identity: dict[str, Any]  # of the backbone, down to the weights
    resolved: dict[str, Any] = field(default_factory=dict)  # what `auto` came to


def open(config: Config, corpus: Corpus, device: torch.device, precision: str) -> Source:
    """The frames of a run."""
    if in_loop(config):
        dtype = loop_dtype(config, precision)
        backbone = load_backbone(config.backbone, config.window, dtype, config.seed)
        return Source(
            None, backbone, backbone.identity, {"engine": "torch", "compute": str(dtype).removeprefix("torch.")}
        )
    store = stored(config, corpus, device)
    recipe = store.store.recipe
    resolved = {"engine": recipe.engine, "compute": recipe.compute, "stored": recipe.precision}
    return Source(store, None, store.identity, resolved)


def in_loop(config: Config) -> bool:
    """Whether the backbone runs in the training loop: it is asked for, or no store can hold its frames."""
    reason = None
    if not config.backbone.frozen:
        reason = "the backbone is trained (backbone.frozen=false)"
    elif config.window.crop == "random":
        reason = "every epoch sees other windows (window.crop=random)"
    if reason and config.backbone.cache:
        log.warning("frames are not stored: %s; the backbone runs in the loop", reason)
    return bool(reason) or not config.backbone.cache


def stored(config: Config, corpus: Corpus, device: torch.device) -> TensorStore:
    """The frame store of the config's recipe, filled first if need be."""

    @functools.cache
    def backbone() -> Backbone:
        dtype = resolve_dtype(config.extract.compute, device)
        return load_backbone(config.backbone, config.window, dtype, config.seed)

    cache = Path(config.paths.cache)
    return ensure_store(
        corpus, Window.of(config.window), identity_of(config, cache, backbone), backbone, config.extract,
        config.cache, cache, device, config.trainer.progress,
    )  # fmt: skip


def identity_of(config: Config, cache: Path, backbone: Callable[[], Backbone]) -> dict[str, Any]:
    """What the frames of the backbone depend on; remembered, so that a stored recipe needs no weights.

    The memory hangs on the config, the code, the libraries and the size and time of every file of the checkpoint.
    """
    folder = checkpoint.locate(config.backbone) if config.backbone.type != "logmel" else None
    files = sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in folder.iterdir()) if folder else []
    section = {k: v for k, v in asdict(config.backbone).items() if k not in ("frozen", "cache")}
    seed = None if config.backbone.pretrained else config.seed
    window = (config.window.pad, config.window.normalize)
    versions = [importlib.metadata.version(name) for name in ("torch", "transformers")]
    key = json.dumps([VERSION, section, seed, window, versions, str(folder), files])
    path = cache / "identities" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    if not path.exists():
        write_json(path, backbone().identity)
    return read_json(path, "delete it and run the command again")
