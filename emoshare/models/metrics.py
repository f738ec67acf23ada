"""SCC, CCC, Pearson and Avg per emotion over a whole partition, as torchmetrics classes.

What they are of constant predictions or labels, and the mean over the targets, stands in `scores`.

Shapes: N clips, E emotions. torchmetrics' own concordance divides variances by n − 1 and is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities import dim_zero_cat

from emoshare.core.spread import is_constant
from emoshare.models import loss
from emoshare.models.scores import named, settle


def settled(scores: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
    """Scores (E,) of predictions and labels (N, E): 0 where the former are constant, NaN where the latter are."""
    constants = (is_constant(shares.cpu().numpy()) for shares in (predicted, true))
    return torch.from_numpy(settle(scores.cpu().numpy(), *constants)).to(scores)


def pearson(predicted: Tensor, true: Tensor) -> Tensor:
    """Pearson correlation of each column, (N, E) and (N, E) → (E,); constants as in `scores`."""
    dx, dy = predicted - predicted.mean(0), true - true.mean(0)
    r = (dx * dy).sum(0) / (dx.square().sum(0) * dy.square().sum(0)).sqrt()
    return settled(r.clamp(-1, 1), predicted, true)


def spearman(predicted: Tensor, true: Tensor) -> Tensor:
    """Spearman rank correlation of each column: Pearson of average ranks. (N, E), (N, E) → (E,)."""
    ranks = [torch.from_numpy(np.asarray(rankdata(t.cpu().numpy(), axis=0))) for t in (predicted, true)]  # (N, E) each
    return settled(pearson(*ranks).to(predicted.device), predicted, true)


def concordance(predicted: Tensor, true: Tensor) -> Tensor:
    """Lin's concordance of each column (`loss.concordance`), (N, E) and (N, E) → (E,); constants as in `scores`."""
    return settled(loss.concordance(predicted, true), predicted, true)


def average(predicted: Tensor, true: Tensor) -> Tensor:
    """Avg = (SCC + CCC) / 2, the paper's selection metric. (N, E), (N, E) → (E,)."""
    return (spearman(predicted, true) + concordance(predicted, true)) / 2


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


def emotion_scores(metrics: MetricCollection) -> dict[str, np.ndarray]:
    """Name → (E,) of `share_metrics`, for one emotion too, of which torchmetrics makes a number without axes."""
    return {name: values.reshape(-1).numpy() for name, values in metrics.compute().items()}


def score_table(predicted: np.ndarray, true: np.ndarray, targets: Sequence[str]) -> dict[str, dict[str, float]]:
    """`{metric: {"mean": …, emotion: …}}` of a whole partition, by the rules of `scores`.

    Args:
        predicted: (N, E).
        true: (N, E).
        targets: names of the E emotions.
    """
    metrics = share_metrics()
    metrics.update(torch.from_numpy(predicted), torch.from_numpy(true))
    return {name: named(values, targets) for name, values in emotion_scores(metrics).items()}
