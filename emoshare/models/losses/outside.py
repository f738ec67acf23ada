"""A loss of the user's own: a function `(predicted, true, **options) -> scalar` of shares (B, E), float32 both.

Or a class: its object, made as `MyLoss(**options)`, is called with the two.

An attribute `least_batch` says how many clips a batch must have. Parameters of an nn.Module are trained with the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from emoshare.core.bases import LossOptions
from emoshare.core.errors import EmoshareError
from emoshare.core.kinds import Outside
from emoshare.core.outside import complete, crash, is_library, source_hash

if TYPE_CHECKING:
    from emoshare.core.config import Config


@dataclass
class Options(Outside, LossOptions):
    """Its dotted name and its options."""

    def settle(self, prefix: str) -> None:
        loss = self.load_target()
        given = 0 if isinstance(loss, type) else 2  # predicted and true
        self.options = complete(loss, self.options, given, prefix, self._target_)
        self._source_ = None if is_library(loss) else source_hash(loss)

    @property
    def least_batch(self) -> int:
        with suppress(EmoshareError):  # it cannot be imported, which is told where that is tried first
            return int(getattr(self.load_target(), "least_batch", 1))
        return 1

    def make(self, means: Sequence[float] = ()) -> Any:
        from emoshare.models.loss import OutsideLoss

        loss = self.load_target()
        return OutsideLoss(loss(**self.options)) if isinstance(loss, type) else OutsideLoss(loss, self.options)

    def check(self, config: Config) -> None:
        """Raise EmoshareError unless it gives a finite scalar and gradients for a batch as training has it."""
        import torch

        clips, targets = config.data.batch_size, len(config.data.targets)
        with torch.random.fork_rng(devices=[]):
            predicted, true = torch.rand(clips, targets, requires_grad=True), torch.rand(clips, targets)
            try:
                loss = self.make()(predicted, true)
            except Exception as error:
                raise crash(error, f"{self._target_} on shares ({clips}, {targets})") from error
            if problem := _problem_of(loss):
                raise EmoshareError(f"loss._target_={self._target_}: {problem}")
            loss.backward()
        if predicted.grad is None or not predicted.grad.isfinite().all():
            what = "no" if predicted.grad is None else "infinite"
            raise EmoshareError(
                f"loss._target_={self._target_}: has {what} gradients of the predicted shares; compute it from "
                "them by differentiable operations of PyTorch"
            )


def _problem_of(loss: Any) -> str:
    """The reason that a loss's value cannot be trained with; empty where it can."""
    import torch

    if not isinstance(loss, torch.Tensor):
        return f"gives {type(loss).__name__}; it must give a tensor, the mean over the batch"
    if loss.ndim:
        return f"gives the shape {tuple(loss.shape)}; it must give a scalar, as by .mean()"
    if not loss.isfinite():
        return f"gives {loss.item()} for shares between 0 and 1; it must give a finite number"
    if not loss.requires_grad:
        return "has no gradient; compute it from the predicted shares by differentiable operations of PyTorch"
    return ""
