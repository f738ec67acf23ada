"""A self-supervised checkpoint, local or from the hub: located, compared with the config, every tensor accounted for.

What goes wrong silently elsewhere is an error here: another model's class, tensors that were re-initialised, another
normalisation or mask than the checkpoint was trained with.
"""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import torch
from torch import nn

from emoshare.backbones import emotion2vec_files
from emoshare.backbones.adapters import check_adapter, holds_adapter, merge_adapter, without_adapter
from emoshare.backbones.architecture import (
    FETCH_AGAIN,
    compare_parameters,
    count,
    differences,
    outline,
    read_config,
    refuse,
)
from emoshare.backbones.families import FAMILIES, model_class
from emoshare.backbones.hub import PREPROCESSOR, PROCESSOR, command, complete, download, snapshot
from emoshare.backbones.loaded_weights import verify_loaded
from emoshare.backbones.prefixes import prefix_mapping
from emoshare.core.config import RATE, WindowConfig
from emoshare.core.errors import EmoshareError, brief
from emoshare.core.files import read_json
from emoshare.core.text import search_place

HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def locate(config: Any) -> Path | None:
    """The folder of the checkpoint: local, in the hub's cache, or fetched. None: built from the config's sizes.

    Raises EmoshareError where there is none, or an adapter lies in it.
    """
    folder = find(config)
    if folder:
        check_adapter(config, folder)
    return folder


def find(config: Any) -> Path | None:
    """As `locate`, whatever lies there."""
    folder = Path(config.path).expanduser()
    if config.path == "tiny":
        return None
    if folder.is_dir():
        readable = (folder / "config.json").is_file() or emotion2vec_files.is_published(folder)
        if not readable and not holds_adapter(folder):
            raise EmoshareError(f"backbone.path={config.path}: no config.json in it; name a checkpoint's folder")
        return folder
    if config.path.startswith("iic/"):
        raise EmoshareError(
            f"backbone.path={config.path}: is a name of ModelScope's; set backbone.path=emotion2vec/{folder.name}, as "
            f"the hub calls it, or run `modelscope download --model {config.path}` and name the folder"
        )
    absent = EmoshareError(
        f"backbone.path={config.path}: no such folder; name a checkpoint's folder or a hub model"
        f"{search_place(config.path)}"
    )
    if not HUB_NAME.fullmatch(config.path):
        raise absent
    cached = snapshot(config, local=True)
    if cached is None and "/" in config.path and folder.parent.is_dir():  # no hub name: the first part is a folder here
        raise absent
    if not config.pretrained:
        return cached
    if cached is None:
        return download(config)
    complete(config, cached)
    return cached


def at_hand(config: Any) -> bool:
    """Whether what a checkpoint says of itself can be read here; its weights are not fetched.

    True, too, where there is none: `tiny`, and random encoders, which are built from their sizes.
    Raises EmoshareError for a path that is neither a checkpoint's folder nor a name on the hub.
    """
    folder = locate(replace(config, pretrained=False))
    if folder and config.pretrained and not Path(config.path).expanduser().is_dir():
        _complete_once(config.path, config.revision, folder)
    return folder is not None or config.path == "tiny" or not config.pretrained


@functools.cache  # of a sweep's many windows the first alone waits for a hub that does not answer
def _complete_once(path: str, revision: str | None, folder: Path) -> None:
    complete(SimpleNamespace(path=path, revision=revision), folder)


def preprocessor(folder: Path | None) -> dict[str, Any] | None:
    """Values of a checkpoint's preprocessor file by transformers' names; None where there is none.

    Raises EmoshareError where it is for audio of another rate.
    """
    for file, part in ((PREPROCESSOR, None), (PROCESSOR, "feature_extractor")):
        if folder and (folder / file).is_file():
            content = read_json(folder / file, FETCH_AGAIN)
            section = content.get(part) if part else content
            if isinstance(section, dict):
                rate = section.get("sampling_rate", RATE)
                if rate != RATE:
                    raise EmoshareError(
                        f"{folder / file}: sampling_rate is {rate}; name a checkpoint that was trained at {RATE}"
                    )
                return section
    return None


def preprocessing(folder: Path | None) -> dict[str, tuple[str, bool]]:
    """Our key → transformers' name and value of what a checkpoint's preprocessor file says; empty without one."""
    section = preprocessor(folder)
    if section is None and folder and (values := read_config(folder)[1]).get("model_type") == "emotion2vec":
        section = values  # FunASR keeps it there
    if section is None:
        return {}
    return {"normalize": ("do_normalize", bool(section.get("do_normalize", True)))}


def policy(config: Any, window: WindowConfig, norm: str | None, folder: Path | None) -> dict[str, Any]:
    """The treatment of a window: normalised or not, and where there is padding, whether the encoder sees it.

    Raises EmoshareError where neither the config nor the checkpoint's preprocessor file says what the window needs.
    """
    stored = preprocessing(folder)
    refuse(folder / PREPROCESSOR if folder else config.path, list(differences(config, stored)))
    wanted, value = window.normalize == "checkpoint", config.normalize
    if value is None and stored:
        value = stored["normalize"][1]
    if wanted and value is None:
        local = config.path in ("tiny", "logmel") or Path(config.path).expanduser().is_dir()
        fetch = "" if local else f"run {command(config, PREPROCESSOR)} where there is a network, or "
        raise EmoshareError(
            f"backbone={config.name}: {config.path} has no {PREPROCESSOR} at hand, and this window depends on it; "
            f"{fetch}set backbone.normalize=true or false"
        )
    return {"conv_norm": norm, "normalize": wanted and value is not False, "mask": window.pad == "none"}


def build(config: Any, architecture: Any, folder: Path | None, seed: int) -> Any:
    """The model: a checkpoint's weights, or random ones (of `tiny` always the same, unless it is a control too)."""
    kind = model_class(config.type)
    attention = "sdpa" if kind._supports_sdpa else "eager"
    if not config.pretrained or folder is None:
        size, free = 4 * elements(outline(kind, architecture, config.path)), psutil.virtual_memory().available
        if size > free:
            raise EmoshareError(
                f"backbone={config.name}: its weights take {size / 1e9:.3g} GB, and {free / 1e9:.3g} GB of memory are "
                "free; choose a smaller one"
            )
        torch.manual_seed(0 if config.pretrained else seed)
        return kind._from_config(architecture, attn_implementation=attention, dtype=torch.float32)
    options: dict[str, Any] = {"key_mapping": prefix_mapping(kind, architecture, folder, config.prefix)}
    if emotion2vec_files.is_published(folder):
        options = {"state_dict": emotion2vec_files.read_tensors(folder)}
    with without_adapter(folder) as place:
        model = restore(kind, architecture, place, attn_implementation=attention, **options)
    return merge_adapter(model, folder) if config.adapter == "merge" and holds_adapter(folder) else model


def restore(kind: Any, architecture: Any, folder: Path, **options: Any) -> Any:
    """A model of class `kind` with the weights of a checkpoint's folder in float32, every tensor verified."""
    import transformers

    check_weights(kind, architecture, folder)
    before_verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # its report is ours to make
    transformers.logging.disable_progress_bar()
    try:
        model, info = kind.from_pretrained(
            None if "state_dict" in options else folder, config=architecture, dtype=torch.float32,
            output_loading_info=True, ignore_mismatched_sizes=True, local_files_only=True, **options,
        )  # fmt: skip
    except Exception as error:  # safetensors', pickle's, zip's, torch's own
        raise EmoshareError(f"{folder}: its weights can't be read ({brief(error)}); {FETCH_AGAIN}") from error
    finally:
        transformers.logging.set_verbosity(before_verbosity)
        transformers.logging.enable_progress_bar()
    verify_loaded(folder, model, info)
    return model


def elements(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def check_weights(kind: Any, architecture: Any, folder: Path) -> None:
    """Raise EmoshareError where a folder's files are too small for its config.json, or hold no weights of a model.

    transformers would make up the tensors of another shape, in whatever size, and turn truth values into numbers.
    """
    from safetensors import SafetensorError, safe_open

    files = [path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin", ".pt")]
    for path in (path for path in files if path.suffix == ".safetensors"):
        try:
            with safe_open(path, "pt") as file:
                kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 (no mapping)
        except (OSError, SafetensorError) as error:
            raise EmoshareError(f"{folder}: its weights can't be read ({brief(error)}); {FETCH_AGAIN}") from error
        if wrong := kinds & {"BOOL", "U8", "I8"}:
            raise EmoshareError(
                f"{path}: holds weights of the type {', '.join(wrong)}; save them as float32 or float16"
            )
    needed, there = elements(outline(kind, architecture, folder)), sum(path.stat().st_size for path in files)
    if files and needed > there:
        raise EmoshareError(
            f"{folder}: its config.json describes {needed:,} parameters, and its weights have {there:,} bytes; "
            "it isn't what its config.json says: fetch it again or name another"
        )


def facts_of(config: Any, model: Any, architecture: Any, folder: Path | None, seed: int) -> dict[str, Any]:
    """All that frames of the model depend on besides its weights, for an identity.

    Raises EmoshareError where it has another number of parameters than the config says.
    """
    kept = {key: getattr(architecture, key, None) for key in FAMILIES[config.type].facts}
    return {
        "class": type(model).__name__,
        "parameters": count_parameters(config, model),
        "commit": folder.name if folder and folder.parent.name == "snapshots" else None,
        "seed": None if config.pretrained else seed,
        "architecture": kept,
    }


def count_parameters(config: Any, model: nn.Module) -> int:
    """Parameters of the bare encoder, SpecAugment's vector of D included; EmoshareError if not the config's."""
    parameters = count(config, model)
    compare_parameters(config, parameters)
    return parameters
