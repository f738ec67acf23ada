"""Whisper's encoder on a clip's own length: samples (B, N) → log-mel → frames (B, T, D), 50 per second.

transformers pads every clip with silence to 30 s, as the speech recogniser was trained, so that a clip of 3 s costs ten
times as much. Here the spectrum ends where the clip (or the window) ends, and only its own T of the 1,500 positions
are used. The decoder is not loaded. The frames are others than those of the padded clip, which attend to the silence,
too: with Whisper tiny.en their cosine similarity is 0.82 for clips of 1 s, 0.92 for 3 s and 0.97 for 6 s in the last
layer, and 0.99 or more in the second of four. With window.pad=zeros and window.seconds=30 they are transformers' own.

Shapes: B clips, N samples (16,000 per second), F frames of 10 ms, M mel bands, T frames of 20 ms, D features.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emoshare.backbones import architecture, checkpoint
from emoshare.backbones.base import identify
from emoshare.backbones.layers import LayeredEncoder, SpecAugment
from emoshare.backbones.mel import MelBackbone, mask_policy
from emoshare.backbones.spectrum import STEP, VERSION, WIDTH, WhisperSpectrum, check_preprocessor, facts
from emoshare.core.config import RATE, WindowConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.masks import length_mask

__all__ = ["VERSION", "check", "load"]  # the version of the features is part of what is noted of a backbone


class Transformer(nn.Module):
    """The layers of transformers' WhisperEncoder and the norm after them, without its fixed length."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.config, self.dropout, self.layerdrop = model.config, model.dropout, model.layerdrop
        self.layers, self.layer_norm = model.layers, model.layer_norm

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, D), true for frames of speech (B, T) or None → (B, T, D)."""
        from transformers.masking_utils import create_bidirectional_mask

        attention = create_bidirectional_mask(config=self.config, inputs_embeds=hidden, attention_mask=mask)
        hidden = F.dropout(hidden, p=self.dropout, training=self.training)
        for layer in self.layers:
            if self.training and self.layerdrop > 0 and torch.rand([]) < self.layerdrop:
                continue
            hidden = layer(hidden, attention)
        return self.layer_norm(hidden)


class WhisperEncoder(LayeredEncoder):
    """Log-mel features (B, M, F) → frames (B, T, width), T = ⌈F / 2⌉, at most 1,500."""

    positions: Tensor  # (1500, D), sines

    def __init__(self, model: Any, layer: str) -> None:
        super().__init__(Transformer(model), layer, final_norm=True, tied=True)
        self.features = nn.ModuleList([model.conv1, model.conv2])
        self.register_buffer("positions", model.embed_positions.weight.detach().clone())

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """As `LayeredEncoder.forward`."""
        first, second = self.features
        mask = None if lengths is None else length_mask(lengths, inputs.shape[2])
        features = inputs.to(self.positions.dtype)
        if self.augment is not None:
            features = self.augment(features.clone(), mask)
        hidden = F.gelu(first(features))  # (B, D, F)
        if mask is not None:  # the next convolution must see zeros where a clip alone has its end
            hidden = hidden * mask[:, None]
        hidden = F.gelu(second(hidden)).transpose(1, 2)  # (B, T, D)
        hidden = hidden + self.positions[: hidden.shape[1]]
        return self.chosen(self.transformer(hidden, None if mask is None else mask[:, ::2]))


def load(config: Any, window: WindowConfig, dtype: torch.dtype, seed: int, cache: Path) -> MelBackbone:
    """The encoder of a checkpoint, whatever it was saved with.

    Raises EmoshareError as `check`, and for a checkpoint that lacks a tensor.
    """
    folder, found = check(config, window)
    with torch.random.fork_rng(devices=[]):
        model = checkpoint.build(config, found, folder, seed)
    spectrum = WhisperSpectrum(found.num_mel_bins)
    own = mask_policy(window) | checkpoint.facts_of(config, model, found, folder, seed)
    encoder = WhisperEncoder(model, config.layer)
    identity = identify(config, window, own | {"spectrum": facts(spectrum)}, encoder)
    if config.specaugment and not config.frozen:
        from transformers import WhisperModel

        encoder.augment = SpecAugment(model.config, WhisperModel._mask_input_features, time=2)
    return MelBackbone(encoder.to(dtype), spectrum, identity, window, config.frozen)


def check(config: Any, window: WindowConfig) -> tuple[Path | None, Any]:
    """Folder and transformers' config of a checkpoint.

    Raises EmoshareError for a window that is longer than the encoder has positions (30 s), and for a checkpoint that is
    none of Whisper's.
    """
    folder = checkpoint.locate(config)
    found = architecture.describe(config, folder)
    longest = found.max_source_positions * 2 * STEP / RATE
    if window.seconds > longest:
        raise EmoshareError(
            f"window.seconds={window.seconds:g}: {config.name} hears {longest:g} s at most; set it to that"
        )
    expected = {"feature_size": found.num_mel_bins, "n_fft": WIDTH, "hop_length": STEP}
    check_preprocessor(folder, checkpoint.preprocessor(folder), expected)
    architecture.check_masks(config, window, lambda samples: samples // STEP, found.num_mel_bins)
    return folder, found
