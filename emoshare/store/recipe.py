"""The dependencies of stored frames: a recipe, and the samples that the backbone sees of a clip, as a key.

The hash of a recipe is the name of a store's folder; a key is the name of a clip's frames in it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emoshare.core.config import hidden_states
from emoshare.core.errors import EmoshareError
from emoshare.core.files import read_json
from emoshare.core.hashing import digest
from emoshare.data import audio

VERSION = 3  # of the extraction code and of the files: raise it when the same recipe would give other frames
# Keys of a backbone's identity that say where it came from: its frames depend on its weights.
PROVENANCE = ("name", "path", "revision", "commit", "pretrained", "seed")
DISK = {"float16": np.float16, "bfloat16": np.uint16, "float32": np.float32}  # NumPy has no bfloat16
KEY_BYTES = 16


@dataclass(frozen=True)
class Recipe:
    """Everything that stored frames depend on beside the samples, JSON-able."""

    backbone: dict[str, Any]  # its identity, down to the weights
    precision: str  # of the stored frames
    compute: str  # of the backbone
    version: int = VERSION

    def to_dict(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self)))

    @property
    def hash(self) -> str:
        return digest(self.to_dict() | {"backbone": without_provenance(self.backbone)})

    @property
    def precisions(self) -> dict[str, str]:
        """Precision that the backbone computed in, and precision of the stored frames."""
        return {"compute": self.compute, "stored": self.precision}

    @property
    def width(self) -> int:
        """Numbers per frame: D, or (layers + 1) × D where all hidden states are kept."""
        return hidden_states(self.backbone["layer"], self.backbone["layers"]) * self.backbone["dim"]

    @property
    def frame_bytes(self) -> int:
        return self.width * np.dtype(DISK[self.precision]).itemsize


def without_provenance(identity: dict[str, Any]) -> dict[str, Any]:
    """The identity of a backbone, or of several, without names: equal weights give equal frames, wherever found."""
    facts = {key: value for key, value in identity.items() if key not in PROVENANCE}
    return facts | {"parts": [without_provenance(part) for part in facts["parts"]]} if "parts" in facts else facts


def check_recipe(folder: Path, recipe: Recipe) -> None:
    """Raise EmoshareError unless the recipe beside the data is this one."""
    path, remedy = folder / "recipe.json", f"delete {folder} and extract again"
    expected, stored = recipe.to_dict(), read_json(path, remedy)
    for content in (expected, stored):
        if isinstance(content.get("backbone"), dict):
            content["backbone"] = without_provenance(content["backbone"])
    if keys := sorted(key for key in expected.keys() | stored.keys() if stored.get(key) != expected.get(key)):
        raise EmoshareError(f"{path}: another recipe ({', '.join(keys)} differ); {remedy}")


def sample_key(sha256: bytes, start: int, kept: int, padded: int, scale: float | None = None) -> bytes:
    """The key of the samples that a backbone sees, 16 bytes; equal keys mean equal samples.

    Args:
        sha256: of the sound file's bytes.
        start: the first sample at 16 kHz that is seen.
        kept: how many are.
        padded: how many there are with the zeros after them; `kept` where these change no frame.
        scale: of files of floats, as for `audio.read`.
    """
    text = f" {audio.RULES} {start} {kept} {padded}{f' {scale:.9g}' if scale else ''}".encode()
    return hashlib.sha256(sha256 + text).digest()[:KEY_BYTES]
