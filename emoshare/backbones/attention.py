"""Attention in bfloat16 on a CPU by batched matrix products, which oneDNN computes faster than PyTorch's own kernel.

oneDNN rounds a product to bfloat16, which is too coarse for scores before a softmax. So each product is computed twice.
The second time the result of the first is subtracted before the rounding: that gives what the first rounding lost. The
sum of both results has about twice the digits.

Shapes: B clips, H heads, T frames, D features of a head.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NAME = "emoshare_products"  # by which transformers knows `interface`
SCORES = 5 * 2**20  # bytes of float32 scores at a time, so that they stay in the processor's cache


def pays(dtype: torch.dtype) -> bool:
    """Whether products are faster than PyTorch's kernel. On processors with AMX the two were not compared: no."""
    return dtype == torch.bfloat16 and not torch.cpu._is_amx_tile_supported()


def by_products(encoder: nn.Module) -> None:
    """Let the layers of an encoder attend by `attention` where transformers has them attend by PyTorch's kernel."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, interface)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    own: dict[int, Any] = {}  # a config can be shared with other models, which are left as they are
    for module in encoder.modules():
        config = getattr(module, "config", None)
        if getattr(config, "_attn_implementation", None) == "sdpa":
            module.config = own.setdefault(id(config), copy.copy(config))  # type: ignore[assignment]
    for config in own.values():
        config._attn_implementation = NAME


def interface(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    position_bias: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """`attention` as transformers calls it, with (B, 1, T, T) true for speech or None: gives (B, T, H, D)."""
    mask = attention_mask
    if position_bias is not None:
        mask = position_bias if mask is None else position_bias.masked_fill(~mask, -math.inf)
    return attention(query, key, value, mask, scaling).transpose(1, 2), None


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None = None) -> Tensor:
    """softmax(scale · query · keyᵀ + mask) · value, all (B, H, T, D); Vaswani et al., 2017, eq. 1.

    mask: expands to (B, H, T, T): numbers to add to the scores, or booleans, false for keys that are left out. Every
    frame needs at least one key. scale: 1 / √D if None.
    """
    clips, heads, frames, dim = query.shape
    if not pays(query.dtype):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    if mask is not None:
        added = torch.zeros(mask.shape).masked_fill_(~mask, -math.inf) if mask.dtype == torch.bool else mask
        mask = added.expand(clips, heads, frames, frames)
    count = max(SCORES // (4 * frames * frames), 1)  # heads at a time
    together, few = max(count // heads, 1), min(count, heads)
    room = [torch.empty(together * few, frames, frames, dtype=kind) for kind in (query.dtype, query.dtype, torch.float)]
    mixed = torch.empty(clips, frames, heads, dim, dtype=query.dtype).transpose(1, 2)
    for clip in range(0, clips, together):
        for head in range(0, heads, few):
            part = (slice(clip, clip + together), slice(head, head + few))
            scores = score(query[part], key[part], dim**-0.5 if scale is None else scale, room)
            if mask is not None:
                scores.unflatten(0, query[part].shape[:2]).add_(mask[part])
            weights = room[0][: len(scores)].copy_(torch.softmax(scores, -1, out=scores))
            mixed[part] = torch.bmm(weights, value[part].flatten(0, 1)).unflatten(0, query[part].shape[:2])
    return mixed


def score(query: Tensor, key: Tensor, scale: float, room: list[Tensor]) -> Tensor:
    """scale · query · keyᵀ of some heads (B, H, T, D) → (B · H, T, T) float32.

    room: at least B · H matrices (T, T) for each product in bfloat16, and as many for the scores, which are returned.
    """
    exact = math.frexp(scale)[0] == 0.5  # a power of two: multiplying the query by it is exact
    query, key = query.flatten(0, 1).contiguous(), key.flatten(0, 1).contiguous().transpose(1, 2)
    query = query * scale if exact else query
    rounded, rest, scores = (tensor[: len(query)] for tensor in room)
    torch.bmm(query, key, out=rounded)
    torch.baddbmm(rounded, query, key, beta=-1, out=rest)
    scores.copy_(rounded).add_(rest)
    return scores if exact else scores.mul_(scale)
