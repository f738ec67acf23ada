"""The convolutional front end of wav2vec 2.0 and its kin, channels last: several times faster on a CPU.

Seven strided convolutions turn 16 kHz samples into 50 frames per second. PyTorch keeps them channels first, so every
LayerNorm needs two transposes of a large tensor and no convolution is a plain matrix product. Channels last, a
convolution of kernel K and stride S over (T, C) is one matrix product: row t of the unfolded view is the stretch of
K·C numbers that starts at S·t·C. LayerNorm then works on the last axis as it stands.

Shapes: B clips, N samples, T frames, C channels, K kernel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHUNK = {"cpu": 2**28, "cuda": 2**32}  # bytes of activations at a time: more gains nothing and fills the memory


class Convolution(nn.Module):
    """One convolution with its norm and GELU, (B, T, C) → (B, T', C')."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        conv = layer.conv
        assert isinstance(conv, nn.Conv1d)
        self.kernel, self.stride = conv.kernel_size[0], conv.stride[0]
        weight = conv.weight.detach().transpose(1, 2).flatten(1)  # (C', C, K) → (C', K·C)
        self.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
        self.bias = conv.bias
        self.norm = getattr(layer, "layer_norm", None)

    def forward(self, hidden: Tensor) -> Tensor:
        clips, length, channels = hidden.shape
        frames = 1 + (length - self.kernel) // self.stride
        shape = (clips, frames, self.kernel * channels)
        windows = hidden.as_strided(shape, (length * channels, self.stride * channels, 1))  # (B, T', K·C), no copy
        hidden = F.linear(windows, self.weight, self.bias)  # (B, T', C')
        if isinstance(self.norm, nn.GroupNorm):
            hidden = instance_norm(hidden, self.norm)
        elif self.norm is not None:
            hidden = self.norm(hidden)
        return F.gelu(hidden)


def instance_norm(hidden: Tensor, norm: nn.GroupNorm) -> Tensor:
    """A GroupNorm with one group per channel over (B, T, C): statistics over T, for every clip by itself.

    Batch norm over one clip's (T, C) computes the same in a single channels-last kernel.
    """
    clips = [F.batch_norm(clip, None, None, norm.weight, norm.bias, training=True, eps=norm.eps) for clip in hidden]
    return torch.stack(clips)


class FrontEnd(nn.Module):
    """Takes the place of a transformers feature extractor: (B, N) → (B, C, T), a transposed view of (B, T, C).

    `original` is the module that it was made from, for whoever needs ordinary convolutions.
    """

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.original = original
        self.convolutions = nn.Sequential(*(Convolution(layer) for layer in original.conv_layers))  # type: ignore[union-attr]

    def forward(self, waves: Tensor) -> Tensor:
        first = self.original.conv_layers[0].conv  # type: ignore[union-attr, index]
        bytes_per_clip = waves.shape[1] // first.stride[0] * first.out_channels * waves.element_size()
        clips = max(1, CHUNK.get(waves.device.type, CHUNK["cpu"]) // bytes_per_clip)
        parts = [self.convolutions(part[..., None]) for part in waves.contiguous().split(clips)]
        return torch.cat(parts).transpose(1, 2)  # (B, C, T)


def known(features: nn.Module) -> bool:
    """Whether this is the architecture that `FrontEnd` computes: plain convolutions, GELU, group or layer norm."""
    for layer in getattr(features, "conv_layers", [None]):
        conv, norm = getattr(layer, "conv", None), getattr(layer, "layer_norm", None)
        plain = isinstance(conv, nn.Conv1d) and conv.padding == (0,) and conv.dilation == (1,) and conv.groups == 1
        grouped = not isinstance(norm, nn.GroupNorm) or norm.num_groups == norm.num_channels
        gelu = type(getattr(layer, "activation", None)).__name__ == "GELUActivation"
        if not (plain and grouped and gelu and isinstance(norm, nn.GroupNorm | nn.LayerNorm | None)):
            return False
    return True


def accelerate(features: nn.Module) -> nn.Module:
    """The channels-last front end with the weights of transformers' own, which is returned untouched if unknown."""
    return FrontEnd(features) if known(features) else features
