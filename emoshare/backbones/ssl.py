"""Self-supervised speech encoders of transformers: samples (B, N) → frames (B, T, D), 50 per second.

A checkpoint is loaded as what it is: by its own class, every tensor accounted for, normalised and masked as its
authors did, or not at all.

Shapes: B clips, N samples (16 000 per second), T frames, C channels, D features, L layers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from emoshare.backbones import checkpoint
from emoshare.backbones.base import identify
from emoshare.backbones.frontend import accelerate
from emoshare.backbones.masked import MaskedBackbone
from emoshare.core.config import BackboneConfig, WindowConfig

# What the tensors alone don't tell of a model, and its frames depend on.
ARCHITECTURE = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act", "layer_norm_eps",
    "feat_extract_norm", "feat_extract_activation", "feat_proj_layer_norm", "do_stable_layer_norm", "conv_dim",
    "conv_kernel", "conv_stride", "conv_bias", "num_conv_pos_embeddings", "num_conv_pos_embedding_groups",
    "conv_pos_batch_norm", "num_buckets", "max_bucket_distance",
)  # fmt: skip


class SpeechEncoder(nn.Module):
    """The parts of a transformers model between normalised samples and hidden states.

    `layer`: "last" is the model's last_hidden_state, an index i its hidden_states[i], "weighted" all of them.
    """

    def __init__(self, model: Any, layer: str) -> None:
        super().__init__()
        self.features, self.projection = model.feature_extractor, model.feature_projection
        self.transformer = model.encoder
        self.stable = bool(model.config.do_stable_layer_norm)  # its last norm comes after hidden_states[L]
        self.weighted = layer == "weighted"
        self.states: list[Tensor] = []  # hidden states of the batch, for layer=weighted
        self.augment: SpecAugment | None = None
        if layer.isdigit():
            self.transformer.layers = self.transformer.layers[: int(layer)]
            if self.stable:
                self.transformer.layer_norm = nn.Identity()
        if self.weighted:
            self.transformer.layers[0].register_forward_pre_hook(self.keep_input)
            for block in self.transformer.layers:
                block.register_forward_hook(self.keep_output)

    def keep_input(self, block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.states = [inputs[0]]

    def keep_output(self, block: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        self.states.append(output[0] if isinstance(output, tuple) else output)

    def forward(self, waves: Tensor, mask: Tensor | None = None) -> Tensor:
        """Samples (B, N) and, where clips differ in length, (B, T) true for frames of speech → (B, T, width)."""
        self.states = []  # a batch that memory did not suffice for may have left some
        waves = waves.to(self.projection.projection.weight.dtype)
        hidden = self.features(waves).transpose(1, 2)  # (B, T, C)
        hidden = self.projection(hidden)  # (B, T, D)
        if isinstance(hidden, tuple):
            hidden = hidden[0]
        if self.augment is not None:
            hidden = self.augment(hidden, mask)
        hidden = self.transformer(hidden, attention_mask=mask).last_hidden_state
        if self.weighted:
            hidden, self.states = torch.stack(self.states, dim=2).flatten(2), []  # (B, T, (L + 1)·D)
        return hidden


class SpecAugment(nn.Module):
    """Masks stretches of frames and of features in training, by transformers' own code. Park et al., 2019.

    transformers draws with NumPy: here from a state that PyTorch's generator gives, as a resumed run restores that one.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.config, self.masked_spec_embed = model.config, model.masked_spec_embed
        self.mask_frames = type(model)._mask_hidden_states

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, D) and (B, T) true for frames of speech or None → (B, T, D)."""
        if not self.training:
            return hidden
        before = np.random.get_state()
        np.random.seed(int(torch.randint(2**32, ())))
        try:
            return self.mask_frames(self, hidden, attention_mask=mask)
        finally:
            np.random.set_state(before)


class SpeechBackbone(MaskedBackbone):
    """A speech encoder with its checkpoint's normalisation and mask."""

    convertible = True

    @property
    def blocks(self) -> Any:  # type: ignore[override]
        return self.encoder.transformer.layers  # type: ignore[union-attr]


def load(
    config: BackboneConfig, window: WindowConfig, dtype: torch.dtype, seed: int, cache: Path, fast: bool = True
) -> SpeechBackbone:
    """The encoder of a checkpoint. `fast`: a frozen one gets the channels-last front end."""
    folder = checkpoint.locate(config)
    architecture = checkpoint.describe(config, folder)
    facts = checkpoint.policy(config, window, architecture.feat_extract_norm, folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of SpecAugment's vector, where the checkpoint has none
        model = checkpoint.build(config, architecture, folder, seed)
    facts |= {"class": type(model).__name__, "parameters": checkpoint.count_parameters(config, model)}
    encoder = SpeechEncoder(model, config.layer)  # cuts the layers that are not read
    facts |= {"commit": folder.name if folder and folder.parent.name == "snapshots" else None}
    facts |= {"seed": None if config.pretrained else seed}
    facts |= {"architecture": {key: getattr(architecture, key, None) for key in ARCHITECTURE}}
    identity = identify(config, window, facts, encoder)
    if config.frozen:
        fold(encoder)
        encoder.features = accelerate(encoder.features) if fast else encoder.features
    elif config.specaugment:
        encoder.augment = SpecAugment(model)
    return SpeechBackbone(encoder.to(dtype), identity, window, config.frozen)


def fold(encoder: SpeechEncoder) -> None:
    """Multiply the positional convolution's weight norm out, once instead of in every batch."""
    convolution = getattr(encoder.transformer.pos_conv_embed, "conv", None)
    if convolution is not None and parametrize.is_parametrized(convolution, "weight"):
        parametrize.remove_parametrizations(convolution, "weight")
