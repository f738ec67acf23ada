"""Predictions of a partition, kept until all of its batches are there."""

from __future__ import annotations

import torchmetrics
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat


class Predictions(torchmetrics.Metric):
    """Predicted and true shares of a partition: a correlation of all its clips is no mean over its batches."""

    full_state_update = False
    predicted: list[Tensor]
    true: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("predicted", [], dist_reduce_fx="cat")
        self.add_state("true", [], dist_reduce_fx="cat")

    def update(self, predicted: Tensor, true: Tensor) -> None:
        """Add those of a batch, (B, E) each."""
        self.predicted.append(predicted)
        self.true.append(true)

    def compute(self) -> tuple[Tensor, Tensor]:
        """All of them, (N, E) each, in the order of their batches."""
        return dim_zero_cat(self.predicted), dim_zero_cat(self.true)
