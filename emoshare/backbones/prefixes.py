"""The place of the encoder in a checkpoint: a prefix of the tensors' names, in models that were made from it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from emoshare.backbones.architecture import FETCH_AGAIN, outline
from emoshare.core.errors import EmoshareError, brief

LEGACY = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}


def prefix_mapping(kind: Any, architecture: Any, folder: Path, given: str | None) -> dict[str, str] | None:
    """transformers' `key_mapping` that takes the prefix off; None where its own loader needs none.

    given: backbone.prefix; without it the prefix is found, as the one that all tensors of the encoder have.

    Raises:
        EmoshareError: there are several, or no tensor has the given one.
    """
    names = tensor_names(folder)
    if given is not None:
        prefix = given.rstrip(".") + "." if given else ""
        if not any(name.startswith(prefix) for name in names):
            there = sorted({name.partition(".")[0] + "." for name in names})
            raise EmoshareError(
                f"backbone.prefix={given}: no tensor in {folder} begins with it; those that there are begin with "
                f"{', '.join(there[:5])}"
            )
    else:
        prefix = find_prefix(kind, architecture, folder, names)
    return None if prefix in ("", f"{kind.base_model_prefix}.") else {f"^{re.escape(prefix)}": ""}


def find_prefix(kind: Any, architecture: Any, folder: Path, names: set[str]) -> str:
    """The prefix that all tensors of the encoder have, or else most of them; nothing where none has."""
    model = outline(kind, architecture, folder)
    needed = [n for n in model.state_dict() if n != "masked_spec_embed" and not n.endswith("num_batches_tracked")]
    starts = {name.removesuffix(needed[-1]) for name in names if name.endswith(needed[-1])}
    starts = {start for start in starts if start == "" or start.endswith(".")}
    there = {start: sum(start + name in names for name in needed) for start in sorted(starts)}
    whole = [start for start, count in there.items() if count == len(needed)]
    if len(whole) > 1:
        choices = " or ".join(f"backbone.prefix={start}" for start in whole)
        raise EmoshareError(f"{folder}: holds {len(whole)} encoders of this kind; set {choices}")
    return whole[0] if whole else max(there, key=lambda start: there[start], default="")


def tensor_names(folder: Path) -> set[str]:
    """The names of a checkpoint's tensors, without reading them."""
    import torch
    from safetensors import safe_open

    names: set[str] = set()
    try:
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, "pt") as file:
                names |= set(file.keys())
        for path in [] if names else sorted(folder.glob("*.bin")):
            names |= set(torch.load(path, map_location="meta", weights_only=True))
    except Exception as error:  # safetensors', pickle's, zip's and torch's own
        raise EmoshareError(f"{folder}: its weights can't be read ({brief(error)}); {FETCH_AGAIN}") from error
    for old, new in LEGACY.items():
        names = {name.removesuffix(old) + new if name.endswith(f".{old}") else name for name in names}
    return names
