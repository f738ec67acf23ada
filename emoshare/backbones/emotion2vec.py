"""emotion2vec: normalised samples (B, N) → frames (B, T, D), 50 per second. Ma et al., 2023, arXiv 2312.15185.

It is data2vec-audio (front end, positional convolutions, layers with the norm behind) with a bias that is linear in the
distance of two frames (ALiBi; Press et al., 2022) and a few learned tokens in front of the frames, which take part in
attention and are left out of what is given. So transformers' classes are used, and the model is one of theirs.

FunASR's own class computes other frames of a clip that is in a batch with a longer one: its convolutions see the
padding. Here they do not.

Shapes: B clips, T frames, D features, H heads, R tokens in front.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Data2VecAudioConfig, Data2VecAudioModel
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.data2vec.modeling_data2vec_audio import Data2VecAudioEncoder


class Emotion2vecConfig(Data2VecAudioConfig):
    """transformers' config of data2vec-audio, with the number of tokens in front."""

    model_type = "emotion2vec"
    num_extra_tokens: int = 10


class Encoder(Data2VecAudioEncoder):
    """The layers, behind the positional convolutions."""

    def __init__(self, config: Emotion2vecConfig) -> None:
        super().__init__(config)  # type: ignore[no-untyped-call]
        self.extra_tokens = nn.Parameter(torch.zeros(1, config.num_extra_tokens, config.hidden_size))
        self.alibi_scale = nn.Parameter(torch.ones(1, 1, config.num_attention_heads, 1, 1))

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **_: Any) -> BaseModelOutput:
        """(B, T, D), true for frames of speech (B, T) or None → (B, T, D)."""
        hidden = hidden_states + self.pos_conv_embed(hidden_states)
        bias = self.bias(hidden)
        if attention_mask is not None:
            real = nn.functional.pad(attention_mask.bool(), (self.extra_tokens.shape[1], 0), value=True)
            bias = bias.masked_fill(~real[:, None, None], -math.inf)  # (B, H, R + T, R + T)
        hidden = torch.cat([self.extra_tokens.expand(hidden.shape[0], -1, -1), hidden], 1)  # (B, R + T, D)
        hidden = self.dropout(self.layer_norm(hidden))
        for layer in self.layers:
            if not (self.training and torch.rand([]) < self.config.layerdrop):
                hidden = layer(hidden, attention_mask=bias)
        return BaseModelOutput(last_hidden_state=hidden[:, self.extra_tokens.shape[1] :])

    def bias(self, hidden: Tensor) -> Tensor:
        """Added to the scores before the softmax: -|i - j| · slope · scale of a head, 0 for the tokens in front.

        (B, T, D) → (1, H, R + T, R + T), in float32 rounded to the precision of the frames.
        """
        place = torch.arange(hidden.shape[1], device=hidden.device)
        distance = (place[:, None] - place).abs().float()  # (T, T)
        slope = torch.tensor(slopes(self.config.num_attention_heads), device=hidden.device)[:, None, None]
        scale = self.alibi_scale[0].float().clamp(min=0)  # (1, H, 1, 1)
        tokens = self.extra_tokens.shape[1]
        return nn.functional.pad(-distance * slope * scale, (tokens, 0, tokens, 0)).to(hidden.dtype)


class Emotion2vecModel(Data2VecAudioModel):
    """The bare encoder of a checkpoint."""

    config_class = Emotion2vecConfig

    def __init__(self, config: Emotion2vecConfig) -> None:
        super().__init__(config)
        self.encoder = Encoder(config)


def slopes(heads: int) -> list[float]:
    """ALiBi's, one for each head: 2^(-8 i / heads) for a power of two, else those of the next lower one and between."""
    power = 2 ** math.floor(math.log2(heads))
    own = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    return own if power == heads else own + slopes(2 * power)[0::2][: heads - power]
