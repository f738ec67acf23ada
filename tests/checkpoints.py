"""Small checkpoints of every family, written in the hub's format by transformers itself, and their reference frames.

A family is how a published checkpoint lies on disk: class, norms, prefix of its tensors, heads of other tasks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emoshare.core.config import BackboneConfig

DIM, LAYERS = 32, 3
SIZES = {
    "hidden_size": DIM, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": 48,
    "conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
    "num_codevector_groups": 2, "num_codevectors_per_group": 4, "codevector_dim": 16, "proj_codevector_dim": 16,
    "vocab_size": 12, "num_buckets": 32, "max_bucket_distance": 80, "num_clusters": 6,
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    type: str
    stem: str  # of transformers' class names
    norm: str  # of the convolutions
    task: str = "Model"  # class that is saved
    bias: bool = False
    extra: tuple[str, ...] = ()  # tensors of a head that transformers has no class for
    legacy: bool = False  # weight_g and weight_v in a .bin file
    positions: str = "relative"  # of a conformer

    @property
    def prefix(self) -> str:
        return "" if self.task == "Model" else self.type.replace("-", "_") + "."


FAMILIES = {
    "wav2vec2_group": Family("wav2vec2", "Wav2Vec2", "group", "ForPreTraining"),
    "wav2vec2_layer": Family("wav2vec2", "Wav2Vec2", "layer", bias=True),
    "hubert": Family("hubert", "Hubert", "layer", bias=True),
    "hubert_group": Family("hubert", "Hubert", "group", "ForCTC"),
    "wavlm": Family("wavlm", "WavLM", "layer"),
    "wavlm_group": Family("wavlm", "WavLM", "group"),
    "unispeech_sat": Family("unispeech-sat", "UniSpeechSat", "layer", "ForPreTraining"),
    "audeering": Family(
        "wav2vec2", "Wav2Vec2", "layer", "ForCTC", bias=True,
        extra=("classifier.dense.weight", "classifier.dense.bias", "classifier.out_proj.weight"),
    ),
    "legacy": Family("wav2vec2", "Wav2Vec2", "group", legacy=True),
    "unispeech": Family("unispeech", "UniSpeech", "group", "ForPreTraining"),
    "data2vec": Family("data2vec-audio", "Data2VecAudio", "layer"),
    "data2vec_ctc": Family("data2vec-audio", "Data2VecAudio", "layer", "ForCTC"),
    "conformer_rope": Family(
        "wav2vec2-conformer", "Wav2Vec2Conformer", "layer", "ForPreTraining", True, positions="rotary"
    ),
    "conformer_rel": Family("wav2vec2-conformer", "Wav2Vec2Conformer", "layer", "ForCTC"),
    "conformer_group": Family("wav2vec2-conformer", "Wav2Vec2Conformer", "group"),
}  # fmt: skip


LEAKY = ("data2vec-audio", "wav2vec2-conformer")  # a mask does not keep padding out of their frames
MASKED = [name for name, family in FAMILIES.items() if family.norm == "layer" and family.type not in LEAKY]
UNMASKED = [name for name in FAMILIES if name not in MASKED]


def write(folder: Path, name: str, preprocessor: bool = True, seed: int = 0) -> BackboneConfig:
    """Write the checkpoint of a family into a folder; the config that loads it."""
    family = FAMILIES[name]
    torch.manual_seed(seed)
    model = new(family)
    model.save_pretrained(folder)
    if family.extra:
        edit(folder, lambda tensors: replace_head(tensors, family))
    if family.legacy:
        make_legacy(folder)
    if preprocessor:
        layer = family.norm == "layer"
        settings = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": True}
        (folder / "preprocessor_config.json").write_text(json.dumps(settings | {"return_attention_mask": layer}))
    return BackboneConfig(name, str(folder), type=family.type, dim=DIM, layers=LAYERS, conv_norm=family.norm)


def new(family: Family) -> Any:
    """A model of the family with random weights that are large enough for every one of them to matter."""
    import transformers

    layer = family.norm == "layer"
    sizes = SIZES | {"feat_extract_norm": family.norm, "do_stable_layer_norm": layer, "conv_bias": family.bias}
    if family.type == "data2vec-audio":
        sizes |= {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 5}
        sizes = {key: value for key, value in sizes.items() if key not in ("feat_extract_norm", "do_stable_layer_norm")}
    if family.type == "wav2vec2-conformer":
        sizes |= {"position_embeddings_type": family.positions, "conv_depthwise_kernel_size": 5}
    config = getattr(transformers, family.stem + "Config")(**sizes)
    model = getattr(transformers, family.stem + family.task)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def edit(folder: Path, change: Any) -> None:
    """Rewrite the folder's tensors: `change` takes their dict and returns another."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def replace_head(tensors: dict[str, Tensor], family: Family) -> dict[str, Tensor]:
    kept = {name: tensor for name, tensor in tensors.items() if name.startswith(family.prefix)}
    return kept | {name: torch.randn(DIM, DIM) for name in family.extra}


def make_legacy(folder: Path) -> None:
    """What PyTorch wrote before its parametrizations: weight_g and weight_v, pickled."""
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for new_name, old_name in names.items():
        tensors = {name.replace(new_name, old_name): tensor for name, tensor in tensors.items()}
    assert any(name.endswith("conv.weight_g") for name in tensors)
    torch.save(tensors, folder / "pytorch_model.bin")


def reference(folder: Path, name: str, dtype: torch.dtype = torch.float32) -> Any:
    """transformers' own model of the checkpoint, through its own loader."""
    import transformers

    kind = getattr(transformers, FAMILIES[name].stem + "Model")
    return kind.from_pretrained(folder, dtype=dtype).eval()
