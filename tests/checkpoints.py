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

from emoshare.backbones.kinds.encoder import Options as Encoder

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
    "sew": Family("sew", "SEW", "group"),
    "sew_ctc": Family("sew", "SEW", "group", "ForCTC"),
    "sew_d": Family("sew-d", "SEWD", "layer", "ForCTC"),
}  # fmt: skip


LEAKY = (
    "data2vec-audio",
    "wav2vec2-conformer",
    "sew-d",
)  # transformers' mask does not keep padding out of their frames
MASKED = [name for name, family in FAMILIES.items() if family.norm == "layer" and family.type not in LEAKY]


def write(folder: Path, name: str, preprocessor: bool = True, seed: int = 0) -> Encoder:
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
    return Encoder(name, str(folder), type=family.type, dim=DIM, layers=LAYERS, conv_norm=family.norm)


MELS = {  # how checkpoints of encoders behind mel features lie on disk: transformers' class, and that of its features
    "whisper": ("WhisperForConditionalGeneration", "WhisperFeatureExtractor"),
    "whisper_model": ("WhisperModel", "WhisperFeatureExtractor"),
    "whisper_classifier": ("WhisperForAudioClassification", "WhisperFeatureExtractor"),
    "whisper_encoder": ("WhisperEncoder", "WhisperFeatureExtractor"),
    "w2v_bert": ("Wav2Vec2BertModel", "SeamlessM4TFeatureExtractor"),
    "w2v_bert_ctc": ("Wav2Vec2BertForCTC", "SeamlessM4TFeatureExtractor"),
    "w2v_bert_rope": ("Wav2Vec2BertModel", "SeamlessM4TFeatureExtractor"),
}
WHISPER = {
    "d_model": DIM, "encoder_layers": LAYERS, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "vocab_size": 50, "num_mel_bins": 20,
    "max_source_positions": 1500, "max_target_positions": 20, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 1, "use_weighted_layer_sum": False, "classifier_proj_size": 16,
}  # fmt: skip
BERT = {
    "hidden_size": DIM, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": 48,
    "feature_projection_input_dim": 40, "vocab_size": 12, "conv_depthwise_kernel_size": 5,
    "left_max_position_embeddings": 6, "right_max_position_embeddings": 3,
}  # fmt: skip


def write_mel(folder: Path, name: str, preprocessor: bool = True, dtype: torch.dtype = torch.float32) -> Encoder:
    """Write a checkpoint of an encoder behind mel features, with 20 bands, into a folder; the config that loads it."""
    import transformers
    from transformers.models.whisper import modeling_whisper

    kind, extractor = MELS[name]
    torch.manual_seed(0)
    whisper = kind.startswith("Whisper")
    more = {"add_adapter": True, "use_intermediate_ffn_before_adapter": True} if kind.endswith("CTC") else {}
    more |= {"position_embeddings_type": "rotary"} if name.endswith("rope") else {}
    config = transformers.WhisperConfig(**WHISPER) if whisper else transformers.Wav2Vec2BertConfig(**BERT, **more)
    model = (getattr(transformers, kind, None) or getattr(modeling_whisper, kind))(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.to(dtype).save_pretrained(folder)
    if preprocessor:
        own = {"feature_size": 20} if whisper else {"feature_size": 20, "num_mel_bins": 20, "padding_value": 1}
        getattr(transformers, extractor)(**own).save_pretrained(folder)
    return Encoder(
        name, str(folder), type="whisper" if whisper else "wav2vec2-bert", dim=DIM, layers=LAYERS
    )  # fmt: skip


def mel_reference(folder: Path, name: str, wave: Tensor, **options: Any) -> Any:
    """transformers' own output for one clip (N,), by its own feature extractor on the clip's own length.

    Its WhisperEncoder takes one length only, that of all its positions: here it has as many as the clip has frames.
    """
    import transformers
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    extractor = getattr(transformers, MELS[name][1]).from_pretrained(folder)
    features = extractor(
        wave.numpy(), sampling_rate=16_000, padding="longest" if name.startswith("whisper") else True,
        return_tensors="pt",
    )  # fmt: skip
    if not name.startswith("whisper"):
        config = transformers.Wav2Vec2BertConfig.from_pretrained(folder)
        config.update({"add_adapter": False, "use_intermediate_ffn_before_adapter": False})
        model = transformers.Wav2Vec2BertModel.from_pretrained(folder, config=config, dtype=torch.float32).eval()
        with torch.no_grad():
            return model(**features, **options)
    config = transformers.WhisperConfig.from_pretrained(folder)  # type: ignore[assignment]
    frames = features.input_features.shape[2] // 2
    prefix = {"whisper": "model.encoder.", "whisper_encoder": ""}.get(name, "encoder.")
    tensors = load(folder)
    tensors = {key.removeprefix(prefix): t.float() for key, t in tensors.items() if key.startswith(prefix)}
    tensors["embed_positions.weight"] = tensors["embed_positions.weight"][:frames]
    config.max_source_positions = frames
    model = WhisperEncoder(config).eval()
    model.load_state_dict(tensors)
    with torch.no_grad():
        return model(features.input_features, **options)


def whisper_config(folder: Path) -> Any:
    import transformers

    return transformers.WhisperConfig.from_pretrained(folder)


def load(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


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
    if family.stem.startswith("SEW"):
        sizes |= {"conv_dim": [16] * 13, "max_position_embeddings": 64, "position_buckets": 16}
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
