"""SCC, CCC, Pearson and Avg per emotion over a whole partition, as torchmetrics classes.

Shapes: N clips, E emotions. torchmetrics' own concordance divides variances by n − 1 and is not used.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities import dim_zero_cat

from emoshare.models.loss import concordance


def pearson(x: Tensor, y: Tensor) -> Tensor:
    """Pearson correlation of each column, (N, E) and (N, E) → (E,); NaN where a column is constant."""
    dx, dy = x - x.mean(0), y - y.mean(0)
    r = (dx * dy).sum(0) / (dx.square().sum(0) * dy.square().sum(0)).sqrt()
    constant = (x == x[:1]).all(0) | (y == y[:1]).all(0)  # rounding in the mean can hide a zero variance
    return torch.where(constant, torch.nan, r.clamp(-1, 1))


def spearman(x: Tensor, y: Tensor) -> Tensor:
    """Spearman rank correlation of each column: Pearson of average ranks. (N, E), (N, E) → (E,)."""
    ranks = [torch.from_numpy(np.asarray(rankdata(t.cpu().numpy(), axis=0))) for t in (x, y)]  # (N, E) each
    return pearson(*ranks).to(x.device)


def average(x: Tensor, y: Tensor) -> Tensor:
    """Avg = (SCC + CCC) / 2, the paper's selection metric. (N, E), (N, E) → (E,)."""
    return (spearman(x, y) + concordance(x, y)) / 2


class PartitionMetric(Metric):
    """Collects the shares of a partition, (B, E) at a time, and scores each emotion over all of it."""

    score: Callable[[Tensor, Tensor], Tensor]  # (N, E), (N, E) → (E,)
    full_state_update = False
    predicted: list[Tensor]
    true: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("predicted", default=[], dist_reduce_fx="cat")
        self.add_state("true", default=[], dist_reduce_fx="cat")

    def update(self, predicted: Tensor, true: Tensor) -> None:
        self.predicted.append(predicted.detach())
        self.true.append(true.detach())

    def compute(self) -> Tensor:
        """(E,) in float64, on the CPU: Apple's GPUs have no such numbers."""
        return self.score(*(dim_zero_cat(shares).cpu().double() for shares in (self.predicted, self.true)))


class SCC(PartitionMetric):
    """Spearman's rank correlation coefficient."""

    score = staticmethod(spearman)


class CCC(PartitionMetric):
    """Lin's concordance correlation coefficient."""

    score = staticmethod(concordance)


class Pearson(PartitionMetric):
    """Pearson's correlation coefficient."""

    score = staticmethod(pearson)


class Avg(PartitionMetric):
    """(SCC + CCC) / 2."""

    score = staticmethod(average)


def share_metrics() -> MetricCollection:
    """The four metrics on one shared state, as names → (E,) tensors."""
    return MetricCollection({"scc": SCC(), "ccc": CCC(), "pearson": Pearson(), "avg": Avg()})


def emotion_scores(metrics: MetricCollection) -> dict[str, Tensor]:
    """Name → (E,) of `share_metrics`, for one emotion too, of which torchmetrics makes a number without axes."""
    return {name: values.reshape(-1) for name, values in metrics.compute().items()}


def score_table(predicted: np.ndarray, true: np.ndarray, targets: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """`{metric: {"mean": …, emotion: …}}` of a whole partition; the mean is NaN as soon as one emotion's is.

    Args:
        predicted: (N, E).
        true: (N, E).
        targets: names of the E emotions.
    """
    metrics = share_metrics()
    metrics.update(torch.from_numpy(predicted), torch.from_numpy(true))
    return {
        name: {"mean": values.mean().item(), **dict(zip(targets, values.tolist(), strict=True))}
        for name, values in emotion_scores(metrics).items()
    }
