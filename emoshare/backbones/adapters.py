"""A low-rank adapter (LoRA) of peft's that lies beside a checkpoint: refused, or merged into its weights.

Hu et al. (2022), LoRA: Low-Rank Adaptation of Large Language Models, ICLR. Left alone, transformers adds it where peft
is installed, without a word, and where no config.json lies beside it takes the weights that it names.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from emoshare.backbones.hub import ADAPTER
from emoshare.core.errors import EmoshareError, brief
from emoshare.core.files import read_json

OUTER = "base_model.model."  # in front of the names of an adapter's tensors


def is_adapter(path: Path) -> bool:
    """Whether a file belongs to an adapter of peft."""
    return path.name == ADAPTER or path.stem == "adapter_model"


def holds_adapter(folder: Path) -> bool:
    return any(map(is_adapter, folder.iterdir()))


def has_weights(folder: Path) -> bool:
    """Whether an adapter's tensors lie in a folder."""
    return any(path.stem == "adapter_model" for path in folder.iterdir())


def check_adapter(config: Any, folder: Path) -> None:
    """Raise EmoshareError for an adapter in a checkpoint's folder, unless it is to be merged and can be."""
    if not holds_adapter(folder):
        return
    if getattr(config, "adapter", None) != "merge":
        raise EmoshareError(
            f"backbone.path={config.path}: {ADAPTER} lies in it, a low-rank adapter (LoRA) that was not merged into "
            "the weights; merge it (peft: model.merge_and_unload().save_pretrained(folder)) and name that folder, set "
            "backbone.adapter=merge where the weights that it was trained on lie beside it, or take the adapter's "
            "files out to use the weights alone"
        )
    if importlib.util.find_spec("peft") is None:
        raise EmoshareError('backbone.adapter=merge: needs peft; pip install "emoshare[lora]"')
    if not (folder / ADAPTER).is_file() or not (folder / "config.json").is_file():
        raise EmoshareError(
            f"backbone.adapter=merge: {folder} lacks {ADAPTER}, or config.json and the weights that the adapter was "
            "trained on; put all of them into one folder"
        )


@contextmanager
def without_adapter(folder: Path) -> Iterator[Path]:
    """The folder, or one with links to all of its files but an adapter's."""
    if not holds_adapter(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory() as place:
        for path in folder.iterdir():
            if not is_adapter(path):
                (Path(place) / path.name).symlink_to(path.absolute())
        yield Path(place)


def merge_adapter(model: Any, folder: Path) -> Any:
    """The model with the adapter's products added to its weights, and with what was trained beside them.

    Raises:
        EmoshareError: it is no LoRA, or has a tensor that belongs to no layer of the model.
    """
    import peft

    named = read_json(folder / ADAPTER, "fetch the adapter again").get("peft_type")
    if not named or not has_weights(folder):  # peft would look for them on the hub
        lacking = "its weights are not beside it" if named else "it names no peft_type"
        raise EmoshareError(f"{folder / ADAPTER}: the adapter can't be read ({lacking}); fetch it again")
    try:
        settings = peft.PeftConfig.from_pretrained(str(folder))
        tensors = peft.load_peft_weights(str(folder), device="cpu")
    except Exception as error:  # peft's, safetensors', pickle's
        raise EmoshareError(
            f"{folder / ADAPTER}: the adapter can't be read ({brief(error)}); fetch it again"
        ) from error
    if not isinstance(settings, peft.LoraConfig):
        raise EmoshareError(f"{folder / ADAPTER}: is no LoRA; merge it by peft and name the merged checkpoint's folder")
    placed, trained, prefix = sort_tensors(tensors, model, folder)
    settings.target_modules = sorted({name.removeprefix(OUTER).partition(".lora_")[0] for name in placed})
    settings.modules_to_save, settings.task_type, settings.bias = None, None, "none"
    try:
        model.load_state_dict(trained, strict=False)
        adapted = peft.get_peft_model(nest(model, prefix), settings)
        result: Any = peft.set_peft_model_state_dict(adapted, placed)
    except RuntimeError as error:  # of load_state_dict
        raise EmoshareError(
            f"{folder}: the adapter's tensors have other shapes than the encoder's; put it beside the weights that it "
            "was trained on"
        ) from error
    missing = [name for name in result.missing_keys if "lora_" in name]
    if wrong := [*result.unexpected_keys, *missing]:
        raise EmoshareError(f"{folder}: the adapter lacks tensors, or has others: {', '.join(wrong[:3])}")
    return adapted.merge_and_unload().get_submodule(prefix.rstrip("."))


def sort_tensors(tensors: dict[str, Any], model: Any, folder: Path) -> tuple[dict[str, Any], dict[str, Any], str]:
    """The tensors of an adapter that belong to the model, and the prefix of its names there.

    First the products, by the adapter's names; then weights and biases that were trained beside them, by the model's.
    Those of heads are left out.

    Raises:
        EmoshareError: products of other layers, or none.
    """
    layers, own = dict(model.named_modules()), model.state_dict()
    paths = {name.removeprefix(OUTER): tensor for name, tensor in tensors.items()}
    found = (prefix_of(path.partition(".lora_")[0], layers) for path in paths if ".lora_" in path)
    prefix = next((known for known in found if known is not None), "")
    placed, trained, lost = dict[str, Any](), dict[str, Any](), list[str]()
    for path, tensor in paths.items():
        inner = path.removeprefix(prefix) if path.startswith(prefix) else ""
        if ".lora_" not in path:
            plain = inner.replace(".base_layer.", ".")
            trained |= {plain: tensor} if plain in own else {}
        elif inner and inner.partition(".lora_")[0] in layers:
            placed[OUTER + path] = tensor
        else:
            lost.append(path)
    if lost or not placed:
        raise EmoshareError(f"{folder}: the adapter's tensors {', '.join(lost[:3])} belong to no layer of the encoder")
    return placed, trained, prefix


def prefix_of(path: str, layers: Collection[str]) -> str | None:
    """The prefix of a layer's name, as `hubert.` in a model made for a task; None where there is no such layer."""
    inner = path
    while inner not in layers and "." in inner:
        inner = inner.partition(".")[2]
    return path.removesuffix(inner) if inner in layers else None


def nest(model: Any, prefix: str) -> Any:
    """A module in which the model's tensors have the prefix before their names, of which an adapter's patterns are."""
    from torch import nn

    for name in reversed(prefix.split(".")[:-1]):
        around = nn.Module()
        around.add_module(name, model)
        model = around
    return model
