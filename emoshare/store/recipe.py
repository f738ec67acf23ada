"""A recipe: everything that stored frames depend on. Its hash is the name of their folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

VERSION = 1  # of the extraction code: raise it when the same recipe would give other frames
NAMES = ("name", "path", "revision", "commit", "pretrained", "seed")  # of a backbone; its frames hang on its weights
DISK = {"float16": np.float16, "bfloat16": np.uint16, "float32": np.float32}  # NumPy has no bfloat16


@dataclass(frozen=True)
class Recipe:
    """Everything that stored frames depend on, JSON-able."""

    corpus: str  # fingerprint of the audio in corpus order
    clips: int
    window: dict[str, Any]
    backbone: dict[str, Any]  # Backbone.identity, down to the weights
    precision: str  # of the stored frames
    compute: str  # of the backbone
    engine: str
    version: int = VERSION

    def to_dict(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self)))

    @property
    def hash(self) -> str:
        text = json.dumps(essence(self.to_dict()), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def width(self) -> int:
        """Numbers per frame: D, or (layers + 1) × D where all hidden states are kept."""
        states = self.backbone["layers"] + 1 if self.backbone["layer"] == "weighted" else 1
        return states * self.backbone["dim"]

    @property
    def frame_bytes(self) -> int:
        return self.width * np.dtype(DISK[self.precision]).itemsize


def essence(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe without the names of its backbone: equal weights give equal frames, wherever they were found."""
    return recipe | {"backbone": {k: v for k, v in recipe["backbone"].items() if k not in NAMES}}
