"""A self-supervised checkpoint, local or from the hub: found, held against the config, every tensor accounted for.

What goes wrong silently elsewhere is an error here: another model's class, tensors that were re-initialised, another
normalisation or mask than the checkpoint was trained with.
"""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from emoshare.config import BackboneConfig, WindowConfig
from emoshare.errors import EmoshareError

log = logging.getLogger("emoshare")

CLASSES = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert", "wavlm": "WavLM", "unispeech-sat": "UniSpeechSat"}
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
PREFIXES = ("wav2vec2", "hubert", "wavlm", "unispeech_sat")  # of the encoder in a checkpoint made for a task
PARTS = ("feature_extractor.", "feature_projection.", "encoder.")
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
    if not HUB_NAME.fullmatch(config.path):
        raise EmoshareError(f"backbone.path={config.path}: no such folder; name a checkpoint's folder or a hub model")
    cached = snapshot(config, local=True)
    return cached if cached or not config.pretrained else download(config)


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
    fetch("preprocessor_config.json")
    if settings is None or not config.pretrained:
        return settings and settings.parent
    weights = next(filter(None, map(fetch, WEIGHTS)), None)
    if weights is not None and weights.suffix == ".json":
        shards = set(read_json(weights)["weight_map"].values())
        return weights.parent if all(map(fetch, shards)) else None
    return weights and weights.parent


def download(config: BackboneConfig) -> Path:
    """Fetch the checkpoint from the hub; without a network this fails at once instead of after six tries."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(config.path, "config.json", revision=config.revision), timeout=10)
        folder = snapshot(config, local=False)
    except Exception as error:  # the hub client's own, its HTTP library's and the system's
        revision = f" --revision {config.revision}" if config.revision else ""
        raise EmoshareError(
            f"backbone={config.name}: {config.path} is not in the hub cache and can't be fetched ({brief(error)}); run "
            f"`hf download {config.path}{revision}` where there is a network, or set backbone.path=<its folder>"
        ) from error
    if folder is None:
        raise EmoshareError(f"backbone={config.name}: {config.path} holds no {' or '.join(WEIGHTS[::2])}")
    return folder


def brief(error: Exception) -> str:
    """An exception in one short line."""
    return f"{type(error).__name__}: {error}".strip().splitlines()[0][:200]


def read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EmoshareError(f"{file}: unreadable ({brief(error)}); fetch the checkpoint anew") from error
    if not isinstance(content, dict):
        raise EmoshareError(f"{file}: not a JSON object; fetch the checkpoint anew")
    return content


def describe(config: BackboneConfig, folder: Path | None) -> Any:
    """transformers' config of the checkpoint, held against ours, or one of its standard sizes; SpecAugment off."""
    import transformers

    source = folder / "config.json" if folder else config.path
    values = read_json(folder / "config.json") if folder else standard(config)
    if values.get("model_type") != config.type:
        raise EmoshareError(
            f"{source}: its model_type is {values.get('model_type')}, but backbone={config.name} loads {config.type}; "
            "choose the backbone of that type, or set backbone.type, dim, layers and parameters to the checkpoint's"
        )
    off = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0, "layerdrop": 0.0, "add_adapter": False}
    try:
        architecture = getattr(transformers, CLASSES[config.type] + "Config").from_dict(values | off)
    except Exception as error:  # whatever the class makes of a wrong value
        raise EmoshareError(f"{source}: no valid {config.type} config ({brief(error)}); fetch it anew") from error
    pairs = {"dim": "hidden_size", "layers": "num_hidden_layers", "conv_norm": "feat_extract_norm"}
    for key, theirs in pairs.items():
        ours, found = getattr(config, key), getattr(architecture, theirs)
        if ours is not None and ours != found:
            raise EmoshareError(f"{source}: {theirs} is {found}, but backbone.{key}={ours}; set backbone.{key}={found}")
    return architecture


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
    file = folder / "preprocessor_config.json" if folder else None
    found = read_json(file) if file and file.is_file() else None
    masked = window.pad == "none" and norm != "group"
    keys = {"normalize": ("do_normalize", True), "mask": ("return_attention_mask", False)}  # transformers' defaults
    chosen = {}
    for (key, (theirs, default)), needed in zip(keys.items(), (window.normalize == "checkpoint", masked), strict=True):
        ours, stored = getattr(config, key), None if found is None else bool(found.get(theirs, default))
        if None not in (ours, stored) and ours != stored:
            raise EmoshareError(f"{file}: {theirs} is {stored}, but backbone.{key}={ours}; set backbone.{key}={stored}")
        value = stored if ours is None else ours
        if value is None and needed and config.pretrained:
            raise EmoshareError(
                f"backbone={config.name}: {config.path} has no preprocessor_config.json at hand, and this window "
                f"depends on it; set backbone.{key}=true or false"
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
    before_verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # its report is ours to make
    transformers.logging.disable_progress_bar()
    try:
        model, info = kind.from_pretrained(
            folder, config=architecture, attn_implementation=attention, dtype=torch.float32,
            output_loading_info=True, ignore_mismatched_sizes=True, local_files_only=True,
        )  # fmt: skip
    except Exception as error:  # safetensors', pickle's, zip's, torch's own
        raise EmoshareError(
            f"{folder}: its weights can't be read ({brief(error)}); fetch the checkpoint anew"
        ) from error
    finally:
        transformers.logging.set_verbosity(before_verbosity)
        transformers.logging.enable_progress_bar()
    account(folder, kind.__name__, info)
    return model


def account(folder: Path, kind: str, info: dict[str, Any]) -> None:
    """Raise EmoshareError unless every tensor of the encoder came from the file; log what else the file holds."""
    unused = {"masked_spec_embed"}  # SpecAugment's
    missing = sorted(set(info["missing_keys"]) - unused)
    shapes = [f"{name} ({tuple(there)}, not {tuple(here)})" for name, there, here in sorted(info["mismatched_keys"])]
    unplaced: list[str] = []
    dropped: list[str] = []
    for name in sorted(info["unexpected_keys"]):
        inner = name.split(".", 1)[1] if name.split(".")[0] in PREFIXES else name
        if inner not in unused:
            (unplaced if inner.startswith(PARTS) else dropped).append(name)
    problems = {"is without": missing, "holds in another shape": shapes, f"has no place in {kind} for": unplaced}
    for verb, names in problems.items():
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise EmoshareError(
                f"{folder}: the checkpoint {verb} {len(names)} encoder tensors: {', '.join(names[:3])}{more}; "
                "it isn't what its config.json says: fetch it anew or name another"
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
