"""The optimizer of a config, with a rate of its own for a trained backbone, and the schedule of the rates."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from emoshare.core.bases import OptimizerOptions


def make_optimizer(
    config: OptimizerOptions, head: nn.Module, backbone: nn.Module | None, device: torch.device, clips_gradients: bool
) -> torch.optim.Optimizer:
    """The optimizer over the head and, with `config.backbone_lr`, over what a backbone has to learn.

    Args:
        backbone: None where it is frozen.
        clips_gradients: whether Lightning clips them, which it refuses with a fused optimizer.
    """
    groups: list[dict[str, Any]] = [{"params": list(head.parameters())}]
    if backbone is not None:
        groups += backbone_groups(config, backbone)
    made = config.make(groups, fused=device.type == "cpu" and not clips_gradients)  # else it loops over them there
    for group in made.param_groups:
        group["initial_lr"] = group["lr"]
    return made


def states_per_parameter(config: OptimizerOptions) -> int:
    """Numbers that the optimizer keeps for each one that it trains, found by a step of its own."""
    parameter = nn.Parameter(torch.ones(8, 8))
    made = config.make([{"params": [parameter]}])
    parameter.grad = torch.ones_like(parameter)
    made.step(lambda: 0.0)
    states = [value for state in made.state.values() for value in state.values() if isinstance(value, torch.Tensor)]
    return sum(value.numel() for value in states) // parameter.numel()


def backbone_groups(config: OptimizerOptions, backbone: nn.Module) -> list[dict[str, Any]]:
    """Trained parameters of a backbone, in groups of one rate: of layer l of L it is backbone_lr · layer_decay^(L − l).

    What lies below the layers, or is in none of them, counts as layer 0. Howard and Ruder (2018), Universal Language
    Model Fine-tuning for Text Classification, ACL: discriminative rates.
    """
    blocks = list(getattr(backbone, "blocks", ())) if config.layer_decay != 1 else []
    layer = {id(p): number for number, block in enumerate(blocks, 1) for p in block.parameters()}
    groups: dict[int, list[nn.Parameter]] = {}
    for parameter in backbone.parameters():
        if parameter.requires_grad:
            groups.setdefault(layer.get(id(parameter), 0), []).append(parameter)
    rate = config.backbone_lr
    return [
        {"params": groups[number], "lr": rate * config.layer_decay ** (len(blocks) - number)}
        for number in sorted(groups)
    ]


def set_rates(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Let every group of parameters learn with a share of the rate that it has in the config."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * share


def share_of_rate(config: OptimizerOptions, step: int, steps: int, epochs: int) -> float | None:
    """The share of their rates that all parameters learn with in a step; None: as in the step before.

    Linear in the W steps of the warm-up, (s + 1) / W. Then for `cosine`, with S steps in all,

        (1 + cos(π (s − W) / (S − W))) / 2

    Loshchilov and Hutter (2017), SGDR: Stochastic Gradient Descent with Warm Restarts, ICLR; without the restarts.

    Args:
        step: s, counted from 0 over all epochs.
        steps: in an epoch.
        epochs: of the whole schedule.
    """
    warm = round(config.warmup * steps)
    if step < warm:
        return (step + 1) / warm
    if config.schedule == "cosine":
        return (1 + math.cos(math.pi * (step - warm) / (steps * epochs - warm))) / 2
    return None


def make_scheduler(
    config: OptimizerOptions, optimizer: torch.optim.Optimizer, mode: Literal["max", "min"] = "max"
) -> ReduceLROnPlateau | None:
    """Multiplies the rates by `config.factor` after more than `config.patience` epochs without a better score.

    None for another schedule. mode: whether the score is better when it is greater or less.
    """
    if config.schedule != "plateau":
        return None
    return ReduceLROnPlateau(optimizer, mode=mode, factor=config.factor, patience=config.patience)
