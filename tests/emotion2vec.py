"""Small checkpoints of emotion2vec as FunASR and fairseq publish it, with weights that follow from their names."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from emoshare.backbones.kinds.encoder import Options as Encoder

DIM, HEADS, PRENET, DEPTH, CONV = 32, 4, 2, 3, 16
AUDIO = "modality_encoders.AUDIO."
CONFIG: dict[str, Any] = {
    "depth": DEPTH, "num_heads": HEADS, "norm_eps": 1e-5, "norm_affine": True, "embed_dim": DIM, "mlp_ratio": 4.0,
    "layer_norm_first": False, "layerdrop": 0.05, "normalize": True,
    "modalities": {"_name": None, "audio": {
        "type": "AUDIO", "prenet_depth": PRENET, "num_extra_tokens": 10, "use_alibi_encoder": True,
        "learned_alibi": False, "learned_alibi_scale": True, "learned_alibi_scale_per_head": True,
        "learned_alibi_scale_per_layer": False, "num_alibi_heads": HEADS, "extractor_mode": "layer_norm",
        "feature_encoder_spec": f"[({CONV}, 10, 5)] + [({CONV}, 3, 2)] * 4 + [({CONV},2,2)] + [({CONV},2,2)]",
        "conv_pos_width": 95, "conv_pos_groups": 16, "conv_pos_depth": 5, "conv_pos_pre_ln": False,
    }},
}  # fmt: skip


def shapes() -> dict[str, tuple[int, ...]]:
    """FunASR's names of the tensors → their shapes."""
    found: dict[str, tuple[int, ...]] = {
        AUDIO + "extra_tokens": (1, 10, DIM), AUDIO + "alibi_scale": (1, 1, HEADS, 1, 1),
        AUDIO + "project_features.1.weight": (CONV,), AUDIO + "project_features.1.bias": (CONV,),
        AUDIO + "project_features.2.weight": (DIM, CONV), AUDIO + "project_features.2.bias": (DIM,),
        AUDIO + "context_encoder.norm.weight": (DIM,), AUDIO + "context_encoder.norm.bias": (DIM,),
        AUDIO + "decoder.blocks.0.0.weight": (16, 8, 7), AUDIO + "decoder.proj.bias": (DIM,),
        "proj.weight": (5, DIM), "proj.bias": (5,),
    }  # fmt: skip
    for i, kernel in enumerate((10, 3, 3, 3, 3, 2, 2)):
        name = f"{AUDIO}local_encoder.conv_layers.{i}."
        found[name + "0.weight"] = (CONV, CONV if i else 1, kernel)
        found |= {name + "2.1.weight": (CONV,), name + "2.1.bias": (CONV,)}
    for i in range(1, 6):
        name = f"{AUDIO}relative_positional_encoder.{i}.0."
        found |= {name + "weight": (DIM, DIM // 16, 19), name + "bias": (DIM,)}
    for name in [f"{AUDIO}context_encoder.blocks.{i}." for i in range(PRENET)] + [f"blocks.{i}." for i in range(DEPTH)]:
        linear = {"attn.qkv": (3 * DIM, DIM), "attn.proj": (DIM, DIM), "mlp.fc1": (4 * DIM, DIM)}
        for part, shape in (linear | {"mlp.fc2": (DIM, 4 * DIM)}).items():
            found |= {f"{name}{part}.weight": shape, f"{name}{part}.bias": shape[:1]}
        found |= {f"{name}{norm}.{part}": (DIM,) for norm in ("norm1", "norm2") for part in ("weight", "bias")}
    return found


def fill(name: str, shape: tuple[int, ...]) -> Tensor:
    """Weights that are large enough for each of them to matter, and the same wherever they are made."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    scale = 0.5 if len(shape) == 1 or "alibi" in name else 1.5 / np.sqrt(np.prod(shape[1:]))
    around = "norm" in name or ".2.1.weight" in name or "features.1.weight" in name
    return torch.from_numpy((rng.standard_normal(shape) * scale + around).astype(np.float32))


def write(folder: Path, layout: str = "funasr", change: Any = lambda tensors: tensors, **keys: Any) -> Encoder:
    """A checkpoint in one of the layouts, and the config that takes it by its path alone.

    keys: of the model's config. change: takes the tensors by FunASR's names and returns others.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = change({name: fill(name, shape) for name, shape in shapes().items()})
    config = CONFIG | keys
    if layout == "funasr":
        (folder / "config.yaml").write_text(yaml.safe_dump({"model": "Emotion2vec", "model_conf": config}))
        torch.save({"model": {"d2v_model." + name: tensor for name, tensor in tensors.items()}}, folder / "model.pt")
    else:
        scale = AUDIO + "alibi_scale"
        content = tensors | {scale: tensors[scale][0], "_ema.blocks.0.norm1.weight": torch.zeros(DIM)}
        content = {"args": None, "cfg": {"model": {"_name": "data2vec_multi", **config}}, "model": content}
        torch.save(content, folder / "emotion2vec_base.pt")
    return Encoder(path=str(folder), type="emotion2vec")
