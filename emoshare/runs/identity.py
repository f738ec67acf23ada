"""What a run is: everything that its numbers depend on, and nothing else. The hash of it names the run's folder.

- The corpus counts by its fingerprint, wherever it lies and whatever it is called.
- The checkpoint counts by its hub name and revision, a local folder by the fingerprint of its files.
- Of the config, a key counts where it differs from its default in core/config.py and changes numbers. So a key that is
  added later, and keeps its default, leaves the hashes of earlier runs as they are.

`backbone.cache` counts: the backbone in the loop runs in the trainer's precision and its frames are never rounded, so
that its numbers differ from those of stored frames in their last digits. `extract.compile` does not: stored frames are
shared between compiled and uncompiled encoders. Devices, threads and batch sizes of extraction do not count either.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from emoshare.core.config import BackboneConfig, Config, DataConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.hashing import digest, folder_fingerprint
from emoshare.core.parts import parts_of
from emoshare.core.text import looked_in

VERSION = 1  # raise it when a default in core/config.py changes, or the code gives other numbers for the same identity

NEVER = (  # sections and keys that change no number of any run, or that a fingerprint stands for
    "paths", "logger", "sweep", "cache", "bench", "resume", "force",
    "data.name", "data.root", "data.train", "data.devel", "data.test", "data.unmasked", "data.wav", "data.targets",
    "data.clips", "data.seed", "data.habit", "data.workers", "data.max_mb",
    "data.groups", "data.metadata", "data.cluster",
    "backbone.name", "backbone.path", "backbone.revision", "backbone.parameters",
    "backbone.architecture", "backbone.licence",
    "trainer.device", "trainer.accelerator", "trainer.progress", "trainer.threads",
    "extract.max_batch_seconds", "extract.compile", "extract.workers",
)  # fmt: skip
UNUSED = {  # system → sections and keys that it does not read
    "mlp": ("head.select", "head.grid", "head.scalers", "head.losses"),
    "svr": (
        "loss", "optimizer", "trainer", "data.batch_size",
        "train.select", "train.average", "train.patience", "train.frame_mask", "train.mixup",
        "head.heads", "head.segment_seconds", "head.hop_seconds", "head.hidden", "head.norm", "head.activation",
        "head.dropout", "head.output",
    ),
}  # fmt: skip

HASHED_AS = {"train.refit": "head.refit"}  # keys that were renamed → the name that earlier runs were hashed by
WITHIN = ("seed", "data.fold")  # what the runs of a cell differ in


def identify(config: Config, corpus: str, checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Everything that a run's numbers depend on, JSON-able.

    Args:
        config: the run's; `head.name` names its system.
        corpus: the corpus's fingerprint.
        checkpoint: as `checkpoint_of` gives it.
    """
    counted = _counted(config, "", (*NEVER, *UNUSED.get(config.head.name, ())))
    if parts := parts_of(config.backbone):
        counted["backbone.parts"] = [_counted(part, "backbone.", NEVER) for part in parts]
    return {"version": VERSION, "corpus": corpus, "checkpoint": checkpoint, "config": counted}


def _counted(section: Any, prefix: str, left_out: Sequence[str]) -> dict[str, Any]:
    """The keys of a section that count, with their values."""
    return {
        HASHED_AS.get(key, key): _number(value)
        for key, value, default in _leaves(section, prefix)
        if value != default and not any(key == out or key.startswith(f"{out}.") for out in left_out)
    }


def called_now(key: str) -> str:
    """What a key of an identity is called in a config."""
    return next((now for now, hashed in HASHED_AS.items() if hashed == key), key)


def without_seed(identity: dict[str, Any]) -> dict[str, Any]:
    """The identity that the runs of a cell share: they differ in the seed alone, or in the fold that is devel."""
    return identity | {"config": {key: value for key, value in identity["config"].items() if key not in WITHIN}}


def short_hash(identity: dict[str, Any]) -> str:
    """8 hex characters, as they stand in the name of a run's folder."""
    return digest(identity, 8)


def sources_of(config: Config) -> dict[str, Any]:
    """`corpus` and `checkpoint`, the arguments of `identify` beside the config. Quick after a process's first call.

    Raises:
        EmoshareError: the corpus is not at hand and was never read before, or neither is a local checkpoint.
    """
    cache = Path(config.paths.cache)
    return {"corpus": _corpus_fingerprint(config.data, cache), "checkpoint": checkpoint_of(config.backbone, cache)}


def checkpoint_of(config: BackboneConfig, cache: Path) -> dict[str, Any]:
    """Hub name and revision of a checkpoint, or the fingerprint of its folder.

    Raises:
        EmoshareError: a local folder that is not there, and of which no fingerprint is remembered.
    """
    if parts := parts_of(config):
        return {"parts": [checkpoint_of(part, cache) for part in parts]}
    if config.path in ("tiny", config.type):  # built in
        return {"name": config.path}
    fingerprint = folder_fingerprint(Path(config.path), cache / "fingerprints")
    if fingerprint:
        return {"folder": fingerprint}
    if config.path.startswith(("/", ".", "~")):
        raise EmoshareError(
            f"backbone.path={config.path}: no such folder; name a checkpoint's folder or a hub model"
            f"{looked_in(config.path)}"
        )
    return {"name": config.path, "revision": config.revision}


def _leaves(section: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted key, value and default of every key of a config."""
    defaults = type(section)()
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", value, getattr(defaults, field.name)


def _number(value: Any) -> Any:
    """3.0 as 3, so that both are one value, as they are to the config."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


_KNOWN: dict[tuple[Any, ...], str] = {}  # corpora of this process: to look at 50,000 files takes a second


def _corpus_fingerprint(config: DataConfig, cache: Path) -> str:
    """The corpus's fingerprint, worked out again where a table or the folder of clips has changed."""
    from emoshare.data.corpus import fingerprint_of

    names = (config.train, config.devel, config.test, config.unmasked, config.wav, config.metadata)
    state = tuple(_stamp(Path(config.root).expanduser() / name) for name in names if name)
    key = (repr(config), str(cache.absolute()), state)
    if key not in _KNOWN:
        _KNOWN[key] = fingerprint_of(config, cache)
    return _KNOWN[key]
