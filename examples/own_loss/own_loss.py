"""A loss: the mean absolute error, but none within a margin that raters would not tell apart."""

from torch import Tensor


def tolerant_error(predicted: Tensor, true: Tensor, margin: float = 0.05) -> Tensor:
    """Shares (B, E) and (B, E) → a scalar."""
    return ((predicted - true).abs() - margin).clamp(min=0).mean()
