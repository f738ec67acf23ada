"""Floating-point operations: how many a backbone needs, and how many a second the machine does at its shapes.

Shapes: B clips, N samples, T frames, D features, L layers.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from emoshare.backbones import base
from emoshare.backbones.families import FAMILIES, model_class
from emoshare.core.config import WindowConfig
from emoshare.core.products import PackedLinear, packable, rate

PLAIN = ("wav2vec2", "hubert", "wavlm", "unispeech-sat", "unispeech")  # model_type of what `flops` knows


def flops(architecture: Any, layers: int, clips: int, samples: int) -> float:
    """Floating-point operations of the matrix products of a batch, two for each multiplication and its addition.

        2·B·( Σᵢ Tᵢ·Cᵢ·Cᵢ₋₁·Kᵢ                convolution i: Tᵢ frames, Cᵢ channels, kernel Kᵢ
              + T·C·D                         projection
              + (T + 1)·D·(D / G)·K           positional convolution: G groups, kernel K, one frame more if K is even
              + L·(4·T·D² + 2·T·D·I           a layer: query, key, value, output; in and out of I inner units
                   + 2·T²·D) )                scores of all pairs of frames, and the sums that they weigh

    Norms, activations, softmax and WavLM's gates (less than 0.1 % of a large model) do not count. Families that this is
    no formula of are counted by PyTorch. Of those behind features: `mel_flops`.
    """
    if architecture.model_type not in PLAIN:
        return count(architecture, layers, clips, samples)
    length, channels, total = samples, 1, 0
    convolutions = zip(architecture.conv_dim, architecture.conv_kernel, architecture.conv_stride, strict=True)
    for out, kernel, stride in convolutions:
        length = 1 + (length - kernel) // stride
        total += length * out * channels * kernel
        channels = out
    dim, inner = architecture.hidden_size, architecture.intermediate_size
    kernel, groups = architecture.num_conv_pos_embeddings, architecture.num_conv_pos_embedding_groups
    total += length * channels * dim + (length + 1 - kernel % 2) * dim * (dim // groups) * kernel
    total += layers * (4 * length * dim**2 + 2 * length * dim * inner + 2 * length**2 * dim)
    return 2.0 * clips * total


def count(architecture: Any, layers: int, clips: int, samples: int) -> float:
    """Count, as `flops` does, every product in the forward pass of a model without numbers."""
    sizes = copy.deepcopy(architecture)
    sizes.num_hidden_layers = layers
    shape = (clips, 1, samples) if sizes.model_type == "omniasr_audio" else (clips, samples)
    with without_numbers() as counter:
        model = model_class(sizes.model_type)._from_config(sizes).eval()
        with counter:
            model(torch.zeros(shape))
    return float(counter.get_total_flops())


def mel_flops(section: Any, window: WindowConfig, clips: int, samples: int) -> float:
    """Count every product of our encoder on features of clips of a length, and of what makes them, but for transforms.

    section: of a family that takes features.
    """
    section = dataclasses.replace(section, pretrained=False, frozen=True)
    unread = patch.object(base, "fingerprint", lambda _: "")  # weights without numbers have none
    unmoved = patch.object(nn.Module, "_apply", lambda module, *_: module)  # and no place
    with without_numbers() as counter, unread, unmoved:
        backbone: Any = base.load_backbone(section, window)
        with counter:
            features, _, _ = backbone.prepare(torch.zeros(clips, samples), torch.full((clips,), samples))
            backbone.encoder(features, None)
    return float(counter.get_total_flops())


@contextmanager
def without_numbers() -> Iterator[Any]:
    """Let tensors have shapes alone; gives a counter of operations, to be entered."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    countable = sdpa_kernel(SDPBackend.MATH)  # attention by products; a CPU's own kernel is not counted
    with FakeTensorMode(allow_non_fake_inputs=True), countable, torch.no_grad():
        yield FlopCounterMode(display=False)


def gemm(architecture: Any, rows: int, kind: torch.dtype, device: torch.device) -> float:
    """Operations per second of the fastest of a layer's matrix products, for `rows` frames.

    On a CPU with the weights packed, where that is possible: the fastest that PyTorch has.
    """
    dim = getattr(architecture, FAMILIES[architecture.model_type].dim)
    inner = getattr(architecture, "encoder_ffn_dim", None) or architecture.intermediate_size
    best, rounds = 0.0, 3 if device.type == "cpu" else 20
    for width, columns in ((dim, dim), (dim, inner), (inner, dim)):
        frames = torch.randn(rows, width, device=device, dtype=kind)
        layer = nn.Linear(width, columns, bias=False, device=device, dtype=kind).requires_grad_(False)
        packed = device.type == "cpu" and packable(kind)
        best = max(best, rate(PackedLinear(layer) if packed else layer, frames, rounds))
    return best
