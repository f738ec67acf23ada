"""An encoder compiled by torch.compile for batches of one shape, where the user asks for it (`extract.compile`).

On a CPU Inductor's freezing takes the weights for constants, and packs them. What comes before the layers
(`LayeredEncoder.front`) is not compiled.

Shapes: B clips, T frames.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class CompiledEncoder:
    """As the encoder, for inputs of the shape of `example` and at most as many clips.

    Compiled at its first call, which may raise whatever the compiler raises.
    """

    def __init__(self, encoder: Any, example: Tensor, mask: Tensor | None) -> None:
        self.encoder = encoder
        self.clips, self.shape, self.masked = len(example), example.shape[1:], mask is not None
        self.context = torch.compile(encoder.context, dynamic=False)

    def takes(self, inputs: Tensor, mask: Tensor | None) -> bool:
        """Whether a batch has the shape; of less than half of the clips it is computed sooner as it is."""
        same = inputs.shape[1:] == self.shape and (mask is not None) == self.masked
        return same and self.clips < 2 * len(inputs) <= 2 * self.clips

    def __call__(self, inputs: Tensor, mask: Tensor | None) -> Tensor:
        """Inputs of B clips and their mask → frames (B, T, width). Missing clips are filled up with zeros."""
        missing = self.clips - len(inputs)
        hidden = filled(self.encoder.front(inputs), missing, 0.0)
        mask = None if mask is None else filled(mask, missing, True)
        with freezing():
            return self.context(hidden, mask)[: len(inputs)]


def filled(rows: Tensor, missing: int, value: float) -> Tensor:
    """With so many more rows of a value at the end."""
    return torch.cat([rows, rows.new_full((missing, *rows.shape[1:]), value)]) if missing else rows


@contextmanager
def freezing() -> Iterator[None]:
    """Compile with weights as constants; the compiler's remarks on other people's code are of no use to ours."""
    from torch._inductor import config

    with config.patch(freezing=True), torch.no_grad(), warnings.catch_warnings(action="ignore"):
        yield
