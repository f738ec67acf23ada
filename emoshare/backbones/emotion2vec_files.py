"""emotion2vec as it is published: a .pt file of FunASR's or fairseq's beside a config.yaml, or with its config inside.

Both are read as data: YAML by its safe loader, the .pt file with `weights_only`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from emoshare.core.errors import EmoshareError, brief
from emoshare.core.files import read_json

SETTINGS, WEIGHTS, NOTES = "config.yaml", "model.pt", "configuration.json"
REMEDY = "name a folder of emotion2vec as FunASR or fairseq publish it"
STAGE = re.compile(r"\[\(\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\)\](?:\s*\*\s*(\d+))?")  # [(512, 3, 2)] * 4
AUDIO = "modality_encoders.AUDIO."
DROPPED = re.compile(
    r"(decoder|shared_decoder|proj|recon_proj|_?ema|target|text|image)\b|modality_encoders\.(?!AUDIO\.)"
)
EXPECTED = {"layer_norm_first": False, "norm_affine": True, "cosine_attention": False}
EXPECTED_AUDIO = {
    "extractor_mode": "layer_norm", "conv_pos_pre_ln": False, "use_alibi_encoder": True, "learned_alibi": False,
    "learned_alibi_scale_per_head": True, "learned_alibi_scale_per_layer": False,
}  # fmt: skip


def is_published(folder: Path) -> bool:
    """Whether a folder holds a model as FunASR or fairseq publish it, not as transformers does."""
    if (folder / "config.json").is_file():
        return False
    return (folder / SETTINGS).is_file() or len(list(folder.glob("*.pt"))) == 1


def weights_file(folder: Path) -> Path:
    """The .pt file of such a folder. EmoshareError where there is none."""
    named = folder / named_weights(folder / NOTES)
    files = [named] if named.is_file() else list(folder.glob("*.pt"))
    if len(files) != 1:
        raise EmoshareError(f"{folder}: holds {len(files)} .pt files, and none is called {named.name}; {REMEDY}")
    return files[0]


def named_weights(notes: Path | None) -> str:
    """The name of the .pt file, as ModelScope's notes say it where they are there."""
    files = read_json(notes, REMEDY).get("file_path_metas") if notes and notes.is_file() else None
    return str(files.get("init_param", WEIGHTS)) if isinstance(files, dict) else WEIGHTS


def read_config(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The file that holds its config, and the values by transformers' names.

    Raises:
        EmoshareError: it is no emotion2vec, or one with parts that are not known.
    """
    source, model = model_section(folder)
    try:
        audio = model["modalities"]["audio"]
        stages = [
            (int(width), int(kernel), int(stride))
            for width, kernel, stride, times in STAGE.findall(audio["feature_encoder_spec"])
            for _ in range(int(times or 1))
        ]
        other = [f"{k} is {model[k]}" for k, v in EXPECTED.items() if model.get(k, v) != v]
        other += [f"{k} is {audio[k]}" for k, v in EXPECTED_AUDIO.items() if audio.get(k, v) != v]
        if other:
            raise EmoshareError(f"{source}: {', '.join(other)}, which is no emotion2vec that is known; {REMEDY}")
        if not stages or STAGE.sub("", audio["feature_encoder_spec"]).strip(" +"):
            raise ValueError("feature_encoder_spec is no list of convolutions")
        prenet, dim, depth = int(audio["prenet_depth"]), int(model["embed_dim"]), int(audio["conv_pos_depth"])
        return source, {
            "model_type": "emotion2vec", "hidden_size": dim, "num_attention_heads": int(model["num_heads"]),
            "num_hidden_layers": prenet + int(model["depth"]),
            "intermediate_size": int(dim * model["mlp_ratio"]), "layer_norm_eps": float(model["norm_eps"]),
            "hidden_act": "gelu", "feat_extract_activation": "gelu", "num_extra_tokens": int(audio["num_extra_tokens"]),
            "conv_dim": [s[0] for s in stages], "conv_kernel": [s[1] for s in stages],
            "conv_stride": [s[2] for s in stages], "conv_bias": False, "num_conv_pos_embeddings": depth,
            "conv_pos_kernel_size": max(3, int(audio["conv_pos_width"]) // depth),
            "num_conv_pos_embedding_groups": int(audio["conv_pos_groups"]),
            "layerdrop": float(model.get("layerdrop", 0.0)), "do_normalize": bool(model.get("normalize", True)),
        }  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EmoshareError(f"{source}: no config of emotion2vec ({brief(error)}); {REMEDY}") from error


def model_section(folder: Path) -> tuple[Path, Any]:
    """The file that holds the config of the model, and that config by fairseq's names."""
    import yaml

    source = folder / SETTINGS
    if not source.is_file():
        source = weights_file(folder)
        section = read_weights(source).get("cfg")
        return source, section.get("model") if isinstance(section, dict) else section
    try:
        values = yaml.safe_load(source.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise EmoshareError(f"{source}: not readable ({brief(error)}); {REMEDY}") from error
    values = values if isinstance(values, dict) else {}
    return source, values.get("model_conf", values.get("model"))


def read_weights(path: Path) -> dict[str, Any]:
    """The content of a .pt file; its tensors are read from the disk when they are needed."""
    import torch

    try:
        content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # zip's, pickle's and torch's own
        raise EmoshareError(
            f"{path}: can't be read as data alone ({brief(error)}); fetch it again, or save its state dict with "
            "torch.save({'model': state_dict}, path) where you trust it"
        ) from error
    return content if isinstance(content, dict) else {}


def read_tensors(folder: Path) -> dict[str, Any]:
    """The tensors of the encoder by the names of `emotion2vec.Emotion2vecModel`, and others by their own.

    The decoder, heads and averages of training are left out.
    """
    path = weights_file(folder)
    content = read_weights(path)
    for key in ("model", "state_dict", "model_state_dict"):
        content = content[key] if isinstance(content.get(key), dict) else content
    prefixes = {name.partition(AUDIO)[0] for name in content if AUDIO in name and "ema." not in name}
    if len(prefixes) != 1:
        raise EmoshareError(f"{path}: holds {len(prefixes)} encoders whose tensors are called {AUDIO}…; {REMEDY}")
    prefix = prefixes.pop()
    tensors: dict[str, Any] = {}
    first = len({name.split(".blocks.")[1].split(".")[0] for name in content if ".context_encoder.blocks." in name})
    for name, tensor in content.items():
        inner = name.removeprefix(prefix)
        if name.startswith(prefix) and not DROPPED.match(inner.removeprefix(AUDIO)):
            tensors |= rename(inner, tensor, first)
    return tensors


def rename(name: str, tensor: Any, first: int) -> dict[str, Any]:
    """A tensor by transformers' name: one, or three where query, key and value share one matrix.

    first: layers before those that are called `blocks`.
    """
    audio, name = name.startswith(AUDIO), name.removeprefix(AUDIO)
    for pattern, new in (
        (r"local_encoder\.conv_layers\.(\d+)\.0\.", r"feature_extractor.conv_layers.\1.conv."),
        (r"local_encoder\.conv_layers\.(\d+)\.2\.1\.", r"feature_extractor.conv_layers.\1.layer_norm."),
        (r"project_features\.1\.", "feature_projection.layer_norm."),
        (r"project_features\.2\.", "feature_projection.projection."),
        (r"(extra_tokens|alibi_scale)$", r"encoder.\1"),
        (r"context_encoder\.norm\.", "encoder.layer_norm."),
        (r"context_encoder\.blocks\.", "encoder.layers."),
    ):
        name = re.sub("^" + pattern, new, name)
    if place := re.match(r"relative_positional_encoder\.(\d+)\.0\.", name):  # the first of them is a transposition
        name = f"encoder.pos_conv_embed.layers.{int(place[1]) - 1}.conv.{name[place.end() :]}"
    if place := re.match(r"blocks\.(\d+)\.", name):
        name = f"encoder.layers.{int(place[1]) + first}.{name[place.end() :]}"
    for theirs, ours in (
        (".norm1.", ".layer_norm."), (".norm2.", ".final_layer_norm."), (".attn.proj.", ".attention.out_proj."),
        (".mlp.fc1.", ".feed_forward.intermediate_dense."), (".mlp.fc2.", ".feed_forward.output_dense."),
    ):  # fmt: skip
        name = name.replace(theirs, ours)
    if audio and not name.startswith(("feature_", "encoder.")):
        name = f"encoder.{name}"  # which has no place there
    if name == "encoder.alibi_scale" and tensor.dim() == 4:
        tensor = tensor[None]
    if ".attn.qkv." not in name:
        return {name: tensor}
    parts = zip("qkv", tensor.chunk(3), strict=True)
    return {name.replace(".attn.qkv.", f".attention.{part}_proj."): piece for part, piece in parts}
