"""Losses of predicted shares; CCC is that of `metrics/agreement.py`, which metric and report share.

Shapes: N clips, E emotions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from emoshare.metrics.agreement import concordance

EPSILON = 1e-7  # a predicted share counts as at least, where its logarithm is taken: float32 holds no 1 − 1e-8


def released_concordance(true: Tensor, predicted: Tensor, epsilon: float = 0.0) -> Tensor:
    """CCC as the paper's released code computes it, of each column; only for repeating that code's training.

        CCC = 2 s_xy / (v_x + v_y + (μ_x − μ_y)²)

    with the covariance s_xy divided by n and the variances v by n − 1 (github.com/bagustris/compare2023_share). So
    perfect predictions score (n − 1) / n: 0.875 in a batch of 8.

    Args:
        true: (N, E), N of 2 or more.
        predicted: (N, E).
        epsilon: added to the denominator, which that code does not: two equal constants give it NaN.

    Returns:
        (E,) values.
    """
    x, y = predicted, true
    covariance = ((x - x.mean(0)) * (y - y.mean(0))).mean(0)  # (E,)
    spread = x.var(0) + y.var(0) + (x.mean(0) - y.mean(0)).square()
    return 2 * covariance / (spread + epsilon)


def distributions(shares: Tensor) -> Tensor:
    """Each clip's shares (N, E) divided by their sum; NaN where all are 0."""
    return shares / shares.sum(1, keepdim=True)


def kl_terms(true: Tensor, predicted: Tensor) -> Tensor:
    """(N, E): what each target adds to the Kullback-Leibler divergence KL(true ‖ predicted), in nats.

        t log(t / p) − t + p

    of distributions t and p: no term is negative, and the last two add up to 0 (Kullback and Leibler, 1951; as a sum of
    such terms Csiszár, 1991).
    """
    return torch.xlogy(true, true) - true * logarithm(predicted) - true + predicted


def js_terms(true: Tensor, predicted: Tensor) -> Tensor:
    """(N, E): what each target adds to the Jensen-Shannon divergence, in nats, at most log 2 in all (Lin, 1991).

    ½ KL(t ‖ m) + ½ KL(p ‖ m) with m = ½ (t + p); no term is negative.
    """
    middle = (true + predicted) / 2
    return (kl_terms(true, middle) + kl_terms(predicted, middle)) / 2


def cross_entropy(true: Tensor, predicted: Tensor, gamma: float = 0.0) -> Tensor:
    """(N, E): −|t − p|^γ (t log p + (1 − t) log(1 − p)), in nats.

    γ = 0: binary cross-entropy with soft labels. γ > 0: the focal form for soft labels (quality focal loss, Li et al.,
    2020, "Generalized focal loss", equation 2).
    """
    entropy = -(true * logarithm(predicted) + (1 - true) * logarithm(1 - predicted))
    return entropy if gamma == 0 else (true - predicted).abs().clamp(min=EPSILON).pow(gamma) * entropy


def logarithm(values: Tensor) -> Tensor:
    return values.clamp(min=EPSILON).log()


class ShareLoss(nn.Module):
    """Weighted mix of losses, each the mean over clips and targets, those of distributions over clips alone."""

    weights: Tensor | None  # (E,) of mean 1

    def __init__(self, options: Any, weights: Sequence[float] | None = None) -> None:
        """options: those of `losses/mix.py`. weights: of the targets, on any scale."""
        super().__init__()
        self.options = options
        scaled = None if weights is None else torch.tensor(weights, dtype=torch.float32)
        self.register_buffer("weights", None if scaled is None else scaled / scaled.mean(), persistent=False)

    def forward(self, predicted: Tensor, true: Tensor) -> Tensor:
        """(N, E) and (N, E) → scalar, in float32."""
        predicted, true, options = predicted.float(), true.float(), self.options
        total = predicted.new_zeros(())
        if options.ccc:
            agreement = released_concordance if options.released else concordance
            total = total + options.ccc * self.weigh(1 - agreement(true, predicted, epsilon=1e-8)).mean()
        if options.mse:
            total = total + options.mse * self.weigh((predicted - true).square()).mean()
        if options.mae:
            total = total + options.mae * self.weigh((predicted - true).abs()).mean()
        if options.bce:
            total = total + options.bce * self.weigh(cross_entropy(true, predicted)).mean()
        if options.focal_bce:
            total = total + options.focal_bce * self.weigh(cross_entropy(true, predicted, options.gamma)).mean()
        if options.kl or options.js:
            total = total + self.divergence(predicted, true)
        return total

    def divergence(self, predicted: Tensor, true: Tensor) -> Tensor:
        """A divergence of distributions, over the clips that have one: whose true shares are not all 0."""
        known = true.sum(1) > 0
        t = distributions(true.where(known[:, None], torch.ones_like(true)))
        p = distributions(predicted.clamp(min=EPSILON))
        terms = predicted.new_zeros(true.shape)
        if self.options.kl:
            terms = terms + self.options.kl * kl_terms(t, p)
        if self.options.js:
            terms = terms + self.options.js * js_terms(t, p)
        return (self.weigh(terms).sum(1) * known).sum() / known.sum().clamp(min=1)

    def weigh(self, values: Tensor) -> Tensor:
        """(…, E), each target by its weight."""
        return values if self.weights is None else values * self.weights


class OutsideLoss(nn.Module):
    """A loss of the user's own, called as ours is."""

    def __init__(self, function: Callable[..., Any], options: Mapping[str, Any] | None = None) -> None:
        """function: predicted, true (B, E) → scalar. options: that it gets by name."""
        super().__init__()
        self.function, self.options = function, dict(options or {})  # a function that is an nn.Module is a part of this

    def forward(self, predicted: Tensor, true: Tensor) -> Tensor:
        """(B, E) and (B, E) → scalar, in float32."""
        loss: Tensor = self.function(predicted.float(), true.float(), **self.options)
        return loss
