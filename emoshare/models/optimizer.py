"""The optimizer of a config, with a rate of its own for a trained backbone, and the schedule of the rates."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from emoshare.core.config import OptimizerConfig

OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], tuple[str, ...]]] = {  # class, config keys that it takes
    "adamw": (torch.optim.AdamW, ()),
    "adam": (torch.optim.Adam, ()),
    "sgd": (torch.optim.SGD, ("momentum",)),
    "rmsprop": (torch.optim.RMSprop, ("momentum",)),
}


def make_optimizer(
    config: OptimizerConfig, head: nn.Module, backbone: nn.Module | None, device: torch.device, clips_gradients: bool
) -> torch.optim.Optimizer:
    """The optimizer over the head and, with `config.backbone_lr`, over what a backbone has to learn.

    Args:
        backbone: None where it is frozen.
        clips_gradients: whether Lightning clips them, which it refuses with a fused optimizer.
    """
    groups: list[dict[str, Any]] = [{"params": list(head.parameters())}]
    if backbone is not None:
        trained = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
        groups.append({"params": trained, "lr": config.backbone_lr})
    cls, keys = OPTIMIZERS[config.name]
    options: dict[str, Any] = {key: getattr(config, key) for key in keys}
    if device.type == "cpu" and config.name != "rmsprop" and not clips_gradients:  # rmsprop has no such kernel
        options["fused"] = True  # otherwise PyTorch loops over the parameters there
    made = cls(groups, lr=config.lr, weight_decay=config.weight_decay, **options)  # type: ignore[call-arg]
    for group in made.param_groups:
        group["initial_lr"] = group["lr"]
    return made


def set_rates(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Let every group of parameters learn with a share of the rate that it has in the config."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * share


def make_scheduler(config: OptimizerConfig, optimizer: torch.optim.Optimizer) -> ReduceLROnPlateau:
    """Multiplies the rates by `config.factor` after more than `config.patience` epochs without a better score."""
    return ReduceLROnPlateau(optimizer, mode="max", factor=config.factor, patience=config.patience)
