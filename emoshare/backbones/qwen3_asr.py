"""Qwen3-ASR's encoder: samples (B, N) → log-mel → frames (B, T, D), 13 per second.

Whisper's features are cut into chunks of 1 s. Convolutions make 13 frames of each, whose positions start anew, and the
layers attend within stretches of some chunks. transformers lays the clips of a batch end to end for that; here they
lie side by side under a mask, which can be exported. A clip under 0.5 s is followed by silence, which counts, as
there.

Shapes: B clips, N samples (16,000 per second), F frames of 10 ms, M mel bands, K chunks, T frames, D features,
C channels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emoshare.backbones import architecture, checkpoint
from emoshare.backbones.layers import LayeredEncoder
from emoshare.backbones.mel import MelBackbone, load_encoder
from emoshare.backbones.spectrum import STEP, VERSION, WIDTH, WhisperSpectrum, check_preprocessor
from emoshare.backbones.whisper import Transformer
from emoshare.core.config import WindowConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.masks import length_mask

__all__ = ["VERSION", "check", "load"]  # the version of the features is part of what is noted of a backbone

CHUNK, FRAMES, HALVINGS = 100, 13, 3  # mel frames of a chunk; frames made of them, by convolutions that halve
SHORTEST = 8000  # samples


def frames_of(count: Any) -> Any:
    """Mel frames of a clip → frames of the encoder. Also of an array or a tensor."""
    whole, rest = count // CHUNK, count % CHUNK
    for _ in range(HALVINGS):
        rest = (rest + 1) // 2
    return whole * FRAMES + rest


class ChunkedSpectrum(WhisperSpectrum):
    """As Qwen3ASRFeatureExtractor without its padding to whole chunks: (B, N) → (B, M, F)."""

    def __init__(self, bands: int) -> None:
        super().__init__(bands)
        self.shortest = SHORTEST

    def frames(self, samples: Any) -> Any:
        return frames_of(samples // STEP)


class ChunkedEncoder(LayeredEncoder):
    """Log-mel features (B, M, F) → frames (B, T, width)."""

    positions: Tensor  # (13, D), sines

    def __init__(self, model: Any, layer: str) -> None:
        self.stretch = model.config.n_window_infer // CHUNK * FRAMES
        model.layers = nn.ModuleList(like_whisper(each, model.config) for each in model.layers)
        model.layer_norm = model.ln_post
        super().__init__(Transformer(model, pool=1), layer, final_norm=True)
        self.features = nn.Sequential(
            model.conv2d1, nn.GELU(), model.conv2d2, nn.GELU(), model.conv2d3, nn.GELU()
        )  # (B·K, 1, M, 100) → (B·K, C, M / 8, 13)
        self.projection = model.conv_out
        self.register_buffer("positions", model.positional_embedding.positional_embedding[:FRAMES].clone())

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """As `LayeredEncoder.forward`."""
        clips, _, count = inputs.shape
        features = F.pad(inputs.to(next(self.parameters()).dtype), (0, -count % CHUNK))
        chunks = features.unflatten(2, (-1, CHUNK)).transpose(1, 2).flatten(0, 1)[:, None]  # (B·K, 1, M, 100)
        if chunks.device.type == "cpu" and not torch.jit.is_tracing():  # a chunk stays in the processor's cache
            hidden = torch.cat([self.features(chunk) for chunk in chunks.split(1)])
        else:
            hidden = self.features(chunks)
        hidden = self.projection(hidden.permute(0, 3, 1, 2).flatten(2)) + self.positions  # (B·K, 13, D)
        hidden = hidden.unflatten(0, (clips, -1)).flatten(1, 2)[:, : frames_of(count)]  # (B, T, D)
        return self.select_states(self.transformer(hidden, self.mask(hidden, lengths)))

    def mask(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """The frames that attend to each other (B or 1, 1, T, T): a stretch's, of the clip alone (padding: to all)."""
        stretch = torch.arange(hidden.shape[1], device=hidden.device) // self.stretch
        together = (stretch[:, None] == stretch)[None, None]
        if lengths is None:
            return together
        own = length_mask(frames_of(lengths), hidden.shape[1])
        return together & (own[:, None, None] | ~own[:, None, :, None])


def like_whisper(layer: Any, config: Any) -> nn.Module:
    """The same layer in Whisper's class, which takes a batch of clips under a mask."""
    from transformers.models.whisper.modeling_whisper import WhisperEncoderLayer

    with torch.device("meta"):
        made = WhisperEncoderLayer(config)
    for ours, theirs in ((made.self_attn, layer.self_attn), (made, layer)):
        for name, module in theirs.named_children():
            if name != "self_attn":
                setattr(ours, name, module)
    return made.train(layer.training)


def load(config: Any, window: WindowConfig, dtype: torch.dtype, seed: int, cache: Path) -> MelBackbone:
    """The encoder of a checkpoint. Raises EmoshareError as `check`, and for one that lacks a tensor."""
    found = check(config, window)
    spectrum = ChunkedSpectrum(found[1].num_mel_bins)
    return load_encoder(config, window, dtype, seed, found, spectrum, ChunkedEncoder, FRAMES)


def check(config: Any, window: WindowConfig) -> tuple[Path | None, Any]:
    """Folder and transformers' config of a checkpoint. EmoshareError for one that takes other features or chunks."""
    folder = checkpoint.locate(config)
    found = architecture.describe(config, folder)
    architecture.refuse_masks(config)
    if 2 * found.n_window != CHUNK or found.n_window_infer < CHUNK:
        raise EmoshareError(
            f"{folder}: its chunks of {2 * found.n_window} mel frames, {found.n_window_infer} together, are not those "
            "of Qwen3-ASR, which are known; name another"
        )
    expected = {"feature_size": found.num_mel_bins, "n_fft": WIDTH, "hop_length": STEP, "min_length": SHORTEST}
    check_preprocessor(folder, checkpoint.preprocessor(folder), expected)
    return folder, found
