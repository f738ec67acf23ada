"""A backbone ready for extraction: device, precision and batch size, resolved once before anything is computed.

The facts of a resolved backbone are noted in the cache, so that frames that are stored need no weights to be found.

Shapes: B clips, N samples or clips, T frames.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emoshare.backbones.base import Backbone, load_backbone
from emoshare.backbones.packed import place
from emoshare.core.config import FramesConfig, hidden_states
from emoshare.core.errors import EmoshareError
from emoshare.core.files import where_writable
from emoshare.core.hardware import free_memory, resolve_dtype
from emoshare.core.hashing import digest, read_sealed, write_sealed
from emoshare.core.kinds import is_outside
from emoshare.core.schema import declared_keys
from emoshare.core.version import version_of

SECOND_BYTES = 64 * 2**20  # rough memory that one second of audio takes on its way through a large backbone
CPU_SECONDS = 44.0  # 8 × 5.5 s keep two cores busy; more only takes memory
GPU_SECONDS = 640.0
VERSION = 2  # of what is noted: raise it when the same checkpoint gives other facts


@dataclass(frozen=True)
class Resolved:
    """The facts of a config's backbone on this machine, as the cache has them."""

    identity: dict[str, Any]  # of the backbone, down to its weights
    compute: str  # precision of the backbone: float32 | bfloat16 | float16


class BackboneExtractor:
    """Samples → frames, by a frozen backbone: an `Extractor` for the frame store. Loads its weights when needed."""

    def __init__(
        self, config: FramesConfig, device: torch.device, cache: Path, resolved: Resolved, note: Path,
        backbone: Backbone | None = None,
    ) -> None:  # fmt: skip
        """backbone: where its weights are loaded already, on the CPU."""
        self.config, self.device, self.cache, self.note = config, device, cache, note
        self._loaded = None if backbone is None else place(backbone, device)
        self.identity, self.compute = resolved.identity, resolved.compute
        self.precision: str = self.identity.get("stored") or config.extract.precision  # of the stored frames
        self.sees_padding = "mask" in self.identity  # the others take a clip's own samples alone
        self.width: int = self.identity["dim"] * hidden_states(self.identity["layer"], self.identity["layers"])

    @cached_property
    def batch_seconds(self) -> float:
        """Audio in a batch, at most. Measured at its first use, when the weights have their memory already."""
        _ = self.module
        return batch_seconds(self.config.extract.max_batch_seconds, self.device)

    @property
    def equal_lengths(self) -> bool:
        """Whether all clips of a batch must be equally long."""
        return self.module.equal_lengths

    def frame_counts(self, samples: np.ndarray) -> np.ndarray:
        """Samples of speech in the window (N,) → frames of each clip (N,)."""
        return self.module.frame_counts(samples)

    def __call__(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Samples (B, N) float32, samples of speech (B,) → frames (B, T, width), frames that count (B,)."""
        return self.module(waves.to(self.device), lengths)

    @property
    def module(self) -> Backbone:
        """The backbone on its device. Raises EmoshareError where it is no longer what was noted."""
        if self._loaded is None:
            backbone = frozen_backbone(self.config, self.device, self.cache)
            if backbone.identity != self.identity:
                name = self.identity["name"]
                raise EmoshareError(f"{self.note}: notes another {name} than was loaded; delete it and run again")
            self._loaded = place(backbone, self.device)
        return self._loaded


def resolve(config: FramesConfig, device: torch.device, cache: Path) -> BackboneExtractor:
    """The extractor of a config's backbone and window, frozen, on a device.

    Loads the weights unless an earlier call has noted what comes of them.
    Raises EmoshareError for a precision that the device hasn't, and what `load_backbone` raises.
    """
    resolve_dtype(config.extract.compute, device)
    if made := config.backbone.extractor(config, device, cache):
        return made
    if is_outside(config.backbone):  # what it gives may depend on more than can be noted: always loaded
        backbone = frozen_backbone(config, device, cache)
        resolved = Resolved(backbone.identity, compute_of(backbone, config, device))
        return BackboneExtractor(config, device, cache, resolved, cache, backbone)
    config = replace(config, backbone=config.backbone.settle_from(config.window))
    note = note_path(config, device, cache)
    if note.exists():
        facts = read_sealed(note, "delete it and run the command again")
        try:
            resolved = Resolved(**facts)
        except TypeError as error:
            raise EmoshareError(f"{note}: not what was noted ({error}); delete it and run the command again") from error
        return BackboneExtractor(config, device, cache, resolved, note)
    backbone = frozen_backbone(config, device, cache)
    resolved = Resolved(backbone.identity, compute_of(backbone, config, device))
    with where_writable():
        write_sealed(note, asdict(resolved))
    return BackboneExtractor(config, device, cache, resolved, note, backbone)


def compute_of(backbone: Backbone, config: FramesConfig, device: torch.device) -> str:
    """The precision that a backbone computes in."""
    return "float32" if backbone.float32_only else precision_name(resolve_dtype(config.extract.compute, device))


def frozen_backbone(config: FramesConfig, device: torch.device, cache: Path) -> Backbone:
    """The config's backbone, frozen, in the precision that it computes in."""
    return load_backbone(
        config.backbone.for_store(), config.window, resolve_dtype(config.extract.compute, device), config.seed, cache
    )


def batch_seconds(wanted: str, device: torch.device) -> float:
    """Audio seconds in a batch: as wanted, or what memory holds and compute has use for."""
    if wanted == "auto":
        share, most = (1, GPU_SECONDS) if device.type == "cuda" else (4, CPU_SECONDS)
        return min(free_memory(device) / share / SECOND_BYTES, most)
    try:
        seconds = float(wanted)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise EmoshareError(f"extract.max_batch_seconds={wanted}: must be auto or seconds of audio greater than 0")
    return seconds


def note_path(config: FramesConfig, device: torch.device, cache: Path) -> Path:
    """The path of the note of a backbone's facts.

    It depends on the config, the code, the libraries, the kind of device, and the size and time of every file of the
    checkpoint.
    """
    folder = config.backbone.checkpoint
    files = sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in folder.iterdir()) if folder else []
    tuned = {name for name, declared in declared_keys(type(config.backbone)).items() if declared.key.only}
    section = {name: value for name, value in asdict(config.backbone.for_store()).items() if name not in tuned}
    seed = config.seed if config.backbone.seeded else None
    window = (config.window.pad, config.window.normalize)
    asked = (device.type, str(resolve_dtype(config.extract.compute, device)))
    versions = [version_of(name) for name in ("torch", "transformers", "opensmile")]
    versions.append(config.backbone.version())
    key = [VERSION, section, seed, window, asked, versions, str(folder), files]
    return cache / "identities" / f"{digest(key)}.json"


def precision_name(dtype: torch.dtype) -> str:
    """The type's name: float32 | bfloat16 | float16."""
    return str(dtype).removeprefix("torch.")
