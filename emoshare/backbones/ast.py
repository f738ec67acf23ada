"""The Audio Spectrogram Transformer: samples (B, N) → log-mel → frames (B, T, D), 10 per second. Gong et al., 2021.

It was trained on 10.24 s, silence included, and has a position for each of their patches: shorter clips are filled up,
as transformers does it, and of the patches those that lie in the clip are given, as means over frequency. So a batch
changes nothing.

Shapes: B clips, N samples (16,000 per second), F frames of 10 ms, M mel bands, P patches over frequency, T over time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from emoshare.backbones import architecture, checkpoint
from emoshare.backbones.base import identify
from emoshare.backbones.fourier import cut_frames, power
from emoshare.backbones.layers import LayeredEncoder
from emoshare.backbones.mel import MelBackbone, mask_policy
from emoshare.backbones.spectrum import FLOOR, STEP, VERSION, WIDTH, Spectrum, check_preprocessor, facts
from emoshare.core.config import RATE, WindowConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.masks import length_mask

__all__ = ["VERSION", "check", "load"]  # the version of the features is part of what is noted of a backbone

FFT = 512


class AstSpectrum(Spectrum):
    """As ASTFeatureExtractor without its filling up: (B, N) → (B, F, M), silence after each clip's own frames.

    Kaldi's filter bank with Hann's window, less AudioSet's mean, over twice its standard deviation.
    """

    taper: Tensor  # (400,)

    def __init__(self, config: Any, mean: float, deviation: float) -> None:
        super().__init__()
        from transformers.audio_utils import mel_filter_bank

        filters = mel_filter_bank(
            FFT // 2 + 1, config.num_mel_bins, 20, RATE // 2, RATE, mel_scale="kaldi", triangularize_in_mel_space=True
        )
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)
        self.register_buffer("taper", torch.hann_window(WIDTH, periodic=False), persistent=False)
        self.patch, self.stride, self.mean, self.scale = config.patch_size, config.time_stride, mean, 2 * deviation

    @property
    def silence(self) -> float:
        """The value of a mel band in frames of padding."""
        return -self.mean / self.scale

    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N) and samples of each clip (B,) → features (B, F, M), and how many are each clip's (B,)."""
        frames = cut_frames(waves.float(), WIDTH, STEP)  # (B, F, 400)
        frames = frames - frames.mean(2, keepdim=True)
        earlier = torch.cat([frames[..., :1], frames[..., :-1]], 2)
        frames = (frames - 0.97 * earlier) * self.taper
        levels = (power(frames, FFT) @ self.filters).clamp(min=FLOOR).log()  # (B, F, M)
        counts = 1 + (lengths - WIDTH) // STEP
        own = length_mask(counts, levels.shape[1])[..., None]
        return torch.where(own, (levels - self.mean) / self.scale, self.silence), counts

    def frames(self, samples: Any) -> Any:
        extra = 1 + (samples - WIDTH) // STEP - self.patch
        return (extra // self.stride + 1) * (extra >= 0) + (extra < 0)


class Transformer(nn.Module):
    """Patches (B, 2 + P · T, D), the first two learned tokens → the same after the layers and the norm."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.config, self.layers, self.layer_norm = model.config, model.layers, model.layernorm

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in self.layers:
            hidden = layer(hidden)
        return self.layer_norm(hidden)


class AstEncoder(LayeredEncoder):
    """Log-mel features (B, F, M) → frames (B, T, width)."""

    def __init__(self, model: Any, layer: str, spectrum: AstSpectrum) -> None:
        super().__init__(Transformer(model), layer, final_norm=True)
        self.embeddings, self.longest, self.silence = model.embeddings, model.config.max_length, spectrum.silence
        self.patch, self.stride = spectrum.patch, spectrum.stride
        self.shape = model.embeddings.get_shape(model.config)  # patches over frequency and over all the time

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """As `LayeredEncoder.forward`."""
        missing = self.longest - inputs.shape[1]
        features = nn.functional.pad(inputs, (0, 0, 0, missing), value=self.silence).to(next(self.parameters()).dtype)
        last = self.transformer(self.embeddings(features))
        count = max((inputs.shape[1] - self.patch) // self.stride + 1, 1)
        self.states = [self.means(state, count) for state in self.states]
        return self.select_states(self.means(last, count))

    def means(self, hidden: Tensor, count: int) -> Tensor:
        """(B, 2 + P · T, D) → the means over frequency of the first `count` patches, (B, count, D)."""
        return hidden[:, 2:].unflatten(1, self.shape).mean(1)[:, :count]


def load(config: Any, window: WindowConfig, dtype: torch.dtype, seed: int, cache: Path) -> MelBackbone:
    """The encoder of a checkpoint. Raises EmoshareError as `check`, and for one that lacks a tensor."""
    folder, theirs = check(config, window)
    with torch.random.fork_rng(devices=[]):
        model = checkpoint.build(config, theirs, folder, seed)
    values = {"mean": -4.2677393, "std": 4.5689974, "do_normalize": True} | (checkpoint.preprocessor(folder) or {})
    mean, deviation = (values["mean"], values["std"]) if values["do_normalize"] else (0.0, 0.5)
    spectrum = AstSpectrum(theirs, mean, deviation)
    own = mask_policy(window) | checkpoint.facts_of(config, model, theirs, folder, seed)
    own |= {"spectrum": facts(spectrum) | {"mean": mean, "deviation": deviation}}
    own["frames_per_second"] = RATE / STEP / theirs.time_stride
    encoder = AstEncoder(model, config.layer, spectrum)
    return MelBackbone(encoder.to(dtype), spectrum, identify(config, window, own, encoder), window, config.frozen)


def check(config: Any, window: WindowConfig) -> tuple[Path | None, Any]:
    """Folder and transformers' config of a checkpoint.

    Raises EmoshareError for one that takes other features, and for a window that is longer than it has positions.
    """
    folder = checkpoint.locate(config)
    theirs = architecture.describe(config, folder)
    longest = (theirs.max_length * STEP + WIDTH - STEP) / RATE
    if window.seconds > longest:
        raise EmoshareError(
            f"window.seconds={window.seconds:g}: {config.name} hears {longest:g} s at most; set it to that"
        )
    architecture.refuse_masks(config)
    expected = {"num_mel_bins": theirs.num_mel_bins, "max_length": theirs.max_length}
    check_preprocessor(folder, checkpoint.preprocessor(folder), expected)
    return folder, theirs
