"""Parakeet's encoder (FastConformer): samples (B, N) → log-mel → frames (B, T, D), 12.5 per second.

It masks padding in all that it does, so that transformers' own forward is run as it is.

Shapes: B clips, N samples (16,000 per second), F frames of 10 ms, M mel bands, T frames of 80 ms, D features.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from emoshare.backbones import architecture, checkpoint
from emoshare.backbones.float32 import Float32
from emoshare.backbones.fourier import cut_frames, power
from emoshare.backbones.layers import LayeredEncoder
from emoshare.backbones.mel import MelBackbone, load_encoder
from emoshare.backbones.spectrum import STEP, VERSION, WIDTH, Spectrum, check_preprocessor
from emoshare.core.config import WindowConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.masks import length_mask

__all__ = ["VERSION", "check", "load"]  # the version of the features is part of what is noted of a backbone

FFT, HALVINGS = 512, 3  # points of a transform; convolutions that halve the frames


class ParakeetSpectrum(Spectrum):
    """As ParakeetFeatureExtractor: (B, N) → (B, F, M), each mel band of a clip at mean 0 and variance 1.

    Samples with pre-emphasis 0.97, zeros beyond a clip's ends, frames that are centred; log(mel(|STFT|²) + 2⁻²⁴).
    """

    taper: Tensor  # (512,)

    def __init__(self, bands: int) -> None:
        super().__init__()
        from transformers import ParakeetFeatureExtractor

        filters = ParakeetFeatureExtractor(feature_size=bands).mel_filters.T
        margin = (FFT - WIDTH) // 2
        taper = nn.functional.pad(torch.hann_window(WIDTH, periodic=False), (margin, margin))
        self.register_buffer("filters", filters.contiguous(), persistent=False)
        self.register_buffer("taper", taper, persistent=False)

    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N) and samples of each clip (B,) → features (B, F, M), and how many are each clip's (B,)."""
        waves = waves.float()
        emphasized = torch.cat([waves[:, :1], waves[:, 1:] - 0.97 * waves[:, :-1]], 1)
        emphasized = torch.where(length_mask(lengths, waves.shape[1]), emphasized, 0.0)
        padded = nn.functional.pad(emphasized, (FFT // 2, FFT // 2))
        frames = cut_frames(padded, FFT, STEP, waves.shape[1] // STEP) * self.taper  # (B, F, 512)
        levels = (power(frames, FFT) @ self.filters + 2**-24).log()  # (B, F, M)
        counts = lengths // STEP
        own = length_mask(counts, levels.shape[1])[..., None]
        mean = torch.where(own, levels, 0.0).sum(1, keepdim=True) / counts[:, None, None]
        centred = torch.where(own, levels - mean, 0.0)
        variance = centred.square().sum(1, keepdim=True) / (counts[:, None, None] - 1)
        return centred / (variance.sqrt() + 1e-5), counts

    def frames(self, samples: Any) -> Any:
        count = samples // STEP
        for _ in range(HALVINGS):
            count = (count + 1) // 2
        return count


class ParakeetEncoder(LayeredEncoder):
    """Log-mel features (B, F, M) → frames (B, T, width), T = ⌈F / 8⌉."""

    def __init__(self, model: Any, layer: str) -> None:
        super().__init__(model, layer, final_norm=False)
        model.encode_positions = Float32Positions(model.encode_positions)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """As `LayeredEncoder.forward`."""
        mask = None if lengths is None else length_mask(lengths, inputs.shape[1])
        features = inputs.to(next(self.parameters()).dtype)
        return self.select_states(self.transformer(features, attention_mask=mask).last_hidden_state)


class Float32Positions(Float32):
    """transformers' relative positions, their angles always in float32."""

    def __init__(self, positions: nn.Module) -> None:
        super().__init__()
        self.positions = positions

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, T, D) → (B, 2·T - 1, D)."""
        return self.positions(hidden)


def load(config: Any, window: WindowConfig, dtype: torch.dtype, seed: int, cache: Path) -> MelBackbone:
    """The encoder of a checkpoint. Raises EmoshareError as `check`, and for one that lacks a tensor."""
    found = check(config, window)
    spectrum = ParakeetSpectrum(found[1].num_mel_bins)
    return load_encoder(config, window, dtype, seed, found, spectrum, ParakeetEncoder, 12.5)


def check(config: Any, window: WindowConfig) -> tuple[Path | None, Any]:
    """Folder and transformers' config of a checkpoint. EmoshareError for one that takes other features."""
    folder = checkpoint.locate(config)
    theirs = architecture.describe(config, folder)
    architecture.refuse_masks(config)
    sizes = (theirs.subsampling_factor, theirs.subsampling_conv_kernel_size, theirs.subsampling_conv_stride)
    if sizes != (2**HALVINGS, 3, 2):
        raise EmoshareError(
            f"{folder}: its convolutions {sizes} are not those of Parakeet, which are known; name another"
        )
    expected = {"feature_size": theirs.num_mel_bins, "n_fft": FFT, "hop_length": STEP, "win_length": WIDTH}
    check_preprocessor(folder, checkpoint.preprocessor(folder), expected | {"preemphasis": 0.97})
    return folder, theirs
