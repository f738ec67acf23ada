"""A frozen encoder for a CPU: its weights packed once into the layout in which oneDNN multiplies them.

PyTorch's own linear layers bring the weights into that layout again in every call, and in float32 they take a library
that leaves half of some processors unused. What is computed is the same, up to rounding.

Shapes: B clips, T frames, D features, H heads, C channels, F frequencies.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emoshare.backbones.attention import attention, by_products
from emoshare.backbones.base import Backbone
from emoshare.backbones.layers import LayeredEncoder
from emoshare.core.products import PackedLinear, packable

ACTIVATED = {  # linear layer → what may follow it
    "intermediate_dense": ("intermediate_act_fn",), "fc1": ("activation_fn", "act_fn"), "linear1": ("activation",),
}  # fmt: skip
FUSED = {"GELUActivation": "gelu", "GELU": "gelu", "SiLUActivation": "swish", "SiLU": "swish"}  # by oneDNN's names


def place(backbone: Backbone, device: torch.device) -> Backbone:
    """Move a frozen backbone to the device; on a CPU the weights of its encoder are packed."""
    # Nothing is trained here. But for weights without this flag, PyTorch multiplies WavLM's transposed inputs clip
    # by clip instead of all at once, at a third of the speed.
    backbone = backbone.to(device).requires_grad_(True)
    encoder = backbone.encoder
    if isinstance(encoder, LayeredEncoder) and device.type == "cpu" and packable(next(encoder.parameters()).dtype):
        pack(encoder)
    return backbone


def pack(encoder: nn.Module) -> None:
    """Pack the weights of an encoder in place, which is of no use for training, conversion or export after that."""
    by_products(encoder)
    for module in list(encoder.modules()):
        if hasattr(module, "gru_rel_pos_linear"):
            module.torch_multi_head_self_attention = MethodType(attend, module)  # type: ignore[assignment]
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, PackedLinear(child, take_activation(module, name)))
            elif type(child) is nn.Conv1d and pointwise(child):
                setattr(module, name, Pointwise(child))
            elif type(child) is nn.Conv2d and isinstance(module, nn.Sequential):
                setattr(module, name, PackedConvolution(child, take_activation(module, name)))
            elif type(child) is nn.Conv1d and positional(child):
                setattr(module, name, packed := ChannelsLast(child))
                packed._forward_pre_hooks = child._forward_pre_hooks  # padding is hidden from it still


def take_activation(module: nn.Module, name: str) -> str:
    """oneDNN's name of the activation after a layer. It leaves the module, as the packed layer computes it, too."""
    after = (str(int(name) + 1),) if isinstance(module, nn.Sequential) else ACTIVATED.get(name, ())
    for following in after:
        kind = FUSED.get(type(getattr(module, following, None)).__name__)
        if kind:
            setattr(module, following, nn.Identity())
            return kind
    return "none"


def pointwise(convolution: nn.Conv1d) -> bool:
    """Whether a convolution is a linear layer of every frame."""
    sizes = (convolution.kernel_size, convolution.stride, convolution.padding)
    return sizes == ((1,), (1,), (0,)) and convolution.groups == 1


def positional(convolution: nn.Conv1d) -> bool:
    """Whether a convolution is in groups of several channels, as those of positions are."""
    return 1 < convolution.groups < convolution.in_channels


class Pointwise(nn.Module):
    """A convolution of kernel 1 over frames, (B, D, T) → (B, D', T), as one matrix product over all frames."""

    def __init__(self, convolution: nn.Conv1d) -> None:
        super().__init__()
        self.linear = PackedLinear(convolution)

    def forward(self, frames: Tensor) -> Tensor:
        return self.linear(frames.transpose(1, 2).contiguous()).transpose(1, 2)


class PackedConvolution(nn.Module):
    """A convolution over frequencies and time with the activation after it: (B, C, F, T) → (B, C', F', T')."""

    def __init__(self, convolution: nn.Conv2d, activation: str) -> None:
        super().__init__()
        self.activation, self.bias, self.groups = activation, convolution.bias, convolution.groups
        self.sizes = [list(size) for size in (convolution.padding, convolution.stride, convolution.dilation)]
        weight = convolution.weight.detach()
        self.packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *self.sizes, self.groups, None)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.ops.mkldnn._convolution_pointwise(
            inputs, self.packed, self.bias, *self.sizes, self.groups, self.activation, [], "none"
        )


class ChannelsLast(nn.Module):
    """A convolution over frames (B, D, T), of which every frame's features lie together, as oneDNN is faster with."""

    def __init__(self, convolution: nn.Conv1d) -> None:
        super().__init__()
        self.bias, self.groups = convolution.bias, convolution.groups
        self.padding, self.stride = (0, *convolution.padding), (1, *convolution.stride)
        weight = convolution.weight.detach()[:, :, None].contiguous(memory_format=torch.channels_last)
        self.weight = nn.Parameter(weight, requires_grad=False)  # (D', D / groups, 1, kernel)

    def forward(self, frames: Tensor) -> Tensor:
        frames = frames[:, :, None].contiguous(memory_format=torch.channels_last)
        return F.conv2d(frames, self.weight, self.bias, self.stride, self.padding, groups=self.groups)[:, :, 0]


def attend(self: Any, hidden: Tensor, mask: Tensor | None, bias: Tensor) -> tuple[Tensor, None]:
    """WavLM's attention by calling its linear layers, where transformers reads their weights.

    Takes (B, T, D), (B, T) true for speech or None, and what is added to the scores (B · H, T, T); gives (B, T, D).
    """
    query, key, value = (
        layer(hidden).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        for layer in (self.q_proj, self.k_proj, self.v_proj)
    )
    bias = bias.unflatten(0, (-1, self.num_heads))
    if mask is not None:
        bias = bias.masked_fill(~mask.bool()[:, None, None], float("-inf"))
    mixed = attention(query, key, value, bias)  # (B, H, T, D / H)
    return self.out_proj(mixed.transpose(1, 2).flatten(2)), None
