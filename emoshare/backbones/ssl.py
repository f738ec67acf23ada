"""Self-supervised speech encoders of transformers: samples (B, N) → frames (B, T, D), 50 per second.

A checkpoint is loaded as what it is: by its own class, every tensor accounted for, normalised and masked as its
authors did, or not at all.

Shapes: B clips, N samples (16 000 per second), T frames, C channels, D features, L layers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from emoshare.backbones import architecture, checkpoint, families
from emoshare.backbones.base import identify
from emoshare.backbones.float32 import Float32
from emoshare.backbones.frontend import accelerate
from emoshare.backbones.layers import LayeredEncoder, SpecAugment
from emoshare.backbones.masked import MaskedBackbone, MaskedGroupNorm, Padding, frames_of
from emoshare.backbones.parts import Behind, Repeat, Squeezed, parts_of
from emoshare.core.config import WindowConfig
from emoshare.core.masks import length_mask
from emoshare.data.window import frame_count


class SpeechEncoder(LayeredEncoder):
    """The parts of a transformers model between its input and its hidden states.

    The input is normalised samples (B, N), or for a model without convolutions features (B, T, C).
    """

    def __init__(self, model: Any, layer: str) -> None:
        kind, model = families.FAMILIES[model.config.model_type], parts_of(model)
        stable = bool(model.config.do_stable_layer_norm) if kind.final_norm is None else kind.final_norm
        super().__init__(model.encoder, layer, stable, tied=isinstance(model.encoder, Behind))
        self.features: Any = model.feature_extractor if kind.samples else ChannelsFirst()
        self.projection = model.feature_projection
        self.samples, self.padding = kind.samples, Padding()
        self.norms: list[MaskedGroupNorm] = []
        if kind.samples:  # the others heed a mask in all that they do
            self.mask_norms()
            self.padding.hide_from(self.transformer)
        if layer != "last" and isinstance(self.transformer, Squeezed):
            self.transformer.upsample = Repeat(self.transformer.factor)  # the other is of the last layer alone
        if model.config.model_type == "wav2vec2-conformer":
            self.transformer.pos_conv_embed = nn.Identity()  # it is in the checkpoints, and nothing uses it

    def mask_norms(self) -> None:
        """Let the group norm behind the first convolution, if there is one, take each clip's own steps alone."""
        for layer in self.features.conv_layers:
            if isinstance(norm := getattr(layer, "layer_norm", None), nn.GroupNorm):
                layer.layer_norm = MaskedGroupNorm(norm, layer.conv)
                self.norms.append(layer.layer_norm)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """As `LayeredEncoder.forward`, of samples (B, N) or features (B, T, C)."""
        for norm in self.norms:
            norm.lengths = lengths
        channels = self.features(inputs.to(next(self.parameters()).dtype)).transpose(1, 2)  # (B, T, C)
        mask = None
        if lengths is not None:
            mask = length_mask(frames_of(lengths) if self.samples else lengths, channels.shape[1])
        self.padding.mask = mask
        hidden = self.projection(channels)  # (B, T, D)
        if isinstance(hidden, tuple):
            hidden = hidden[0]
        if self.augment is not None:
            hidden = self.augment(hidden, mask)
        last = self.transformer(hidden, attention_mask=mask).last_hidden_state
        if isinstance(self.transformer, Squeezed):
            self.states = [self.transformer.spread(state, mask, last.shape[1]) for state in self.states]
        return self.select_states(last)


class ChannelsFirst(nn.Module):
    """(B, T, C) → (B, C, T), as convolutions give it."""

    def forward(self, features: Tensor) -> Tensor:
        return features.transpose(1, 2)


class Rotation(Float32):
    """transformers' rotary position embedding with its angles always in float32, and nothing kept from call to call.

    In bfloat16 the angles of positions beyond 256 would be rounded to others.
    """

    inv_freq: Tensor  # (D / 2,) of a head

    def __init__(self, inv_freq: Tensor) -> None:
        super().__init__()
        self.register_buffer("inv_freq", inv_freq.detach().float())

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, T, D) → cosines and sines (2, T, 1, 1, D of a head)."""
        angles = torch.arange(hidden.shape[1], device=hidden.device)[:, None] * self.inv_freq
        angles = torch.cat([angles, angles], 1)[:, None, None]
        return torch.stack([angles.cos(), angles.sin()]).to(hidden.dtype)


def check(config: Any, window: WindowConfig) -> tuple[Path | None, Any]:
    """Folder and transformers' config of a checkpoint. EmoshareError where it does not fit the config or the window."""
    folder = checkpoint.locate(config)
    theirs = architecture.describe(config, folder, checkpoint.preprocessing(folder))
    policy(config, window, theirs, folder)
    architecture.check_masks(config, window, frame_count, config.dim)
    if not hasattr(families.model_class(config.type), "_mask_hidden_states"):
        architecture.refuse_masks(config)
    return folder, theirs


def policy(config: Any, window: WindowConfig, theirs: Any, folder: Path | None) -> dict[str, Any]:
    """As `checkpoint.policy`. theirs: transformers' config."""
    return checkpoint.policy(config, window, architecture.norm_of(config.type, theirs), folder)


def load(
    config: Any, window: WindowConfig, dtype: torch.dtype, seed: int, cache: Path, fast: bool = True
) -> MaskedBackbone:
    """The encoder of a checkpoint. `fast`: a frozen one gets the channels-last front end."""
    folder, theirs = check(config, window)
    facts = policy(config, window, theirs, folder)
    encoder, identity = encoder_of(config, window, theirs, folder, seed, facts)
    if config.frozen:
        fold(encoder)
        encoder.features = accelerate(encoder.features) if fast else encoder.features
    backbone = MaskedBackbone(encoder.to(dtype), identity, window, config.frozen)
    backbone.epsilon = families.FAMILIES[config.type].epsilon
    return backbone


def encoder_of(
    config: Any, window: WindowConfig, theirs: Any, folder: Path | None, seed: int, facts: dict[str, Any]
) -> tuple[SpeechEncoder, dict[str, Any]]:
    """The encoder with a checkpoint's weights, cut to the layers that are read, and its identity.

    theirs: transformers' config. facts: what the frames depend on beside config, window and model.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of SpecAugment's vector, where the checkpoint has none
        model = checkpoint.build(config, theirs, folder, seed)
    facts = facts | checkpoint.facts_of(config, model, theirs, folder, seed)
    encoder = SpeechEncoder(model, config.layer)
    if getattr(theirs, "position_embeddings_type", None) == "rotary":
        encoder.transformer.embed_positions = Rotation(encoder.transformer.embed_positions.inv_freq)
    identity = identify(config, window, facts, encoder)
    if config.specaugment and not config.frozen:
        encoder.augment = SpecAugment(model.config, type(model)._mask_hidden_states, model.masked_spec_embed)
    return encoder, identity


def fold(encoder: SpeechEncoder) -> None:
    """Multiply the positional convolution's weight norm out, once instead of in every batch."""
    convolution = getattr(encoder.transformer.pos_conv_embed, "conv", None)
    if convolution is not None and parametrize.is_parametrized(convolution, "weight"):
        parametrize.remove_parametrizations(convolution, "weight")
