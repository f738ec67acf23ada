"""Whether every tensor of an encoder came from its checkpoint, and what else that holds."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from emoshare.backbones.architecture import FETCH_AGAIN
from emoshare.core.errors import EmoshareError
from emoshare.core.text import several

log = logging.getLogger("emoshare")


def verify_loaded(folder: Path, model: Any, info: dict[str, Any]) -> None:
    """Raise EmoshareError unless every tensor of the encoder came from the file; a detail says what else it holds."""
    kind = type(model).__name__
    parts = tuple(f"{name}." for name, _ in model.named_children())

    def is_unused(name: str) -> bool:
        """SpecAugment's vector, and a counter of batch norm: nothing that frames depend on."""
        return name == "masked_spec_embed" or name.endswith("num_batches_tracked")

    missing = sorted(name for name in info["missing_keys"] if not is_unused(name))
    shapes = [f"{name} ({tuple(there)}, not {tuple(here)})" for name, there, here in sorted(info["mismatched_keys"])]
    unplaced: list[str] = []
    dropped: list[str] = []
    for name in sorted(info["unexpected_keys"]):
        inner = name.removeprefix(f"{model.base_model_prefix}.")  # in a checkpoint made for a task
        if not is_unused(inner):
            (unplaced if inner.startswith(parts) else dropped).append(name)
    problems = {"is without": missing, "holds in another shape": shapes, f"has no place in {kind} for": unplaced}
    for verb, names in problems.items():
        if names:
            raise EmoshareError(
                f"{folder}: the checkpoint {verb} {len(names)} encoder tensors: {several(names)}; "
                "it isn't what its config.json says: fetch it again or name another"
            )
    for name, tensor in model.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise EmoshareError(f"{folder}: its weights {name} are NaN or infinite; {FETCH_AGAIN}")
    if dropped:
        log.debug("%s: dropped %d tensors of other tasks: %s", folder, len(dropped), several(dropped))
