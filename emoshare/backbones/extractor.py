"""A backbone ready for extraction: device, engine, precision and batch size, resolved once before anything is computed.

What a backbone came to is noted under the cache, so that frames that are stored need no weights to be found.

Shapes: B clips, N samples or clips, T frames.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emoshare.backbones.base import Backbone, load_backbone
from emoshare.backbones.engine import (
    ConversionError,
    Engine,
    batch_seconds,
    check_engine,
    choose_engine,
    make_engine,
)
from emoshare.core.config import Config, hidden_states
from emoshare.core.errors import EmoshareError
from emoshare.core.files import where_writable
from emoshare.core.hardware import resolve_dtype
from emoshare.core.hashing import digest, read_sealed, write_sealed
from emoshare.core.kinds import is_outside

log = logging.getLogger("emoshare")

VERSION = 1  # of what is noted: raise it when the same checkpoint comes to something else
UNNOTED = (  # keys of backbone that change no stored frame
    "frozen", "cache", "specaugment", "layerdrop", "licence", "trainable_layers", "lora", "gradient_checkpointing",
)  # fmt: skip


@dataclass(frozen=True)
class Resolved:
    """What a config's backbone came to on this machine, as it is noted under the cache."""

    identity: dict[str, Any]  # of the backbone, down to its weights
    engine: str  # torch | openvino
    compute: str  # precision of the backbone: float32 | bfloat16 | float16
    failure: str | None = None  # why OpenVINO could not convert it, where `auto` would have chosen it


class BackboneExtractor:
    """Samples → frames, by a frozen backbone: an `Extractor` for the frame store. Loads its weights when needed."""

    def __init__(self, config: Config, device: torch.device, cache: Path, resolved: Resolved, note: Path) -> None:
        self.config, self.device, self.cache, self.note = config, device, cache, note
        self.identity, self.engine, self.compute = resolved.identity, resolved.engine, resolved.compute
        self.precision: str = self.identity.get("stored") or config.extract.precision  # of the stored frames
        self.sees_padding = "mask" in self.identity  # the others take a clip's own samples alone
        self.width: int = self.identity["dim"] * hidden_states(self.identity["layer"], self.identity["layers"])

    @cached_property
    def batch_seconds(self) -> float:
        """Audio in a batch, at most. Measured at its first use, when the weights have their memory already."""
        _ = self.loaded
        return batch_seconds(self.config.extract.max_batch_seconds, self.device)

    @property
    def equal_lengths(self) -> bool:
        """Whether all clips of a batch must be equally long."""
        return self.loaded[0].equal_lengths

    def frame_counts(self, samples: np.ndarray) -> np.ndarray:
        """Samples of speech in the window (N,) → frames of each clip (N,)."""
        return self.loaded[0].frame_counts(samples)

    def __call__(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Samples (B, N) float32, samples of speech (B,) → frames (B, T, width), frames that count (B,)."""
        return self.loaded[1](waves, lengths)

    @cached_property
    def loaded(self) -> tuple[Backbone, Engine]:
        """The backbone and its engine.

        Raises EmoshareError where they are no longer what was noted, or OpenVINO converts it no longer.
        """
        backbone = frozen_backbone(self.config, self.device, self.cache)
        if backbone.identity != self.identity:
            name = self.identity["name"]
            raise EmoshareError(f"{self.note}: notes another {name} than was loaded; delete it and run again")
        return backbone, engine_of(backbone, self.engine, self.config, self.device, self.cache)


def resolve(config: Config, device: torch.device, cache: Path) -> BackboneExtractor:
    """The extractor of a config's backbone and window, frozen, on a device.

    Loads the weights, and converts them where the engine wants it, unless an earlier call has noted what comes of it.
    Raises EmoshareError for an engine or a precision that the device hasn't, and what `load_backbone` raises.
    """
    check_engine(config.extract.engine, device)
    resolve_dtype(config.extract.compute, device)
    if is_outside(config.backbone):  # what it gives may depend on more than can be noted: always loaded
        backbone = frozen_backbone(config, device, cache)
        compute = compute_of(backbone, config, device)
        extractor = BackboneExtractor(config, device, cache, Resolved(backbone.identity, "torch", compute), cache)
        extractor.__dict__["loaded"] = backbone, engine_of(backbone, "torch", config, device, cache)
        return extractor
    config = replace(config, backbone=config.backbone.settle_from(config.window))
    note = note_path(config, device, cache)
    if note.exists():
        found = read_sealed(note, "delete it and run the command again")
        try:
            resolved = Resolved(**found)
        except TypeError as error:
            raise EmoshareError(f"{note}: not what was noted ({error}); delete it and run the command again") from error
        if resolved.failure:
            said = (resolved.identity["name"], resolved.failure, note)
            log.warning("OpenVINO can't convert %s (%s): PyTorch computes its frames; delete %s to try again", *said)
        return BackboneExtractor(config, device, cache, resolved, note)
    backbone = frozen_backbone(config, device, cache)
    engine, failure = first_engine(backbone, config, device, cache)
    compute = compute_of(backbone, config, device)
    resolved = Resolved(backbone.identity, engine.name, compute, failure.reason if failure else None)
    if failure is None or failure.lasting:
        with where_writable():
            write_sealed(note, asdict(resolved))
    extractor = BackboneExtractor(config, device, cache, resolved, note)
    extractor.__dict__["loaded"] = backbone, engine
    return extractor


def compute_of(backbone: Backbone, config: Config, device: torch.device) -> str:
    """The precision that a backbone computes in."""
    return "float32" if backbone.float32_only else precision_name(resolve_dtype(config.extract.compute, device))


def frozen_backbone(config: Config, device: torch.device, cache: Path) -> Backbone:
    """The config's backbone, frozen, in the precision that it computes in."""
    return load_backbone(
        config.backbone.for_store(), config.window, resolve_dtype(config.extract.compute, device), config.seed, cache
    )


def first_engine(
    backbone: Backbone, config: Config, device: torch.device, cache: Path
) -> tuple[Engine, ConversionError | None]:
    """The engine that extract.engine stands for; PyTorch with a warning where `auto` can't convert, and why."""
    wanted = config.extract.engine
    try:
        return engine_of(backbone, choose_engine(wanted, device, backbone), config, device, cache), None
    except ConversionError as error:
        if wanted == "openvino":
            raise
        log.warning("OpenVINO can't convert %s (%s): PyTorch computes its frames", error.name, error.reason)
        return engine_of(backbone, "torch", config, device, cache), error


def engine_of(backbone: Backbone, name: str, config: Config, device: torch.device, cache: Path) -> Engine:
    dtype = resolve_dtype(config.extract.compute, device)
    return make_engine(backbone, name, device, dtype, cache, config.extract.compile == "true")


def note_path(config: Config, device: torch.device, cache: Path) -> Path:
    """Where it is noted what a backbone came to.

    It depends on the config, the code, the libraries, the kind of device, and the size and time of every file of the
    checkpoint.
    """
    folder = config.backbone.checkpoint
    files = sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in folder.iterdir()) if folder else []
    section = {k: v for k, v in asdict(config.backbone).items() if k not in UNNOTED}
    seed = config.seed if config.backbone.seeded else None
    window = (config.window.pad, config.window.normalize)
    asked = (config.extract.engine, device.type, str(resolve_dtype(config.extract.compute, device)))
    versions = [version_of(name) for name in ("torch", "transformers", "openvino", "opensmile")]
    versions.append(config.backbone.version())
    key = [VERSION, section, seed, window, asked, versions, str(folder), files]
    return cache / "identities" / f"{digest(key)}.json"


def version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def precision_name(dtype: torch.dtype) -> str:
    """float32 | bfloat16 | float16"""
    return str(dtype).removeprefix("torch.")
