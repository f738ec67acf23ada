"""The head against the paper's equations, and what must not change its answer."""

import pytest
import torch
from torch.nn import functional as F

from emoshare.core.config import HeadConfig
from emoshare.models.head import Head, Pooling


def test_the_default_is_the_papers_classifier() -> None:
    head = Head(32, 1, 9, HeadConfig()).eval()
    frames = torch.randn(4, 11, 32)
    weights = torch.softmax(torch.stack([(f * head.pooling.score.weight[0]).sum(-1) for f in frames]), dim=1)
    pooled = torch.stack([(w[:, None] * f).sum(0) for w, f in zip(weights, frames, strict=True)])
    first, norm1, _, _, second, norm2, _ = head.mlp
    hidden = F.gelu(norm1(pooled @ first.weight.T + first.bias))
    wanted = torch.sigmoid(norm2(hidden @ second.weight.T + second.bias))
    torch.testing.assert_close(head(frames, torch.full((4,), 11)), wanted)
    shapes = {name: tuple(p.shape) for name, p in head.named_parameters()}
    assert shapes["pooling.score.weight"] == (1, 32)
    assert shapes["mlp.0.weight"] == (256, 32)
    assert shapes["mlp.4.weight"] == (9, 256)


@pytest.mark.parametrize("kind", ["attention", "mean", "max"])
def test_pooling_sees_the_frames_that_count_alone(kind: str) -> None:
    pooling, frames = Pooling(kind, 8), torch.randn(3, 10, 8)
    lengths = torch.tensor([10, 4, 1])
    garbage = frames.clone()
    garbage[1, 4:], garbage[2, 1:] = 1e4, -1e4
    alone = torch.cat([pooling(f[None, :n], n[None]) for f, n in zip(frames, lengths, strict=True)])
    torch.testing.assert_close(pooling(garbage, lengths), alone)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_frames_cost_rounding_alone(dtype: torch.dtype) -> None:
    head, frames = Head(16, 1, 9, HeadConfig()).eval(), torch.randn(4, 50, 16).to(dtype)
    lengths = torch.full((4,), 50)
    assert head(frames, lengths).dtype == torch.float32
    torch.testing.assert_close(head(frames, lengths), head(frames.float(), lengths), atol=5e-3, rtol=0)


def test_weighted_layers_are_a_softmax_sum() -> None:
    head, states = Head(3 * 8, 3, 9, HeadConfig()).eval(), torch.randn(2, 5, 3, 8)
    head.mix.weight.data = torch.tensor([0.3, -1.0, 2.0])
    mixed = sum(w * states[:, :, i] for i, w in enumerate(torch.softmax(head.mix.weight, 0)))
    plain = head.mlp(head.pooling(mixed, torch.tensor([5, 5])))
    torch.testing.assert_close(head(states.flatten(2), torch.tensor([5, 5])), plain)


@pytest.mark.parametrize("output", ["sigmoid", "softmax", "linear"])
@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
@pytest.mark.parametrize("activation", ["gelu", "relu", "tanh"])
def test_every_choice_trains(output: str, norm: str, activation: str) -> None:
    head = Head(16, 1, 9, HeadConfig(norm=norm, output=output, activation=activation, dropout=0.1))
    shares = head(torch.randn(4, 6, 16), torch.tensor([6, 5, 4, 1]))
    shares.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    if output == "softmax":
        torch.testing.assert_close(shares.sum(1), torch.ones(4))
