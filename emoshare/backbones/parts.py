"""Encoders on samples whose parts transformers names or joins otherwise, in the form that `ssl.SpeechEncoder` takes.

Shapes: B clips, T frames, D features.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emoshare.core.masks import length_mask


def parts_of(model: Any) -> Any:
    """The object with `config`, `feature_extractor`, `feature_projection` and `encoder`: the model, or its parts."""
    if model.config.model_type == "omniasr_audio":
        front = model.subsampling
        projection = nn.Sequential(front.layer_norm, front.projection)
        features: nn.Module = Convolutions(front.conv_layers)
        return SimpleNamespace(
            config=model.config, feature_extractor=features, feature_projection=projection, encoder=Behind(model)
        )
    if model.config.model_type in ("sew", "sew-d"):
        linear = model.feature_projection if model.project_features else nn.Identity()
        projection = nn.Sequential(model.layer_norm, linear, model.feature_dropout)
        features = model.feature_extractor
        return SimpleNamespace(
            config=model.config, feature_extractor=features, feature_projection=projection, encoder=Squeezed(model)
        )
    return model


class Convolutions(nn.Module):
    """Samples (B, N) → (B, C, T)."""

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.conv_layers = layers

    def forward(self, waves: Tensor) -> Tensor:
        hidden = waves[:, None]
        for layer in self.conv_layers:
            hidden = layer(hidden)
        return hidden


class Layered(nn.Module):
    """Layers in a row, one of which may be left out at random in training."""

    config: Any
    layers: Any

    def run(self, hidden: Tensor, **options: Any) -> Tensor:
        """(B, T, D) → (B, T, D). options: of each layer."""
        for layer in self.layers:
            if not (self.training and torch.rand([]) < self.config.layerdrop):
                hidden = layer(hidden, **options)
        return hidden


class Behind(Layered):
    """Omnilingual ASR's layers, with the norm behind the last."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.config, self.pos_conv_embed = model.config, model.encode_positions
        self.layers, self.layer_norm = model.layers, model.layer_norm

    def forward(self, hidden: Tensor, attention_mask: Tensor | None = None) -> Any:
        """(B, T, D), true for frames of speech (B, T) or None → (B, T, D)."""
        from transformers.masking_utils import create_bidirectional_mask

        mask = create_bidirectional_mask(self.config, inputs_embeds=hidden, attention_mask=attention_mask)
        hidden = self.run(self.pos_conv_embed(hidden), attention_mask=mask)
        return SimpleNamespace(last_hidden_state=self.layer_norm(hidden))


class Squeezed(Layered):
    """SEW's and SEW-D's layers, on means of two frames, which are spread over the two again. Wu et al., 2022.

    A last frame without another is heard by the positional convolution alone, and is itself given as zeros: in a batch
    as alone.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        encoder, self.config, self.factor = model.encoder, model.config, model.config.squeeze_factor
        self.pos_conv_embed, self.pool, self.upsample = encoder.pos_conv_embed, encoder.pool, encoder.upsample
        self.relative = getattr(encoder, "encoder", None)  # SEW-D's, which attends to distances
        if self.relative is None:
            self.layers, self.norm = encoder.layers, nn.Sequential(encoder.layer_norm, encoder.dropout)
        else:
            self.layers, self.norm = self.relative.layer, nn.Sequential()
            del self.relative.layer

    def forward(self, hidden: Tensor, attention_mask: Tensor | None = None) -> Any:
        """(B, T, D), true for frames of speech (B, T) or None → (B, T, D)."""
        frames = hidden.shape[1]
        if frames < self.factor:
            hidden = F.pad(hidden, (0, 0, 0, self.factor - frames))
        channels = hidden.transpose(1, 2)
        pooled = self.pool(channels)
        hidden = (pooled + self.pos_conv_embed(channels)[..., : pooled.shape[2]]).transpose(1, 2)
        counts = None if attention_mask is None else attention_mask.sum(1) // self.factor
        mask = None if counts is None else length_mask(counts.clamp(min=1), hidden.shape[1])
        hidden = self.run(self.norm(hidden), **self.options(hidden, mask))
        return SimpleNamespace(last_hidden_state=self.spread(hidden, attention_mask, frames))

    def spread(self, hidden: Tensor, mask: Tensor | None, frames: int) -> Tensor:
        """States of the layers → one of each frame: (B, T / factor, D) → (B, T, D), zeros where there is none."""
        spread = self.upsample(hidden)[:, :frames]
        spread = F.pad(spread, (0, 0, 0, frames - spread.shape[1]))
        counts = hidden.new_ones(hidden.shape[:1]) * frames if mask is None else mask.sum(1)
        own = counts.long() // self.factor * self.factor
        return spread * length_mask(own, frames)[..., None]

    def options(self, hidden: Tensor, mask: Tensor | None) -> dict[str, Any]:
        """Arguments of each layer beside frames (B, T, D); mask: true for those of speech (B, T), or None: all."""
        from transformers.masking_utils import create_bidirectional_mask

        if self.relative is None:
            attention_mask = create_bidirectional_mask(self.config, inputs_embeds=hidden, attention_mask=mask)
            return {"attention_mask": attention_mask}
        mask = hidden.new_ones(hidden.shape[:2]) if mask is None else mask
        return {
            "attention_mask": self.relative.get_attention_mask(mask.long()),
            "relative_pos": self.relative.get_rel_pos(hidden),
            "rel_embeddings": self.relative.get_rel_embedding(),
        }


class Repeat(nn.Module):
    """Each frame as often as it stands for several: (B, T, D) → (B, T · factor, D)."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden.repeat_interleave(self.factor, 1)
