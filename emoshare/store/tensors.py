"""Stored frames as tensors: those of one backbone, or of several, which are joined when a batch is gathered.

Nothing joined is written: each part's frames lie under a recipe of their own.

Shapes: N samples (or clips), B clips, T frames, width = D, or states × D, or the sum of the parts' widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from emoshare.models.joining import join, joined_counts
from emoshare.store.frames import FrameStore

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


class Extractor(Protocol):
    """Samples → frames, and all that an extraction has to know of it, resolved before anything is computed."""

    identity: dict[str, Any]  # of the backbone, down to its weights; JSON-able
    engine: str  # torch | openvino
    compute: str  # precision that it computes in: float32 | bfloat16 | float16
    precision: str  # of the stored frames: float16 | bfloat16 | float32
    device: torch.device
    width: int  # numbers per frame

    @property
    def batch_seconds(self) -> float:
        """Seconds of audio in a batch, padding included, at most."""

    @property
    def equal_lengths(self) -> bool:
        """Whether all clips of a batch must be equally long."""

    @property
    def sees_padding(self) -> bool:
        """Whether the zeros after a short clip change its frames."""

    def frame_counts(self, samples: np.ndarray) -> np.ndarray:
        """Samples of speech in the window (N,) → frames of each clip (N,)."""

    def __call__(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Samples (B, N) float32, samples of speech (B,) → frames (B, T, width), frames of each clip (B,)."""


class Joining(Extractor, Protocol):
    """An extractor of several backbones, whose frames are stored one by one and joined as they are read."""

    parts: Sequence[Extractor]
    normalized: bool  # each frame of a part over its features


@dataclass(frozen=True)
class TensorStore:
    """The frames of clips, whose batches are tensors."""

    store: FrameStore
    computed: int  # clips that this process has extracted for it

    @property
    def reused(self) -> bool:
        """Whether this process had nothing to compute."""
        return not self.computed

    @property
    def identity(self) -> dict[str, Any]:
        """Of the backbone that computed the frames."""
        return self.store.recipe.backbone

    @property
    def lengths(self) -> np.ndarray:
        """(N,) frames of each clip."""
        return self.store.lengths

    @property
    def width(self) -> int:
        """Numbers per frame."""
        return self.store.width

    @property
    def resolved(self) -> dict[str, str]:
        """Engine, precision that the backbone computed in, and precision of the stored frames."""
        recipe = self.store.recipe
        return {"engine": recipe.engine, "compute": recipe.compute, "stored": recipe.precision}

    @property
    def cost(self) -> dict[str, Any]:
        """What the frames are and what their extraction took, for results.json."""
        names = {"recipe": self.store.recipe.hash, "request": self.store.request.digest}
        return {**names, "reused": self.reused, "computed": self.computed, **self.store.cost}

    def gather(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Rows (B,) of the corpus-wide order → frames (B, T, width) in the stored precision, and lengths (B,)."""
        frames, lengths = self.store.gather(rows)
        return torch.from_numpy(frames).view(DTYPES[self.store.precision]), torch.from_numpy(lengths)

    def nbytes(self, rows: np.ndarray) -> int:
        """What the frames of rows take."""
        return int(self.store.lengths[rows].sum()) * self.store.recipe.frame_bytes


@dataclass(frozen=True)
class JoinedStore:
    """Stores of the same clips in the same order, by several backbones: serves what a `TensorStore` does."""

    extractor: Joining
    parts: list[TensorStore]

    @property
    def computed(self) -> int:
        """Clips that this process has extracted, of the part with the most of them."""
        return max(part.computed for part in self.parts)

    @property
    def reused(self) -> bool:
        return not self.computed

    @property
    def identity(self) -> dict[str, Any]:
        return self.extractor.identity

    @property
    def width(self) -> int:
        return self.extractor.width

    @cached_property
    def lengths(self) -> np.ndarray:
        """(N,) frames of each clip."""
        return joined_counts(torch.from_numpy(np.stack([part.lengths for part in self.parts]))).numpy()

    @property
    def resolved(self) -> dict[str, str]:
        return {"engine": self.extractor.engine, "compute": self.extractor.compute, "stored": self.extractor.precision}

    @property
    def cost(self) -> dict[str, Any]:
        """What the frames are and what their extraction took, for results.json: the sums, and each part's."""
        costs = [part.cost for part in self.parts]
        size, seconds = sum(cost["bytes"] for cost in costs), sum(cost["seconds"] for cost in costs)
        audio = costs[0]["audio_seconds"]
        return {
            "recipe": "+".join(cost["recipe"] for cost in costs), "request": "+".join(c["request"] for c in costs),
            "reused": self.reused, "computed": self.computed, "engine": self.extractor.engine,
            "clips": costs[0]["clips"], "bytes": size, "audio_seconds": audio, "seconds": seconds,
            "realtime": audio / seconds if seconds else None, "parts": costs,
        }  # fmt: skip

    def gather(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Rows (B,) → frames (B, T, width) float32, zeros after each clip's own, and lengths (B,)."""
        return join([part.gather(rows) for part in self.parts], self.extractor.normalized)

    def nbytes(self, rows: np.ndarray) -> int:
        """What the joined frames of rows take in memory."""
        return int(self.lengths[rows].sum()) * self.width * 4
