"""The convolutional front end of wav2vec 2.0 and its kin, channels last: several times faster on a CPU.

Seven strided convolutions turn 16 kHz samples into 50 frames per second. PyTorch keeps them channels first, so every
LayerNorm needs two transposes of a large tensor and no convolution is a plain matrix product. Channels last, a
convolution of kernel K and stride S over (T, C) is one matrix product: row t of the unfolded view is the stretch of
K·C numbers that starts at S·t·C. LayerNorm then works on the last axis as it is, and a GroupNorm of one group per
channel, whose statistics follow from the samples' own, is folded into the convolution before it.

A frame depends on 400 samples alone, so a long window is computed in stretches that stay in the processor's cache. And
where a clip ends in samples that are all equal, as the zeros that pad a window, the frames that see nothing else are
equal: one of them is computed.

Shapes: B clips, N samples, T frames, C channels, K kernel.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

STRETCH = {"cpu": 2**22, "cuda": 2**30}  # bytes of the largest activation at a time


class Convolution(nn.Module):
    """One convolution with its LayerNorm, if any, and GELU: (B, T, C) → (B, T', C')."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        conv, norm = layer.conv, getattr(layer, "layer_norm", None)
        assert isinstance(conv, nn.Conv1d)
        self.kernel, self.stride, self.channels = conv.kernel_size[0], conv.stride[0], conv.out_channels
        weight = conv.weight.detach().transpose(1, 2).flatten(1)  # (C', C, K) → (C', K·C)
        self.layer_norm = norm if isinstance(norm, nn.LayerNorm) else None
        self.group_norm = norm if isinstance(norm, nn.GroupNorm) else None
        if self.group_norm is not None:  # which takes the bias away again
            self.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
        else:
            self.linear = nn.utils.skip_init(nn.Linear, weight.shape[1], len(weight), conv.bias is not None)
            self.linear.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
            self.linear.bias = conv.bias

    def unfold(self, hidden: Tensor) -> Tensor:
        """The samples that the kernel sees at every step, a view of overlapping rows: (B, T, C) → (B, T', K·C)."""
        clips, length, channels = hidden.shape
        frames = 1 + (length - self.kernel) // self.stride
        strides = (hidden.stride(0), self.stride * channels, 1)
        return hidden.as_strided((clips, frames, self.kernel * channels), strides, hidden.storage_offset())

    def forward(self, hidden: Tensor, folded: tuple[Tensor, Tensor] | None = None) -> Tensor:
        windows = self.unfold(hidden)  # (B, T', K·C)
        if folded is not None:
            hidden = torch.baddbmm(folded[1], windows, folded[0])  # (B, T', C')
        else:
            hidden = self.linear(windows.flatten(0, 1)).unflatten(0, windows.shape[:2])
        if self.layer_norm is not None:
            hidden = self.layer_norm(hidden)
        return torch.ops.aten.gelu_(hidden)

    def fold(self, waves: Tensor, norm: nn.GroupNorm, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The first convolution's weight (B, K, C') and bias (B, 1, C') with every clip's own GroupNorm multiplied in.

        A channel is y = w·u + b over windows u of K samples: its mean is w·mean(u) + b, its variance w'·cov(u)·w. In
        float64, as a filter of high frequencies leaves of speech the small difference of large terms.
        lengths: samples of each clip (B,); None: all of them.
        """
        if lengths is not None:
            weights, biases = zip(
                *(self.fold(wave[None, :n], norm) for wave, n in zip(waves, lengths.tolist(), strict=True)), strict=True
            )
            return torch.cat(weights), torch.cat(biases)
        exact = torch.float32 if waves.device.type == "mps" else torch.float64  # which Apple's GPUs lack
        windows, weight = self.unfold(waves[..., None]).to(exact), self.weight.to(exact)
        mean = windows.mean(1, keepdim=True)  # (B, 1, K)
        covariance = (windows - mean).mT @ (windows - mean) / windows.shape[1]  # (B, K, K)
        variance = ((weight @ covariance) * weight).sum(-1)  # (B, C')
        scale = norm.weight.to(exact) / (variance + norm.eps).sqrt()
        folded = weight.T * scale[:, None]  # (B, K, C')
        return folded.to(waves.dtype), (norm.bias.to(exact) - mean @ folded).to(waves.dtype)


class FrontEnd(nn.Module):
    """Takes the place of a transformers feature extractor: (B, N) → (B, C, T), a transposed view of (B, T, C).

    For inference alone: it has no gradients. `original` is the module that it was made from, which is traced for ONNX.
    """

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.original = original
        stages = [Convolution(layer) for layer in original.conv_layers]  # type: ignore[union-attr]
        self.first, self.rest = stages[0], nn.Sequential(*stages[1:])
        self.hop, self.field = 1, 1  # samples between frames, and that a frame depends on
        for stage in stages:
            self.field += (stage.kernel - 1) * self.hop
            self.hop *= stage.stride

    def forward(self, waves: Tensor) -> Tensor:
        if torch.jit.is_tracing():  # what is computed here depends on the samples
            return self.original(waves)
        waves = waves.contiguous()
        size = 1 if waves.device.type == "cpu" else len(waves)  # clips at a time
        lengths = getattr(self.first.group_norm, "lengths", None)
        ends = [None] * len(waves) if lengths is None else lengths.split(size)
        parts = [self.convolve(part, end) for part, end in zip(waves.split(size), ends, strict=False)]
        return torch.cat(parts).transpose(1, 2)  # (B, C, T)

    def convolve(self, waves: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, N) → (B, T, C), stretch by stretch, up to the first frame that all others after it are equal to.

        lengths: samples of each clip (B,) that its group norm heeds; None: all.
        """
        norm = self.first.group_norm
        folded = None if norm is None else self.first.fold(waves, norm, lengths)
        frames = 1 + (waves.shape[1] - self.field) // self.hop
        widest = len(waves) * self.hop // self.first.stride * self.first.channels * waves.element_size()
        step = max(1, STRETCH.get(waves.device.type, 2**30) // widest)
        needed = min(frames, 1 + math.ceil(settling_sample(waves) / self.hop))
        done = []
        for start in range(0, needed, step):
            end = (min(start + step, needed) - 1) * self.hop + self.field
            done.append(self.rest(self.first(waves[:, start * self.hop : end, None], folded)))
        done.append(done[-1][:, -1:].expand(-1, frames - needed, -1))
        return torch.cat(done, dim=1)


def settling_sample(waves: Tensor) -> int:
    """(B, N) → the sample from which on every clip stays as it is to its end; N - 1 where the last ones differ."""
    changes = (waves[:, 1:] != waves[:, :-1]).any(0).nonzero()
    return int(changes[-1]) + 1 if len(changes) else 0


def is_known(features: nn.Module) -> bool:
    """Whether this is the architecture that `FrontEnd` computes: plain convolutions, GELU, the norms that it knows."""
    layers = list(getattr(features, "conv_layers", []))
    for index, layer in enumerate(layers):
        conv, norm = getattr(layer, "conv", None), getattr(layer, "layer_norm", None)
        plain = isinstance(conv, nn.Conv1d) and conv.padding == (0,) and conv.dilation == (1,) and conv.groups == 1
        per_channel = isinstance(norm, nn.GroupNorm) and norm.num_groups == norm.num_channels and index == 0
        gelu = type(getattr(layer, "activation", None)).__name__ == "GELUActivation"
        if not (plain and gelu and (per_channel or norm is None or isinstance(norm, nn.LayerNorm))):
            return False
    return bool(layers)


def accelerate(features: nn.Module) -> nn.Module:
    """The channels-last front end with the weights of transformers' own, which is returned untouched if unknown."""
    return FrontEnd(features) if is_known(features) else features
