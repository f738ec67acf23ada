"""A recipe: everything that stored frames depend on. Its hash is the name of their folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from emoshare.core.config import hidden_states
from emoshare.core.hashing import digest

VERSION = 1  # of the extraction code: raise it when the same recipe would give other frames
# Keys of a backbone's identity that say where it came from: its frames depend on its weights.
PROVENANCE = ("name", "path", "revision", "commit", "pretrained", "seed")
DISK = {"float16": np.float16, "bfloat16": np.uint16, "float32": np.float32}  # NumPy has no bfloat16


@dataclass(frozen=True)
class Recipe:
    """Everything that stored frames depend on, JSON-able."""

    corpus: str  # fingerprint of the audio in corpus order
    clips: int
    window: dict[str, Any]
    backbone: dict[str, Any]  # its identity, down to the weights
    precision: str  # of the stored frames
    compute: str  # of the backbone
    engine: str
    version: int = VERSION

    def to_dict(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self)))

    @property
    def hash(self) -> str:
        return digest(without_provenance(self.to_dict()))

    @property
    def width(self) -> int:
        """Numbers per frame: D, or (layers + 1) × D where all hidden states are kept."""
        return hidden_states(self.backbone["layer"], self.backbone["layers"]) * self.backbone["dim"]

    @property
    def frame_bytes(self) -> int:
        return self.width * np.dtype(DISK[self.precision]).itemsize


def without_provenance(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe without the names of its backbone: equal weights give equal frames, wherever they were found."""
    return recipe | {"backbone": {k: v for k, v in recipe["backbone"].items() if k not in PROVENANCE}}
