"""Stored frames as tensors: those of one backbone, or of several, which are joined when a batch is gathered.

Nothing joined is written: each part's frames lie under a recipe of their own.

Shapes: N samples (or clips), B clips, T frames, width = D, or states × D, or the sum of the parts' widths.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from emoshare.core.config import RATE
from emoshare.models.joining import join, joined_counts
from emoshare.store.frames import FrameStore
from emoshare.store.recipe import Recipe

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


class Extractor(Protocol):
    """Samples → frames, and all that an extraction has to know of it, resolved before anything is computed.

    One of several backbones has their extractors as `parts`, whose frames are stored one by one.
    """

    identity: dict[str, Any]  # of the backbone, down to its weights; JSON-able
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


def batch_size(sizes: Iterable[int], seconds: float, equal: bool) -> int:
    """The size of the first batch of clips, whose numbers of samples are in ascending order: at least one clip.

    Args:
        sizes: of each clip, padding included.
        seconds: of audio in a batch, at most.
        equal: whether clips of a batch must be equally long.
    """
    count, first = 0, None
    for count, size in enumerate(sizes, 1):
        if first is not None and (count * size > seconds * RATE or (equal and size != first)):
            return count - 1
        first = size if first is None else first
    return count


class TensorStore(FrameStore):
    """The frames of clips by one backbone, whose batches are tensors."""

    def gather(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Rows (B,) of the corpus-wide order → frames (B, T, width) in the stored precision, and lengths (B,)."""
        frames, lengths = self.arrays(rows)
        return torch.from_numpy(frames).view(DTYPES[self.recipe.precision]), torch.from_numpy(lengths)


class JoinedStore:
    """Stores of the same clips in the same order, by several backbones: serves what a `TensorStore` does."""

    def __init__(self, recipe: Recipe, parts: Sequence[TensorStore | JoinedStore]) -> None:
        """recipe: of the joined frames, which are not stored."""
        self.recipe, self.parts = recipe, parts
        self.computed: int = max(part.computed for part in parts)
        counts = torch.from_numpy(np.stack([part.lengths for part in parts]))  # (P, N)
        self.lengths: np.ndarray = joined_counts(counts).numpy()  # (N,)

    @property
    def cost(self) -> dict[str, Any]:
        """The size of the frames and the time of their extraction, for results.json: the sums, and each part's."""
        costs = [part.cost for part in self.parts]
        seconds, audio = sum(cost["seconds"] for cost in costs), costs[0]["audio_seconds"]
        return {
            **costs[0], **{key: "+".join(cost[key] for cost in costs) for key in ("recipe", "request")},
            "reused": not self.computed, "computed": self.computed,
            "bytes": sum(cost["bytes"] for cost in costs), "seconds": seconds,
            "realtime": audio / seconds if seconds else None, "parts": costs,
        }  # fmt: skip

    def gather(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Rows (B,) → frames (B, T, width) float32, zeros after each clip's own, and lengths (B,)."""
        return join([part.gather(rows) for part in self.parts], self.recipe.backbone["normalized"])

    def nbytes(self, rows: np.ndarray) -> int:
        """The bytes of the joined frames of rows in memory."""
        return int(self.lengths[rows].sum()) * self.recipe.frame_bytes
