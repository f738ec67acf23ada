"""The head against the paper's equations, and what must not change its answer."""

import pytest
import torch
from torch.nn import functional as F

from emoshare.core.schema import declared_keys
from emoshare.models.head import Head
from emoshare.systems.kinds.mlp import Options as HeadConfig

MLP_POOLINGS = declared_keys(HeadConfig)["pooling"].key.choices


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


@pytest.mark.parametrize("pooling", MLP_POOLINGS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_frames_cost_rounding_alone(dtype: torch.dtype, pooling: str) -> None:
    head, frames = Head(16, 1, 9, HeadConfig(pooling=pooling)).eval(), torch.randn(4, 50, 16).to(dtype)
    lengths = torch.tensor([50, 31, 12, 2])
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


@pytest.mark.parametrize("pooling", MLP_POOLINGS)
@pytest.mark.parametrize("hidden", [0, 8])
def test_every_pooling_trains_also_on_a_single_frame(pooling: str, hidden: int) -> None:
    head = Head(16, 1, 9, HeadConfig(pooling=pooling, hidden=hidden))
    shares = head(torch.randn(4, 40, 16), torch.tensor([40, 33, 2, 1]))
    shares.square().sum().backward()
    assert shares.shape == (4, 9)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_segments_are_scored_one_by_one_and_averaged() -> None:
    """Aalto's head, written from its description: mean of 30 frames every 10 → linear → sigmoid → mean."""
    config = HeadConfig(pooling="segments", hidden=0, norm="none")
    head, frames = Head(8, 1, 3, config).eval(), torch.randn(4, 75, 8)
    linear = head.mlp[1]
    for clip, length in zip(frames, (75, 49, 30, 7), strict=True):
        starts = range(0, length - 29, 10) if length >= 30 else [0]
        means = torch.stack([clip[start : min(start + 30, length)].mean(0) for start in starts])
        wanted = torch.sigmoid(means @ linear.weight.T + linear.bias).mean(0)
        batch = torch.stack([clip, torch.randn(75, 8)])
        batch[0, length:] = 1e4  # what does not count
        torch.testing.assert_close(head(batch, torch.tensor([length, 75]))[0], wanted)
        torch.testing.assert_close(head(clip[None, :length], torch.tensor([length]))[0], wanted)
