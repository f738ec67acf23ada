"""A self-supervised checkpoint, local or from the hub: found, held against the config, every tensor accounted for.

What goes wrong silently elsewhere is an error here: another model's class, tensors that were re-initialised, another
normalisation or mask than the checkpoint was trained with.
"""

from __future__ import annotations

import functools
import logging
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import torch
from torch import nn

from emoshare.backbones.architecture import (
    FAMILIES,
    FETCH_AGAIN,
    compare_parameters,
    count,
    differences,
    model_class,
    outline,
    refuse,
)
from emoshare.backbones.loaded_weights import verify_loaded
from emoshare.core.config import RATE, WindowConfig
from emoshare.core.errors import EmoshareError, NotAtHandError, brief
from emoshare.core.files import read_json
from emoshare.core.text import looked_in

log = logging.getLogger("emoshare")

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
ADAPTER = "adapter_config.json"  # of peft: transformers adds such an adapter by itself, if peft is installed
PREPROCESSOR = "preprocessor_config.json"
PROCESSOR = "processor_config.json"  # which holds the same, as newer versions of transformers write it
EMOTION2VEC = (
    "emotion2vec is not among transformers' models, its code is FunASR's alone, so it can't be loaded; the nearest "
    "that can is the backbone data2vec_audio_base"
)
WHISPER_ENCODER = {r"^(?:model\.)?encoder\.": ""}  # the decoder beside it is not loaded


def locate(config: Any) -> Path | None:
    """The folder of the checkpoint: local, in the hub's cache, or fetched. None: built from the config's sizes.

    Raises EmoshareError where there is none, or an adapter lies in it.
    """
    folder = find(config)
    if folder and any(map(is_adapter, folder.iterdir())):
        raise EmoshareError(
            f"backbone.path={config.path}: {ADAPTER} lies in it, a low-rank adapter (LoRA) that was not merged into "
            "the weights; merge it (peft: model.merge_and_unload().save_pretrained(folder)) and name that folder, or "
            "take the adapter's files out to use the weights alone"
        )
    return folder


def is_adapter(path: Path) -> bool:
    """Whether a file belongs to an adapter of peft."""
    return path.name == ADAPTER or path.stem == "adapter_model"


def find(config: Any) -> Path | None:
    """As `locate`, whatever lies there."""
    folder = Path(config.path).expanduser()
    if config.path == "tiny":
        return None
    if emotion2vec(folder):
        raise EmoshareError(f"backbone.path={config.path}: {EMOTION2VEC}")
    if folder.is_dir():
        if not (folder / "config.json").is_file() and not any(map(is_adapter, folder.iterdir())):
            raise EmoshareError(f"backbone.path={config.path}: no config.json in it; name a checkpoint's folder")
        return folder
    absent = EmoshareError(
        f"backbone.path={config.path}: no such folder; name a checkpoint's folder or a hub model"
        f"{looked_in(config.path)}"
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


def emotion2vec(path: Path) -> bool:
    """Whether a path names emotion2vec, or is a folder of it as it is published."""
    settings = path / "config.yaml"
    named = "emotion2vec" in path.name.lower() and not (path / "config.json").is_file()
    return named or (settings.is_file() and "emotion2vec" in settings.read_text(errors="replace").lower())


def snapshot(config: Any, local: bool) -> Path | None:
    """The folder of the hub's cache with the checkpoint's files, fetched unless `local`; None: not all are there."""
    from huggingface_hub import errors, hf_hub_download

    absent = errors.LocalEntryNotFoundError if local else errors.RemoteEntryNotFoundError

    def fetch(file: str) -> Path | None:
        try:
            return Path(hf_hub_download(config.path, file, revision=config.revision, local_files_only=local))
        except absent:
            return None

    settings = fetch("config.json")
    fetch(PREPROCESSOR) or fetch(PROCESSOR)
    if adapter := fetch(ADAPTER):
        return adapter.parent  # which is refused
    if settings is None or not config.pretrained:
        return settings and settings.parent
    weights = next(filter(None, map(fetch, WEIGHTS)), None)
    if weights is not None and weights.suffix == ".json":
        shards = set(read_json(weights, FETCH_AGAIN)["weight_map"].values())
        return weights.parent if all(map(fetch, shards)) else None
    return weights and weights.parent


def complete(config: Any, folder: Path) -> None:
    """Fetch the preprocessor file of a cached checkpoint, where nobody has asked the hub for it and the hub answers.

    Of the very commit of the folder, and what the hub does not have is noted in its cache.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    for file in (PREPROCESSOR, PROCESSOR):
        known = try_to_load_from_cache(config.path, file, revision=folder.name)
        if isinstance(known, str):
            return
        if known is None:  # nobody has asked
            try:
                ping_hub(config, folder.name, seconds=3)
                hf_hub_download(config.path, file, revision=folder.name)
                return
            except Exception as error:  # as in `download`
                log.debug("%s of %s not fetched: %s", file, config.path, brief(error))


def download(config: Any) -> Path:
    """Fetch the checkpoint from the hub."""
    try:
        ping_hub(config, config.revision, seconds=10)
        folder = snapshot(config, local=False)
    except Exception as error:  # the hub client's own, its HTTP library's and the system's
        raise NotAtHandError(
            f"backbone={config.name}: {config.path} is no folder, not in the hub cache, and can't be fetched "
            f"({brief(error)}); run "
            f"{command(config)} where there is a network, or set backbone.path=<its folder>"
        ) from error
    if folder is None:
        raise EmoshareError(f"backbone={config.name}: {config.path} holds no {' or '.join(WEIGHTS[::2])}")
    return folder


def ping_hub(config: Any, revision: str | None, seconds: float) -> None:
    """Raise at once where no hub answers: its client's own downloads would try six times."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    get_hf_file_metadata(hf_hub_url(config.path, "config.json", revision=revision), timeout=seconds)


def command(config: Any, *files: str) -> str:
    """What to type to have the checkpoint, or some of its files, in the hub's cache."""
    revision = ("--revision", config.revision) if config.revision else ()
    return f"`{' '.join(('hf', 'download', config.path, *files, *revision))}`"


def preprocessor(folder: Path | None) -> dict[str, Any] | None:
    """Values of a checkpoint's preprocessor file by transformers' names; None where there is none.

    Raises EmoshareError where it is for audio of another rate.
    """
    for file, part in ((PREPROCESSOR, None), (PROCESSOR, "feature_extractor")):
        if folder and (folder / file).is_file():
            content = read_json(folder / file, FETCH_AGAIN)
            found = content.get(part) if part else content
            if isinstance(found, dict):
                rate = found.get("sampling_rate", RATE)
                if rate != RATE:
                    raise EmoshareError(
                        f"{folder / file}: sampling_rate is {rate}; name a checkpoint that was trained at {RATE}"
                    )
                return found
    return None


def preprocessing(folder: Path | None) -> dict[str, tuple[str, bool]]:
    """Our key → transformers' name and value of what a checkpoint's preprocessor file says; empty without one."""
    found = preprocessor(folder)
    if found is None:
        return {}
    return {"normalize": ("do_normalize", bool(found.get("do_normalize", True)))}


def policy(config: Any, window: WindowConfig, norm: str | None, folder: Path | None) -> dict[str, Any]:
    """What is done to a window: normalised or not, and where there is padding, whether the encoder sees it.

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
    options = {"key_mapping": WHISPER_ENCODER} if config.type == "whisper" else {}
    return restore(kind, architecture, folder, attn_implementation=attention, **options)


def restore(kind: Any, architecture: Any, folder: Path, **options: Any) -> Any:
    """A model of class `kind` with the weights of a checkpoint's folder in float32, every tensor verified."""
    import transformers

    check_weights(kind, architecture, folder)
    before_verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # its report is ours to make
    transformers.logging.disable_progress_bar()
    try:
        model, info = kind.from_pretrained(
            folder, config=architecture, dtype=torch.float32, output_loading_info=True,
            ignore_mismatched_sizes=True, local_files_only=True, **options,
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

    files = [path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin")]
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
    """What frames of the model depend on besides its weights, for an identity.

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
    found = count(config, model)
    compare_parameters(config, found)
    return found
