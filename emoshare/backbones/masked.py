"""Encoders that take normalised samples: how a clip is prepared for them, and padding kept out of its frames.

Shapes: B clips, N samples (16 000 per second), C channels, T frames, D features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emoshare.backbones.base import Backbone
from emoshare.core.config import HOP, SHORTEST, WindowConfig
from emoshare.core.masks import length_mask
from emoshare.data.window import Window, frame_count


class MaskedBackbone(Backbone):
    """An encoder `(inputs, lengths (B,) of the inputs or None) → frames (B, T, width)`, with its normalisation.

    With window.pad=none a clip's frames are those that it has alone, whatever else is in the batch: the encoder keeps
    padding out by the lengths. With window.pad=zeros it is not told of any, and sees the zeros as samples.
    """

    float32_only = False

    def __init__(self, encoder: nn.Module, identity: dict[str, Any], window: WindowConfig, frozen: bool) -> None:
        super().__init__(encoder, identity, frozen)
        self.window_samples = Window.of(window).samples
        self.padded = window.pad == "zeros"
        self.normalize: bool = identity["normalize"]
        self.epsilon = 1e-7  # added to the variance where samples are normalised

    def encode(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As `Backbone.forward`; frames are in the precision of the weights. ValueError for fewer than 400 samples."""
        if waves.shape[1] < SHORTEST or (not self.padded and int(lengths.min()) < SHORTEST):
            raise ValueError(f"a backbone needs at least {SHORTEST} samples, not {int(lengths.min())}")
        whole = int(lengths.min()) == waves.shape[1] and not torch.jit.is_tracing()  # no clip is followed by padding
        inputs, lengths, counts = self.prepare(waves, lengths.to(waves.device))
        if self.padded or whole:  # kernels without a mask are the faster ones
            return self.encoder(inputs, None), counts
        frames = self.encoder(inputs, lengths)
        return frames * length_mask(counts, frames.shape[1])[..., None], counts

    def frame_counts(self, samples: np.ndarray) -> np.ndarray:
        """Samples of speech in the window (N,) → frames of each clip (N,), those of the zero padding included."""
        seen = [self.window_samples if self.padded else n for n in samples.tolist()]
        return np.array([frame_count(n) for n in seen], np.int64)

    def prepare(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The input of the encoder: normalised samples (B, N) and their lengths (B,); and frame counts (B,)."""
        if self.normalize:
            waves = normalize(waves.float(), lengths, self.epsilon)
        if self.padded:
            return waves, lengths, torch.zeros_like(lengths) + frame_count(waves.shape[1])
        return torch.where(length_mask(lengths, waves.shape[1]), waves, 0.0), lengths, frames_of(lengths)


def frames_of(samples: Tensor) -> Tensor:
    """As `data.window.frame_count`, of a tensor."""
    return 1 + torch.div(samples - SHORTEST, HOP, rounding_mode="floor")


def normalize(waves: Tensor, lengths: Tensor, epsilon: float = 1e-7) -> Tensor:
    """Zero mean and unit variance of each clip's speech, zeros after it: (x - mean) / sqrt(var + epsilon).

    As transformers' Wav2Vec2FeatureExtractor: (B, N), (B,) samples of speech → (B, N).
    """
    speech, count = length_mask(lengths, waves.shape[1]), lengths.clamp(min=1)[:, None]
    centred = torch.where(speech, waves - torch.where(speech, waves, 0.0).sum(1, keepdim=True) / count, 0.0)
    return centred / (centred.square().sum(1, keepdim=True) / count + epsilon).sqrt()


class MaskedGroupNorm(nn.GroupNorm):
    """The GroupNorm of one group per channel behind a first convolution, over each clip's own steps.

    `lengths` (B,): samples of each clip, set before each use; None: all of them.
    """

    lengths: Tensor | None = None

    def __init__(self, norm: nn.GroupNorm, convolution: nn.Conv1d) -> None:
        super().__init__(norm.num_groups, norm.num_channels, norm.eps)
        self.weight, self.bias = norm.weight, norm.bias
        self.kernel, self.stride = convolution.kernel_size[0], convolution.stride[0]

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, C, T) → (B, C, T)."""
        if self.lengths is None:
            return super().forward(hidden)
        counts = 1 + torch.div(self.lengths - self.kernel, self.stride, rounding_mode="floor")
        mask, counts = length_mask(counts, hidden.shape[2])[:, None], counts[:, None, None]
        mean = torch.where(mask, hidden, 0.0).float().sum(2, keepdim=True) / counts
        centred = torch.where(mask, hidden - mean, 0.0)
        scale = (centred.square().sum(2, keepdim=True) / counts + self.eps).rsqrt()
        return (centred * scale * self.weight[:, None] + self.bias[:, None]).to(hidden.dtype)


class Padding:
    """Hides the frames of padding from convolutions over time: they see the zeros around a clip alone.

    `mask` (B, T): true for frames of speech, set before each use; None: all of them.
    """

    mask: Tensor | None = None

    def hide(self, convolution: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
        """(B, C, T) → (B, C, T): PyTorch calls it before a convolution of `hide_from`."""
        return None if self.mask is None else (torch.where(self.mask[:, None], inputs[0], 0.0),)

    def hide_from(self, module: nn.Module) -> None:
        """Do so before every convolution over more than one frame in a module."""
        for child in module.modules():
            if isinstance(child, nn.Conv1d) and child.kernel_size[0] > 1:
                child.register_forward_pre_hook(self.hide)
