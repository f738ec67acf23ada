"""The base classes of the options of losses, optimizers and trackers, which those of their rooms extend."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from emoshare.core.kinds import DEFAULTS, Options
from emoshare.core.schema import MANY, key

TRAINED = {"backbone.frozen": (False,)}  # with which keys of a backbone's training are read (`schema.Key.only`)
PLATEAU = {"optimizer.schedule": ("plateau",)}


@dataclass
class LossOptions(Options):
    """The options of a loss."""

    name: str = key("mix", "the loss")

    @property
    def least_batch(self) -> int:
        """Clips that a batch must have."""
        return 1

    def make(self, means: Sequence[float] = ()) -> Any:
        """An nn.Module: predicted and true shares (B, E) → scalar. means: of the targets' shares in train."""
        raise NotImplementedError


@dataclass
class OptimizerOptions(Options):
    """The options that every optimizer has."""

    name: str = key(DEFAULTS["optimizer"], "the optimizer")
    lr: float = key(1e-3, "learning rate of the head", more_than=0)
    weight_decay: float = key(1e-3, "weight decay", at_least=0)
    backbone_lr: float = key(1e-5, "learning rate of a backbone that is trained", more_than=0, only=TRAINED)
    schedule: str = key(
        "plateau", "course of the rates: plateau (by factor and patience), cosine (to 0 in the last epoch), constant",
        choices=("plateau", "cosine", "constant"),
    )  # fmt: skip
    warmup: float = key(0.0, "in which the rates rise linearly from 0", unit="epochs", at_least=0, at_most=MANY)
    layer_decay: float = key(
        1.0, "factor of backbone_lr for every layer above", more_than=0, at_most=1,
        only=TRAINED,
    )  # fmt: skip
    factor: float = key(
        0.5, "factor of the learning rate on a plateau", at_least=0, less_than=1, only=PLATEAU,
    )  # fmt: skip
    patience: int = key(
        5, "epochs without a better devel score before the rates are reduced", at_least=0, at_most=MANY, only=PLATEAU,
    )  # fmt: skip
    clip: float | None = key(
        None, "largest norm of all gradients together, larger ones are scaled down; null: no limit", more_than=0,
    )  # fmt: skip

    torch_class: ClassVar[str] = ""  # its name in torch.optim
    fused: ClassVar[bool] = True  # PyTorch has a kernel that updates all parameters on a CPU at once

    def arguments(self) -> dict[str, Any]:
        """The arguments of the class in PyTorch beside the parameters."""
        return {"lr": self.lr, "weight_decay": self.weight_decay}

    def make(self, groups: Sequence[Any], fused: bool = False) -> Any:
        """A torch.optim.Optimizer of groups of parameters. fused: with such a kernel, if there is one."""
        import torch

        more = {"fused": True} if fused and self.fused else {}  # else PyTorch's own default
        return getattr(torch.optim, self.torch_class)(groups, **self.arguments(), **more)


@dataclass
class MomentumOptions(OptimizerOptions):
    """The options of an optimizer that has a momentum."""

    momentum: float = key(0.0, "share of the last step that the next one keeps", at_least=0, less_than=1)

    def arguments(self) -> dict[str, Any]:
        return {**super().arguments(), "momentum": self.momentum}


@dataclass
class TrackerOptions(Options):
    """The options of a tracker, which shows a run while it is trained, beside its metrics.csv."""

    name: str = key(DEFAULTS["logger"], "where runs are logged beside metrics.csv")

    def open(self, resolved: Any) -> AbstractContextManager[list[Any]]:
        """The Lightning loggers of a `runs.resolved.ResolvedRun`, closed at the block's end, whatever ends it."""
        raise NotImplementedError

    def log_results(self, loggers: Sequence[Any], results: Any, more: Any) -> None:
        """Log the `runs.results.Results` of a finished run. more: a `runs.logger.Finished`."""
        known = {name: value for name, value in results.best_scores().items() if value is not None}
        for logger in loggers:
            logger.log_metrics(known, results.epochs or 0)
            logger.save()
