"""Floating-point operations: how many a backbone needs, and how many a second the machine does at its shapes.

Shapes: B clips, N samples, T frames, D features, L layers.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from emoshare.backbones.architecture import outline
from emoshare.backbones.families import FAMILIES, model_class
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
    no formula of are counted by PyTorch. 0 without a network, and behind mel features (Whisper, w2v-BERT).
    """
    if architecture is None or not FAMILIES[architecture.model_type].samples:
        return 0.0
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
    from torch.utils.flop_counter import FlopCounterMode

    sizes = copy.deepcopy(architecture)
    sizes.num_hidden_layers = layers
    model = outline(model_class(sizes.model_type), sizes, sizes.model_type).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(clips, samples, device="meta"))
    return float(counter.get_total_flops())


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
        best = max(best, rate(PackedLinear(layer, gelu=False) if packed else layer, frames, rounds))
    return best
