"""An encoder compiled for batches of one shape: on a CPU, PyTorch close to the speed of its matrix products.

Inductor's freezing takes the weights for constants and packs each of them once, for one shape, into the layout that
the processor multiplies. What comes before the layers (`LayeredEncoder.front`) is not compiled.

Shapes: B clips, T frames.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger("emoshare")

# Measured with the architecture of hubert_large, 8 windows of 5.5 s, on an AMD EPYC with AVX-512 BF16: the processor's
# seconds of one thread fall by 5 %; two threads on a quiet machine were measured to save 18 %. In float32 none.
GAIN = {torch.bfloat16: 0.05}  # share of a batch's time that compiling saves, the lower of both
FIXED_SECONDS, LAYER_SECONDS = 10.0, 1.5  # that compiling takes, and what every layer adds to them
MARGIN = 2.0  # the time saved is to be so many times that of compiling


def worth_compiling(clips: int, seconds: float, layers: int, dtype: torch.dtype) -> bool:
    """Whether clips that take so many seconds each, uncompiled, save clearly more time than compiling takes.

    With C clips of s seconds and L layers: GAIN · C · s > MARGIN · (FIXED_SECONDS + L · LAYER_SECONDS).
    `dtype`: what is computed in.
    """
    return GAIN.get(dtype, 0.0) * clips * seconds > MARGIN * (FIXED_SECONDS + LAYER_SECONDS * layers)


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
