"""The mean of several epochs' weights: Izmailov et al. (2018), Averaging Weights Leads to Wider Optima, UAI."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from emoshare.models.module import Batch, EmotionShareModule
from emoshare.training.weights import read


def mean_weights(paths: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of each tensor over checkpoints; of counters, the first one's."""
    total: dict[str, Tensor] = {}
    kinds: dict[str, torch.dtype] = {}
    for path in paths:
        for name, value in read(path)["state_dict"].items():
            kinds.setdefault(name, value.dtype)
            if not value.is_floating_point():
                total.setdefault(name, value)
            else:
                total[name] = total.get(name, 0) + value.double() / len(paths)
    return {name: value.to(kinds[name]) for name, value in total.items()}


def recompute_norms(module: EmotionShareModule, batches: Iterable[Batch], device: torch.device, seed: int) -> None:
    """Give batch norms the statistics of the module's own weights: the mean over the batches of an epoch.

    A mean of the epochs' statistics would not be those of the mean weights. A frozen backbone keeps its own.
    """
    trained = module.head if module.frozen else module
    norms = [part for part in trained.modules() if isinstance(part, _BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    module.to(device).train()
    torch.manual_seed(seed)
    with torch.no_grad():
        for batch in batches:
            module({name: value.to(device) for name, value in batch.items()})  # type: ignore[attr-defined]
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    module.eval()
