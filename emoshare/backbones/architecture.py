"""The architecture of a checkpoint, compared with the config."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from emoshare.backbones import emotion2vec_files
from emoshare.backbones.families import FAMILIES, PARTS, config_class, model_class
from emoshare.core.config import RATE, SHORTEST, WindowConfig
from emoshare.core.errors import EmoshareError, brief
from emoshare.core.files import read_json
from emoshare.core.schema import MISSING, value_text

LARGEST, LARGEST_LIST, MOST_LAYERS = 10_000_000, 10_000, 1000  # of what a config.json says
FETCH_AGAIN = "fetch the checkpoint again"
READ = ("name", "type", "dim", "layers")  # keys that are read from the checkpoint where they are not set
MASKED = 10  # frames, or features, that SpecAugment masks together
TINY = {"conv_dim": (32,) * 7, "num_attention_heads": 4, "intermediate_size": 128, "num_conv_pos_embeddings": 32}


def read_config(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The file of a checkpoint that describes it, and its values by transformers' names."""
    if emotion2vec_files.is_published(folder):
        return emotion2vec_files.read_config(folder)
    values = read_json(folder / "config.json", FETCH_AGAIN)
    for part in () if is_known(values) else PARTS:
        inner = values.get(part)
        if isinstance(inner, dict):
            inner = {"model_type": f"{values.get('model_type')}_encoder"} | inner
            values = inner if is_known(inner) else values
    return folder / "config.json", values


def is_known(values: dict[str, Any]) -> bool:
    """Whether the values of a config.json are those of a family."""
    return values.get("model_type") in list(FAMILIES)  # of a stranger's file: it may be no word


def values_of(config: Any, folder: Path | None) -> tuple[Path | str, dict[str, Any]]:
    """As `read_config`. Without a folder, and in a model of other code around an encoder, one of the standard sizes."""
    if folder is None:
        return config.path, standard(config)
    source, values = read_config(folder)
    around = not is_known(values) and (config.prefix or "auto_map" in values)
    if around and config.type in FAMILIES and MISSING not in (config.dim, config.layers):
        return source, standard(config)
    return source, values


def describe(config: Any, folder: Path | None, preprocessor: dict[str, Any] | None = None) -> Any:
    """transformers' config of the checkpoint, compared with ours, or one of its standard sizes.

    preprocessor: values of the checkpoint's preprocessor file, by our keys, that are compared, too.
    Raises EmoshareError with all that differs.
    """
    source, values = values_of(config, folder)
    kind = values["model_type"] = kind_of(config, values, source)
    architecture = encoder_config(config, values, source)
    pairs = {"type": ("model_type", kind), **sizes(kind, architecture), **(preprocessor or {})}
    different = list(differences(config, pairs))
    more = {key: getattr(architecture, key, None) for key in config.architecture}
    different += [(f"architecture.{k}", k, more[k], ours) for k, ours in config.architecture.items() if more[k] != ours]
    if different and config.parameters is not None:
        true = replace(config, type=kind, dim=getattr(architecture, FAMILIES[kind].dim))
        different += differences(
            config, {"parameters": ("the number of its parameters", parameters_of(true, architecture))}
        )
    refuse(source if len(different) < 2 or not folder else folder, different)
    return architecture


def kind_of(config: Any, values: dict[str, Any], source: Path | str) -> str:
    """The model_type of a config.json, or else ours. EmoshareError where there is no such family."""
    kind = config.type if values.get("model_type") in (None, "") else values["model_type"]
    if not isinstance(kind, str) or kind not in FAMILIES:
        if f"{kind}_encoder" in FAMILIES:
            parts = " or ".join(PARTS)
            raise EmoshareError(
                f"{source}: its model_type is {kind}, but it has no {parts} of an encoder; {FETCH_AGAIN}"
            )
        made = "; of a model that was made from one of these choose that one's backbone and set backbone.path"
        raise EmoshareError(f"{source}: {unknown_type(kind)}{made if 'auto_map' in values else ''}")
    return kind


def sizes(kind: str, architecture: Any) -> dict[str, tuple[str, Any]]:
    """Our key → transformers' name and its value, of what both configs say."""
    family = FAMILIES[kind]
    pairs = {
        "dim": (family.dim, getattr(architecture, family.dim)),
        "layers": (family.layers, getattr(architecture, family.layers)),
    }
    norm = norm_of(kind, architecture)
    return pairs | ({"conv_norm": ("feat_extract_norm", norm)} if norm else {})


def norm_of(kind: str, architecture: Any) -> str | None:
    """Norm of the convolutional front end, group or layer; None where there is no such front end."""
    return FAMILIES[kind].conv_norm or getattr(architecture, "feat_extract_norm", None)


def differences(config: Any, pairs: dict[str, tuple[str, Any]]) -> Iterable[tuple[str, str, Any, Any]]:
    """Key, transformers' name of it, the checkpoint's value and ours, where both are set and differ."""
    for key, (theirs, actual) in pairs.items():
        ours = getattr(config, key)
        if None not in (ours, actual) and ours != actual and ours not in (MISSING, "auto"):
            yield key, theirs, actual, ours


def refuse(source: Path | str, different: list[tuple[str, str, Any, Any]]) -> None:
    """Raise EmoshareError with everything that differs, if anything does, and what to set."""
    if not different:
        return
    said = "; ".join(
        f"{theirs} is {value_text(actual)}, but backbone.{key}={value_text(ours)}"
        for key, theirs, actual, ours in different
    )
    keys = " ".join(f"backbone.{key}={value_text(actual)}" for key, _, actual, _ in different)
    raise EmoshareError(
        f"{source}: {said}; set {keys}, or choose the backbone auto, which reads a checkpoint's own values"
    )


def unknown_type(model_type: Any) -> str:
    """The remedy for a checkpoint of a model_type without an encoder here."""
    if model_type in (None, "auto", MISSING):
        return f"it names no model_type; set backbone.type to the one it is of, of {', '.join(FAMILIES)}"
    known = ", ".join(kind.removesuffix("_encoder") for kind in FAMILIES)  # as models around an encoder are called
    return (
        f"its model_type is {model_type}, which can't be loaded as a speech encoder; of transformers' models there are "
        f"{known}: name a checkpoint of one of these, or choose another backbone"
    )


def training_values(config: Any, values: dict[str, Any]) -> dict[str, Any]:
    """SpecAugment and layerdrop of an encoder that is trained: nothing of a frozen one. transformers' names."""
    released = {"mask_time_prob": 0.05, "mask_feature_prob": 0.05} if config.specaugment and not config.frozen else {}
    lengths: dict[str, Any] = {}
    if released:  # WavLM's config lacks the last one
        lengths = {"mask_time_length": MASKED, "mask_feature_length": MASKED, "apply_spec_augment": True}
        lengths |= {"mask_feature_min_masks": 0}
    drop = 0.0 if config.layerdrop is None or config.frozen else config.layerdrop
    kind = values["model_type"]
    name = FAMILIES[kind].layerdrop
    layerdrop = values.get(name, getattr(config_class(kind), name, 0.0)) if drop == "checkpoint" else float(drop)
    return {"mask_time_prob": 0.0, "mask_feature_prob": 0.0} | released | lengths | {name: layerdrop}


def encoder_config(config: Any, values: dict[str, Any], source: Path | str) -> Any:
    """transformers' config from the values of a config.json, without the parts that come after the encoder."""
    kind = values["model_type"]
    values = values | training_values(config, values) | {"add_adapter": False}
    if kind == "wav2vec2-bert":
        values |= {"use_intermediate_ffn_before_adapter": False}
    return parse(config_class(kind), values, source)


def parse(kind: Any, values: dict[str, Any], source: Path | str) -> Any:
    """transformers' config object of class `kind` from the values of a config.json.

    Raises EmoshareError where the class refuses a value, or a size is none: before anything is built of it.
    """
    for key, value in values.items():
        most = MOST_LAYERS if "layers" in key or "depth" in key else LARGEST
        items = value if isinstance(value, list) else [value]
        if len(items) > LARGEST_LIST or any(isinstance(item, int | float) and not abs(item) <= most for item in items):
            raise EmoshareError(f"{source}: {key} is no size of a model ({str(value)[:40]}); {FETCH_AGAIN}")
    try:
        return kind.from_dict(values)
    except Exception as error:  # whatever the class makes of a wrong value
        what = values.get("model_type")
        raise EmoshareError(f"{source}: no valid {what} config ({brief(error)}); fetch it again") from error


def standard(config: Any) -> dict[str, Any]:
    """The sizes that published checkpoints share, for encoders built without one (`parameters` proves them)."""
    family, heads, inner = FAMILIES[config.type], max(1, min(config.dim // 64, 16)), 4 * config.dim
    if family.dim == "d_model":
        sizes = {
            "model_type": config.type, "d_model": config.dim, "encoder_layers": config.layers,
            "encoder_attention_heads": config.dim // 64 or 1, "encoder_ffn_dim": inner,
        }  # fmt: skip
        return sizes | config.architecture
    sizes = {
        "model_type": config.type,
        "hidden_size": config.dim,
        "num_hidden_layers": config.layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
    }
    if family.module == "whisper":
        sizes["num_attention_heads"] = config.dim // 64 or 1
    elif config.type not in (
        "audio-spectrogram-transformer",
        "parakeet_encoder",
        "data2vec-audio",
        "wav2vec2-bert",
        "emotion2vec",
    ):
        stable = config.conv_norm == "layer"
        bias = stable and config.type in ("wav2vec2", "hubert", "wav2vec2-conformer")
        sizes |= {"feat_extract_norm": config.conv_norm, "do_stable_layer_norm": stable, "conv_bias": bias}
    return (sizes | TINY if config.path == "tiny" else sizes) | config.architecture


def refuse_masks(config: Any) -> None:
    """Raise EmoshareError where the config sets SpecAugment for an encoder that has none."""
    if config.specaugment and not config.frozen:
        raise EmoshareError(f"backbone.specaugment=true: {config.type} has none; set it to false")


def check_masks(config: Any, window: WindowConfig, frames: Callable[[int], int], features: int) -> None:
    """Raise EmoshareError where SpecAugment has nothing of a window to mask.

    frames: samples → the number of steps along time that it masks. features: the size of the axis that it masks across.
    """
    if not config.specaugment or config.frozen:
        return
    steps = frames(round(window.seconds * RATE))
    if steps < MASKED:
        least = next(n for n in range(SHORTEST, RATE) if frames(n) >= MASKED) / RATE
        raise EmoshareError(
            f"backbone.specaugment=true: masks {MASKED} frames at a time, and a window of {window.seconds:g} s has "
            f"{max(steps, 0)}; set window.seconds to {least:g} or more, or backbone.specaugment to false"
        )
    if features < MASKED:
        raise EmoshareError(
            f"backbone.specaugment=true: masks {MASKED} features at a time, and {config.name} has {features}; set it "
            "to false"
        )


def check_parameters(config: Any, architecture: Any) -> None:
    """Raise EmoshareError where an encoder of these sizes cannot be built, or has other parameters than the config's.

    It is built without memory for its weights.
    """
    try:
        parameters = parameters_of(config, architecture)
    except Exception as error:  # whatever transformers' classes make of sizes that do not fit each other
        raise EmoshareError(
            f"backbone.dim={config.dim}: no {config.type} of the sizes of {config.name} can be built ({brief(error)}); "
            "choose sizes that fit each other, in backbone.dim and backbone.architecture"
        ) from error
    compare_parameters(config, parameters)


def compare_parameters(config: Any, actual: int) -> None:
    """Raise EmoshareError where an encoder has another number of parameters than the config says."""
    if config.parameters not in (None, actual):
        raise EmoshareError(
            f"backbone={config.name}: {config.path}'s encoder has {actual:,} parameters, not {config.parameters:,}; "
            f"set backbone.parameters={actual} if you mean another model"
        )


def parameters_of(config: Any, architecture: Any) -> int:
    """Parameters of the bare encoder of an architecture, without building it."""
    return count(config, outline(model_class(config.type), architecture, config.path))


def outline(kind: Any, architecture: Any, source: Path | str) -> Any:
    """A model of class `kind` without memory for its weights. EmoshareError where its sizes make none."""
    import torch

    try:
        with torch.device("meta"), warnings.catch_warnings(action="ignore"):
            return kind._from_config(architecture)
    except Exception as error:  # whatever PyTorch and the class make of a size
        raise EmoshareError(f"{source}: its sizes make no model ({brief(error)}); {FETCH_AGAIN}") from error


def count(config: Any, model: Any) -> int:
    """Parameters of the bare encoder, SpecAugment's vector of D included where the family has one."""
    parameters = sum(parameter.numel() for name, parameter in model.named_parameters() if name != "masked_spec_embed")
    return parameters + (config.dim if FAMILIES[config.type].vector else 0)
