"""transformers' families of speech encoders: a table of what is to be known of each, by model_type."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

# What the tensors alone don't tell of a model, and its frames depend on.
TRANSFORMER = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act", "layer_norm_eps",
)  # fmt: skip
CONVOLUTIONAL = (
    *TRANSFORMER,
    "feat_extract_norm", "feat_extract_activation", "feat_proj_layer_norm", "do_stable_layer_norm", "conv_dim",
    "conv_kernel", "conv_stride", "conv_bias", "num_conv_pos_embeddings", "num_conv_pos_embedding_groups",
    "conv_pos_batch_norm", "num_buckets", "max_bucket_distance",
)  # fmt: skip
CONFORMER = ("position_embeddings_type", "rotary_embedding_base", "conv_depthwise_kernel_size")
BERT = ("left_max_position_embeddings", "right_max_position_embeddings", "feature_projection_input_dim")
WHISPER = (
    "d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "activation_function", "num_mel_bins",
    "max_source_positions",
)  # fmt: skip


ROTARY = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size", "hidden_act",
    "num_mel_bins", "rope_parameters",
)  # fmt: skip
FAST = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act", "conv_kernel_size",
    "num_mel_bins", "scale_input",
)  # fmt: skip
PATCHES = (*TRANSFORMER, "patch_size", "frequency_stride", "time_stride", "max_length", "num_mel_bins", "qkv_bias")
RENAMED: dict[str, Any] = {  # our key → its name where it is not Whisper's
    "dim": "hidden_size", "layers": "num_hidden_layers", "layerdrop": "layerdrop",
}  # fmt: skip
RELATIVE = (
    "max_position_embeddings", "position_buckets", "share_att_key", "relative_attention", "pos_att_type",
    "norm_rel_ebd", "feature_layer_norm_eps",
)  # fmt: skip
PARTS = ("audio_config", "encoder_config")  # of a larger model's config.json: that of its encoder


@dataclass(frozen=True)
class Family:
    """The facts that the checkpoints of one model_type share."""

    stem: str  # of transformers' class names
    facts: tuple[str, ...] = CONVOLUTIONAL  # of its config, that frames depend on
    dim: str = "hidden_size"  # what the config calls D
    layers: str = "num_hidden_layers"
    layerdrop: str = "layerdrop"
    samples: bool = True  # it takes samples; otherwise features that are computed from them
    conv_norm: str | None = None  # norm of the convolutions where its config has no word for it
    final_norm: bool | None = None  # a LayerNorm after the last layer; None: where do_stable_layer_norm says so
    vector: bool = True  # it has SpecAugment's vector
    home: str = "transformers"  # module with its classes
    model: str = "Model"  # the end of its class's name
    config: str = "Config"  # and of its config's
    module: str = "ssl"  # of ours, that runs it
    pool: int = 1  # frames of its layers that one of its last is the mean of
    extractor: str = "Wav2Vec2FeatureExtractor"  # transformers' class of what makes its input of samples
    epsilon: float = 1e-7  # that is added to the variance of samples where they are normalised


def _like_whisper(stem: str, package: str, facts: tuple[str, ...] = WHISPER, **keys: Any) -> Family:
    """Whisper's encoder, or one that was made from it, inside another model of transformers."""
    names = {"dim": "d_model", "layers": "encoder_layers", "layerdrop": "encoder_layerdrop", "config": "EncoderConfig"}
    return Family(
        stem, facts, samples=False, final_norm=True, vector=False, model="Encoder",
        home=f"transformers.models.{package}.modeling_{package}",
        **({"module": "whisper", "extractor": "WhisperFeatureExtractor"} | names | keys),
    )  # fmt: skip


FAMILIES = {  # model_type of transformers → what is to be known of it
    "wav2vec2": Family("Wav2Vec2"),
    "hubert": Family("Hubert"),
    "wavlm": Family("WavLM"),
    "unispeech-sat": Family("UniSpeechSat"),
    "unispeech": Family("UniSpeech"),
    "data2vec-audio": Family(
        "Data2VecAudio", (*CONVOLUTIONAL, "conv_pos_kernel_size"), conv_norm="layer", final_norm=False
    ),
    "wav2vec2-conformer": Family("Wav2Vec2Conformer", (*CONVOLUTIONAL, *CONFORMER), final_norm=True),
    "wav2vec2-bert": Family(
        "Wav2Vec2Bert", (*TRANSFORMER, *CONFORMER, *BERT), samples=False, final_norm=False, module="w2v_bert",
        extractor="SeamlessM4TFeatureExtractor",
    ),
    "whisper": _like_whisper("Whisper", "whisper", config="Config"),
    "qwen2_audio_encoder": _like_whisper("Qwen2Audio", "qwen2_audio", pool=2),
    "voxtral_encoder": _like_whisper("Voxtral", "voxtral", **RENAMED),
    "audioflamingo3_encoder": _like_whisper("AudioFlamingo3", "audioflamingo3", pool=2, **RENAMED),
    "glmasr_encoder": _like_whisper("GlmAsr", "glmasr", facts=ROTARY, **RENAMED),
    "qwen3_asr_encoder": _like_whisper(
        "Qwen3ASR", "qwen3_asr", facts=(*WHISPER, "n_window_infer", "downsample_hidden_size"), module="qwen3_asr",
        extractor="Qwen3ASRFeatureExtractor",
    ),
    "sew": Family("SEW", (*CONVOLUTIONAL, "squeeze_factor"), final_norm=False),
    "sew-d": Family("SEWD", (*CONVOLUTIONAL, "squeeze_factor", *RELATIVE), final_norm=False),
    "omniasr_audio": Family(
        "OmniASR", CONVOLUTIONAL, conv_norm="layer", final_norm=True, vector=False, model="AudioModel",
        config="AudioConfig", home="transformers.models.omniasr.modeling_omniasr", epsilon=1e-5,
        extractor="OmniASRFeatureExtractor",
    ),
    "audio-spectrogram-transformer": Family(
        "AST", PATCHES, samples=False, final_norm=True, vector=False, module="ast",
        extractor="ASTFeatureExtractor",
    ),
    "parakeet_encoder": Family(
        "Parakeet", FAST, samples=False, final_norm=False, vector=False, model="Encoder", config="EncoderConfig",
        home="transformers.models.parakeet.modeling_parakeet", module="parakeet",
        extractor="ParakeetFeatureExtractor",
    ),
    "emotion2vec": Family(
        "Emotion2vec", (*CONVOLUTIONAL, "conv_pos_kernel_size", "num_extra_tokens"), conv_norm="layer",
        final_norm=False, vector=False, home="emoshare.backbones.emotion2vec", epsilon=1e-5,
    ),
}  # fmt: skip


def model_class(kind: str) -> Any:
    """The class of the encoder of a model_type."""
    family = FAMILIES[kind]
    return getattr(import_module(family.home), family.stem + family.model)


def config_class(kind: str) -> Any:
    """The class of the config of a model_type."""
    return getattr(import_module(FAMILIES[kind].home), FAMILIES[kind].stem + FAMILIES[kind].config)
