"""A self-supervised checkpoint, local or from the hub: found, held against the config, every tensor accounted for.

What goes wrong silently elsewhere is an error here: another model's class, tensors that were re-initialised, another
normalisation or mask than the checkpoint was trained with.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from emoshare.core.config import BackboneConfig, WindowConfig
from emoshare.core.errors import EmoshareError, NotAtHandError
from emoshare.core.files import read_json

log = logging.getLogger("emoshare")

CLASSES = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert", "wavlm": "WavLM", "unispeech-sat": "UniSpeechSat"}
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
PREPROCESSOR = "preprocessor_config.json"
FETCH_AGAIN = "fetch the checkpoint again"
TINY = {"conv_dim": (32,) * 7, "num_attention_heads": 4, "intermediate_size": 128, "num_conv_pos_embeddings": 32}


def locate(config: BackboneConfig) -> Path | None:
    """The folder of the checkpoint: local, in the hub's cache, or fetched. None: built from the config's sizes."""
    folder = Path(config.path).expanduser()
    if config.path == "tiny":
        return None
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise EmoshareError(f"backbone.path={config.path}: no config.json in it; name a checkpoint's folder")
        return folder
    absent = EmoshareError(f"backbone.path={config.path}: no such folder; name a checkpoint's folder or a hub model")
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


def snapshot(config: BackboneConfig, local: bool) -> Path | None:
    """The folder of the hub's cache with the checkpoint's files, fetched unless `local`; None: not all are there."""
    from huggingface_hub import errors, hf_hub_download

    absent = errors.LocalEntryNotFoundError if local else errors.RemoteEntryNotFoundError

    def fetch(file: str) -> Path | None:
        try:
            return Path(hf_hub_download(config.path, file, revision=config.revision, local_files_only=local))
        except absent:
            return None

    settings = fetch("config.json")
    fetch(PREPROCESSOR)
    if settings is None or not config.pretrained:
        return settings and settings.parent
    weights = next(filter(None, map(fetch, WEIGHTS)), None)
    if weights is not None and weights.suffix == ".json":
        shards = set(read_json(weights, FETCH_AGAIN)["weight_map"].values())
        return weights.parent if all(map(fetch, shards)) else None
    return weights and weights.parent


def complete(config: BackboneConfig, folder: Path) -> None:
    """Fetch the preprocessor file of a cached checkpoint, where nobody has asked the hub for it and the hub answers.

    Of the very commit of the folder, and what the hub does not have is noted in its cache.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    if try_to_load_from_cache(config.path, PREPROCESSOR, revision=folder.name) is None:
        try:
            ping_hub(config, folder.name, seconds=3)
            hf_hub_download(config.path, PREPROCESSOR, revision=folder.name)
        except Exception as error:  # as in `download`
            log.debug("%s of %s not fetched: %s", PREPROCESSOR, config.path, brief(error))


def download(config: BackboneConfig) -> Path:
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


def ping_hub(config: BackboneConfig, revision: str | None, seconds: float) -> None:
    """Raise at once where no hub answers: its client's own downloads would try six times."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    get_hf_file_metadata(hf_hub_url(config.path, "config.json", revision=revision), timeout=seconds)


def command(config: BackboneConfig, *files: str) -> str:
    """What to type to have the checkpoint, or some of its files, in the hub's cache."""
    revision = ("--revision", config.revision) if config.revision else ()
    return f"`{' '.join(('hf', 'download', config.path, *files, *revision))}`"


def brief(error: Exception) -> str:
    """An exception in one short line."""
    return f"{type(error).__name__}: {error}".strip().splitlines()[0][:200]


def describe(config: BackboneConfig, folder: Path | None) -> Any:
    """transformers' config of the checkpoint, held against ours, or one of its standard sizes."""
    import transformers

    source = folder / "config.json" if folder else config.path
    values = read_json(folder / "config.json", FETCH_AGAIN) if folder else standard(config)
    if values.get("model_type") != config.type:
        raise EmoshareError(f"{source}: {another_type(config, values.get('model_type'))}")
    values |= training_values(config, values) | {"add_adapter": False}
    architecture = parse(getattr(transformers, CLASSES[config.type] + "Config"), values, source)
    pairs = {"dim": "hidden_size", "layers": "num_hidden_layers", "conv_norm": "feat_extract_norm"}
    for key, theirs in pairs.items():
        ours, found = getattr(config, key), getattr(architecture, theirs)
        if ours is not None and ours != found:
            raise EmoshareError(f"{source}: {theirs} is {found}, but backbone.{key}={ours}; set backbone.{key}={found}")
    return architecture


def another_type(config: BackboneConfig, found: Any) -> str:
    """What to do about a checkpoint of another model_type than the config's."""
    known = ", ".join(CLASSES)
    if found not in CLASSES:
        return (
            f"its model_type is {found}, which can't be loaded as a speech encoder; of transformers' models there are "
            f"{known}: name a checkpoint of one of these, or choose another backbone"
        )
    return (
        f"its model_type is {found}, but backbone={config.name} loads {config.type}; choose the backbone of that type, "
        "or set backbone.type, dim, layers and parameters to the checkpoint's"
    )


def training_values(config: BackboneConfig, values: dict[str, Any]) -> dict[str, Any]:
    """SpecAugment and layerdrop of an encoder that is trained: nothing of a frozen one. transformers' names."""
    released = {"mask_time_prob": 0.05, "mask_feature_prob": 0.05} if config.specaugment and not config.frozen else {}
    lengths = {"mask_time_length": 10, "mask_feature_length": 10, "apply_spec_augment": True} if released else {}
    lengths |= {"mask_feature_min_masks": 0} if released else {}  # which WavLM's config lacks
    drop = 0.0 if config.layerdrop is None or config.frozen else config.layerdrop
    layerdrop = values.get("layerdrop", 0.1) if drop == "checkpoint" else float(drop)  # 0.1: transformers' default
    return {"mask_time_prob": 0.0, "mask_feature_prob": 0.0} | released | lengths | {"layerdrop": layerdrop}


def parse(kind: Any, values: dict[str, Any], source: Path | str) -> Any:
    """transformers' config object of class `kind` from the values of a config.json."""
    try:
        return kind.from_dict(values)
    except Exception as error:  # whatever the class makes of a wrong value
        what = values.get("model_type")
        raise EmoshareError(f"{source}: no valid {what} config ({brief(error)}); fetch it again") from error


def standard(config: BackboneConfig) -> dict[str, Any]:
    """The sizes that the twelve checkpoints share, for encoders built without one (`parameters` proves them)."""
    stable = config.conv_norm == "layer"
    sizes = {
        "model_type": config.type,
        "hidden_size": config.dim,
        "num_hidden_layers": config.layers,
        "num_attention_heads": max(1, min(config.dim // 64, 16)),
        "intermediate_size": 4 * config.dim,
        "feat_extract_norm": config.conv_norm,
        "do_stable_layer_norm": stable,
        "conv_bias": stable and config.type in ("wav2vec2", "hubert"),
    }
    return sizes | TINY if config.path == "tiny" else sizes


def policy(config: BackboneConfig, window: WindowConfig, norm: str | None, folder: Path | None) -> dict[str, Any]:
    """What is done to a window: normalised or not, masked or not (group norm never: its mask is no use)."""
    file = folder / PREPROCESSOR if folder else None
    found = read_json(file, FETCH_AGAIN) if file and file.is_file() else None
    masked = window.pad == "none" and norm != "group"
    keys = {"normalize": ("do_normalize", True), "mask": ("return_attention_mask", False)}  # transformers' defaults
    chosen = {}
    for (key, (theirs, default)), needed in zip(keys.items(), (window.normalize == "checkpoint", masked), strict=True):
        ours, stored = getattr(config, key), None if found is None else bool(found.get(theirs, default))
        if None not in (ours, stored) and ours != stored:
            raise EmoshareError(f"{file}: {theirs} is {stored}, but backbone.{key}={ours}; set backbone.{key}={stored}")
        value = stored if ours is None else ours
        if value is None and needed:
            local = config.path in ("tiny", "logmel") or Path(config.path).expanduser().is_dir()
            fetch = "" if local else f"run {command(config, PREPROCESSOR)} where there is a network, or "
            raise EmoshareError(
                f"backbone={config.name}: {config.path} has no {PREPROCESSOR} at hand, and this window depends on it; "
                f"{fetch}set backbone.{key}=true or false"
            )
        chosen[key] = needed and value is not False
    return {"conv_norm": norm} | chosen


def build(config: BackboneConfig, architecture: Any, folder: Path | None, seed: int) -> Any:
    """The model: a checkpoint's weights, or random ones (of `tiny` always the same, unless it is a control too)."""
    import transformers

    kind = getattr(transformers, CLASSES[config.type] + "Model")
    attention = "sdpa" if kind._supports_sdpa else "eager"
    if not config.pretrained or folder is None:
        torch.manual_seed(0 if config.pretrained else seed)
        return kind._from_config(architecture, attn_implementation=attention, dtype=torch.float32)
    return restore(kind, architecture, folder, attn_implementation=attention)


def restore(kind: Any, architecture: Any, folder: Path, **options: Any) -> Any:
    """A model of class `kind` with the weights of a checkpoint's folder in float32, every tensor verified."""
    import transformers

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


def verify_loaded(folder: Path, model: Any, info: dict[str, Any]) -> None:
    """Raise EmoshareError unless every tensor of the encoder came from the file; log what else the file holds."""
    kind = type(model).__name__
    parts = tuple(f"{name}." for name, _ in model.named_children())

    def unused(name: str) -> bool:
        """SpecAugment's vector, and a counter of batch norm: nothing that frames depend on."""
        return name == "masked_spec_embed" or name.endswith("num_batches_tracked")

    missing = sorted(name for name in info["missing_keys"] if not unused(name))
    shapes = [f"{name} ({tuple(there)}, not {tuple(here)})" for name, there, here in sorted(info["mismatched_keys"])]
    unplaced: list[str] = []
    dropped: list[str] = []
    for name in sorted(info["unexpected_keys"]):
        inner = name.removeprefix(f"{model.base_model_prefix}.")  # in a checkpoint made for a task
        if not unused(inner):
            (unplaced if inner.startswith(parts) else dropped).append(name)
    problems = {"is without": missing, "holds in another shape": shapes, f"has no place in {kind} for": unplaced}
    for verb, names in problems.items():
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise EmoshareError(
                f"{folder}: the checkpoint {verb} {len(names)} encoder tensors: {', '.join(names[:3])}{more}; "
                "it isn't what its config.json says: fetch it again or name another"
            )
    if dropped:
        log.info("%s: dropped %d tensors of other tasks: %s", folder, len(dropped), ", ".join(dropped))


def count_parameters(config: BackboneConfig, model: nn.Module) -> int:
    """Parameters of the bare encoder, SpecAugment's vector of D included; EmoshareError if not the config's."""
    count = sum(parameter.numel() for parameter in model.parameters())
    count += 0 if hasattr(model, "masked_spec_embed") else config.dim
    if config.parameters not in (None, count):
        raise EmoshareError(
            f"backbone={config.name}: {config.path}'s encoder has {count:,} parameters, not {config.parameters:,}; "
            f"set backbone.parameters={count} if you mean another model"
        )
    return count
