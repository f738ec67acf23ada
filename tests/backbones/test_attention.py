"""Attention by products against its equation, with and without masks. Its error is at most 1.5 times that of PyTorch's
kernel: both round in bfloat16, at other places."""

import math

import pytest
import torch
import torch.nn.functional as F
from encoders import backbones, error

from emoshare.backbones import attention as module
from emoshare.backbones.attention import NAME, attention, by_products, interface
from emoshare.core.products import packable

pytestmark = pytest.mark.skipif(not packable(torch.bfloat16), reason="no bfloat16 on this processor")


@pytest.fixture(autouse=True)
def always(monkeypatch):
    monkeypatch.setattr(module, "pays", lambda dtype: True)


def equation(query, key, value, added, scale):
    """Vaswani et al., 2017, eq. 1, in float64."""
    scores = torch.einsum("bhtd,bhsd->bhts", query.double(), key.double()) * scale + added.double()
    weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    return torch.einsum("bhts,bhsd->bhtd", weights, value.double())


def inputs(frames: int, dim: int, heads: int = 4):
    """Query, key and value as layers give them: (B, T, H · D), seen as (B, H, T, D)."""
    rows = [torch.randn(3, frames, heads * dim) * size for size in (2, 2, 1)]
    return [row.bfloat16().unflatten(2, (heads, dim)).transpose(1, 2) for row in rows]


@pytest.mark.parametrize("dim", [64, 80, 16])  # of which 1/√80 is no power of two
@pytest.mark.parametrize("frames", [1, 37, 130])
@pytest.mark.parametrize("masked", ["no", "keys", "bias"])
def test_it_is_the_equation_nearly_as_close_as_the_kernel(dim, frames, masked, monkeypatch):
    # Of 130 frames three heads at a time and the last alone, of fewer frames several clips.
    monkeypatch.setattr(module, "SCORES", 4 * 130 * 130 * 3)
    query, key, value = inputs(frames, dim)
    mask, added = None, torch.zeros(1)
    if masked == "keys":
        mask = torch.arange(frames) < torch.tensor([frames, (frames + 1) // 2, 1])[:, None, None, None]
        added = torch.zeros(mask.shape).masked_fill(~mask, -math.inf)
    elif masked == "bias":
        mask = added = torch.randn(3, 4, frames, frames).bfloat16()
    true = equation(query, key, value, added, 1 / math.sqrt(dim))
    found = attention(query, key, value, mask)
    kernel = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    assert found.dtype == torch.bfloat16
    assert error(found, true) <= error(kernel, true) * 1.5
    torch.testing.assert_close(found.double(), true, rtol=0.02, atol=0.02)


def test_rounded_scores_would_be_farther():
    """What the second product is for."""
    query, key, value = inputs(130, 64)
    true = equation(query, key, value, torch.zeros(1), 1 / 8)
    rounded = torch.softmax((query / 8) @ key.mT, -1) @ value
    assert error(attention(query, key, value, None), true) < error(rounded, true) / 2


def test_a_layers_own_bias_and_a_mask_of_keys_go_together():
    query, key, value = inputs(37, 64)
    bias = torch.randn(3, 4, 37, 37).bfloat16()
    mask = torch.arange(37) < torch.tensor([37, 19, 1])[:, None, None, None]
    true = equation(query, key, value, bias.float().masked_fill(~mask, -math.inf), 1 / 8)
    found, weights = interface(torch.nn.Identity(), query, key, value, mask, position_bias=bias)
    assert weights is None
    torch.testing.assert_close(found.transpose(1, 2).double(), true, rtol=0.02, atol=0.02)


def test_a_model_that_shares_its_config_keeps_its_attention(tmp_path):
    first, second = backbones(tmp_path, "hubert")
    for one, other in zip(first.encoder.modules(), second.encoder.modules(), strict=True):
        if hasattr(one, "config"):
            other.config = one.config
    by_products(second.encoder)
    for backbone, name in ((first, "sdpa"), (second, NAME)):
        modules = backbone.encoder.modules()
        assert {m.config._attn_implementation for m in modules if hasattr(m, "config")} == {name}
