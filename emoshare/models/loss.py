"""Losses per emotion over the batch; CCC is that of `metrics/agreement.py`, which metric and report share.

Shapes: N clips, E emotions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from emoshare.metrics.agreement import concordance


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


class ShareLoss(nn.Module):
    """Weighted mix of 1 − CCC, mean squared and mean absolute error, each per emotion, then averaged."""

    def __init__(self, weights: Any) -> None:
        """weights: the options of `losses/mix.py`."""
        super().__init__()
        self.weights = weights

    def forward(self, predicted: Tensor, true: Tensor) -> Tensor:
        """(N, E) and (N, E) → scalar, in float32."""
        predicted, true = predicted.float(), true.float()
        difference = predicted - true
        total = predicted.new_zeros(())
        if self.weights.ccc:
            agreement = released_concordance if self.weights.released else concordance
            total = total + self.weights.ccc * (1 - agreement(true, predicted, epsilon=1e-8)).mean()
        if self.weights.mse:
            total = total + self.weights.mse * difference.square().mean()
        if self.weights.mae:
            total = total + self.weights.mae * difference.abs().mean()
        return total


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
