"""Whisper's encoder on a clip's own length: samples (B, N) → log-mel → frames (B, T, D), 50 per second.

transformers pads every clip with silence to 30 s, as the speech recogniser was trained, so that a clip of 3 s costs ten
times as much. Here the spectrum ends where the clip (or the window) ends, and only its own T of the 1,500 positions
are used. The decoder is not loaded. The frames are others than those of the padded clip, which attend to the silence,
too: with Whisper tiny.en their cosine similarity is 0.82 for clips of 1 s, 0.92 for 3 s and 0.97 for 6 s in the last
layer, and 0.99 or more in the second of four. With window.pad=zeros and window.seconds=30 they are transformers' own.

Shapes: B clips, N samples (16,000 per second), F frames of 10 ms, M mel bands, T frames of 20 ms, D features.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emoshare.backbones import architecture, checkpoint, families
from emoshare.backbones.base import identify
from emoshare.backbones.float32 import Float32
from emoshare.backbones.layers import LayeredEncoder, SpecAugment
from emoshare.backbones.mel import MelBackbone, mask_policy
from emoshare.backbones.spectrum import STEP, VERSION, WIDTH, WhisperSpectrum, check_preprocessor, facts
from emoshare.core.config import RATE, WindowConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.masks import length_mask

__all__ = ["VERSION", "check", "load"]  # the version of the features is part of what is noted of a backbone


class Transformer(nn.Module):
    """The layers of transformers' WhisperEncoder and the norm after them, without its fixed length.

    Or of an encoder that was made from it: with rotary positions, or a mean over frames before the norm.
    """

    def __init__(self, model: Any, pool: int) -> None:
        super().__init__()
        self.config, self.pool, self.layers = model.config, pool, model.layers
        self.dropout = getattr(model, "dropout", 0.0)
        self.layerdrop = getattr(model.config, families.FAMILIES[model.config.model_type].layerdrop, 0.0)
        self.layer_norm = model.layer_norm if hasattr(model, "layer_norm") else model.norm
        self.rotation = Kept(model.rotary_emb) if hasattr(model, "rotary_emb") else None

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, D), true for frames of speech (B, T) or None → (B, T / pool, D)."""
        from transformers.masking_utils import create_bidirectional_mask

        options = {"attention_mask": create_bidirectional_mask(self.config, inputs_embeds=hidden, attention_mask=mask)}
        if self.rotation is not None:
            options["position_embeddings"] = self.rotation(hidden)
        hidden = F.dropout(hidden, p=self.dropout, training=self.training)
        for layer in self.layers:
            if self.training and self.layerdrop > 0 and torch.rand([]) < self.layerdrop:
                continue
            hidden = layer(hidden, **options)
        return self.layer_norm(mean_of(hidden, self.pool))


class Kept(Float32):
    """transformers' rotary position embedding, its angles always in float32."""

    def __init__(self, embedding: nn.Module) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D) → cosines and sines, (1, T, D of a head) each."""
        return self.embedding(hidden, torch.arange(hidden.shape[1], device=hidden.device)[None])


def mean_of(hidden: Tensor, pool: int) -> Tensor:
    """(B, T, D) → (B, T / pool, D): the means of `pool` frames; those that are left over at the end are left out."""
    return hidden if pool == 1 else F.avg_pool1d(hidden.transpose(1, 2), pool).transpose(1, 2)


class WhisperEncoder(LayeredEncoder):
    """Log-mel features (B, M, F) → frames (B, T, width), T = ⌈F / 2⌉, at most 1,500; or half of that, of two means."""

    positions: Tensor | None  # (1500, D), sines

    def __init__(self, model: Any, layer: str, pool: int = 1) -> None:
        super().__init__(Transformer(model, pool), layer, final_norm=True, tied=True)
        self.pool, self.features = pool, nn.ModuleList([model.conv1, model.conv2])
        known = model.embed_positions.weight.detach().clone() if hasattr(model, "embed_positions") else None
        self.register_buffer("positions", known)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """As `LayeredEncoder.forward`."""
        first, second = self.features
        mask = None if lengths is None else length_mask(lengths, inputs.shape[2])
        features = inputs.to(next(self.parameters()).dtype)
        if self.augment is not None:
            features = self.augment(features.clone(), mask)
        hidden = F.gelu(first(features))  # (B, D, F)
        if mask is not None:  # the next convolution must see zeros where a clip alone has its end
            hidden = hidden * mask[:, None]
        hidden = F.gelu(second(hidden)).transpose(1, 2)  # (B, T, D)
        if self.positions is not None:
            hidden = hidden + self.positions[: hidden.shape[1]]
        last = self.transformer(hidden, None if mask is None else mask[:, ::2])
        self.states = [mean_of(state, self.pool) for state in self.states]
        return self.select_states(last)


def load(config: Any, window: WindowConfig, dtype: torch.dtype, seed: int, cache: Path) -> MelBackbone:
    """The encoder of a checkpoint, whatever it was saved with.

    Raises EmoshareError as `check`, and for a checkpoint that lacks a tensor.
    """
    folder, theirs = check(config, window)
    with torch.random.fork_rng(devices=[]):
        model = checkpoint.build(config, theirs, folder, seed)
    pool = families.FAMILIES[config.type].pool
    spectrum = WhisperSpectrum(theirs.num_mel_bins, pool)
    own = mask_policy(window) | checkpoint.facts_of(config, model, theirs, folder, seed)
    own |= {"frames_per_second": RATE // STEP // 2 // pool} if pool > 1 else {}
    encoder = WhisperEncoder(model, config.layer, pool)
    identity = identify(config, window, own | {"spectrum": facts(spectrum)}, encoder)
    if config.specaugment and not config.frozen:
        from transformers import WhisperModel

        encoder.augment = SpecAugment(model.config, WhisperModel._mask_input_features, time=2)
    return MelBackbone(encoder.to(dtype), spectrum, identity, window, config.frozen)


def longest_input(theirs: Any) -> int:
    """Mel frames that an encoder has positions for; 0: of any number, as its positions are rotary."""
    return 2 * (getattr(theirs, "max_source_positions", None) or 0)


def check(config: Any, window: WindowConfig) -> tuple[Path | None, Any]:
    """Folder and transformers' config of a checkpoint.

    Raises EmoshareError for a window that is longer than the encoder has positions (30 s), and for a checkpoint that is
    none of Whisper's.
    """
    folder = checkpoint.locate(config)
    theirs = architecture.describe(config, folder)
    longest = (longest_input(theirs) or math.inf) * STEP / RATE
    if window.seconds > longest:
        raise EmoshareError(
            f"window.seconds={window.seconds:g}: {config.name} hears {longest:g} s at most; set it to that"
        )
    expected = {"feature_size": theirs.num_mel_bins, "n_fft": WIDTH, "hop_length": STEP}
    check_preprocessor(folder, checkpoint.preprocessor(folder), expected)
    architecture.check_masks(config, window, lambda samples: samples // STEP, theirs.num_mel_bins)
    return folder, theirs
