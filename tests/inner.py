"""Small audio language models of transformers' own classes, in the hub's format, and the frames of their encoders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emoshare.backbones.kinds.encoder import Options as Encoder

DIM, LAYERS, BANDS = 32, 3, 20
WHISPER = {
    "d_model": DIM, "encoder_layers": LAYERS, "encoder_attention_heads": 4, "encoder_ffn_dim": 48,
    "num_mel_bins": BANDS, "max_source_positions": 1500,
}  # fmt: skip
RENAMED = {
    "hidden_size": DIM, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": 48,
    "num_mel_bins": BANDS, "max_source_positions": 1500,
}  # fmt: skip
ROTARY = {key: value for key, value in RENAMED.items() if key != "max_source_positions"} | {"head_dim": 8}
CHUNKED = {key: value for key, value in WHISPER.items() if key != "max_source_positions"} | {
    "downsample_hidden_size": 8, "n_window_infer": 200,
}  # fmt: skip
TEXT = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8,
    "intermediate_size": 16, "vocab_size": 50, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
MODELS = {  # model_type → stem of transformers' classes, sizes of its encoder, the language model's type
    "qwen2_audio": ("Qwen2Audio", WHISPER, "qwen2"),
    "voxtral": ("Voxtral", RENAMED, "llama"),
    "audioflamingo3": ("AudioFlamingo3", RENAMED, "qwen2"),
    "glmasr": ("GlmAsr", ROTARY, "llama"),
    "qwen3_asr": ("Qwen3ASR", CHUNKED, "qwen3"),
}


def write(folder: Path, kind: str, text: dict[str, Any] | None = None, shard: str = "5GB", **sizes: Any) -> Encoder:
    """A model with its encoder and its language model, and the config that takes it by its path alone."""
    import transformers

    stem, own, language = MODELS[kind]
    torch.manual_seed(0)
    settings = {"audio_config": own | sizes, "text_config": {"model_type": language} | TEXT | (text or {})}
    config = getattr(transformers, stem + "Config")(**settings)
    model = getattr(transformers, stem + "ForConditionalGeneration")(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "audio" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder, max_shard_size=shard)
    extractor = "Qwen3ASRFeatureExtractor" if kind == "qwen3_asr" else "WhisperFeatureExtractor"
    getattr(transformers, extractor)(feature_size=(own | sizes)["num_mel_bins"]).save_pretrained(folder)
    return Encoder(path=str(folder), type="auto")


def reference(folder: Path, kind: str, *waves: Tensor) -> Any:
    """transformers' hidden states of one clip (N,) by its whole model's encoder, which takes the clip's length alone.

    Those with learned positions are told of as many as the clip has frames. Qwen3-ASR's takes several clips, too.
    """
    import transformers

    model = getattr(transformers, MODELS[kind][0] + "ForConditionalGeneration").from_pretrained(folder).eval()
    encoder = next(module for name, module in model.named_modules() if name.endswith("audio_tower"))
    if kind == "qwen3_asr":
        return chunked_reference(encoder, transformers.Qwen3ASRFeatureExtractor.from_pretrained(folder), waves)
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(folder)
    [wave] = waves
    features = extractor(wave.numpy(), sampling_rate=16_000, padding="longest", return_tensors="pt").input_features
    frames = features.shape[2] // 2
    features = features[:, :, : 2 * frames]
    if hasattr(encoder, "embed_positions"):
        encoder.embed_positions.weight = torch.nn.Parameter(encoder.embed_positions.weight[:frames])
        encoder.config.max_source_positions = frames
    more = {"input_features_mask": torch.ones(1, 2 * frames)} if kind == "audioflamingo3" else {}
    with torch.no_grad():
        return encoder(features, output_hidden_states=True, **more)


def chunked_reference(encoder: Any, extractor: Any, waves: Sequence[Tensor]) -> Any:
    """The same of Qwen3-ASR's encoder: the frames of all clips end to end, (1, T, D)."""
    inputs = extractor(
        [wave.numpy() for wave in waves], sampling_rate=16_000, padding="longest", return_tensors="pt",
        return_attention_mask=True,
    )  # fmt: skip
    with torch.no_grad():
        found = encoder(inputs["input_features"], inputs["attention_mask"], output_hidden_states=True)
    found.last_hidden_state = found.last_hidden_state[None]
    found.hidden_states = tuple(state[None] for state in found.hidden_states)
    return found
