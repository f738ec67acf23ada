"""Pooling against references that loop over clips, written from the equations in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from emoshare.models.pooling import Pooling, Segments, mean_of_segments

KINDS = ["attention", "mean", "max", "stats", "attentive_stats", "multihead"]
LENGTHS = torch.tensor([10, 4, 1])


def reference(pooling: Pooling, frames: Tensor) -> Tensor:
    """The frames of one clip (T, D) → (F,)."""
    frames = frames.double()
    queries = torch.zeros(1, frames.shape[1]) if pooling.score is None else pooling.score.weight
    if pooling.kind == "max":
        return torch.stack([max(column) for column in frames.T])
    parts = []
    for query in queries.double():
        raw = [torch.exp((frame * query).sum()) for frame in frames]
        weights = [value / sum(raw) for value in raw]
        mean = sum(w * frame for w, frame in zip(weights, frames, strict=True))
        parts.append(mean)
        if "stats" in pooling.kind:
            parts.append(sum(w * (f - mean) ** 2 for w, f in zip(weights, frames, strict=True)).sqrt())
    return torch.cat(parts)


@pytest.mark.parametrize("kind", KINDS)
def test_every_pooling_is_its_equation(kind: str) -> None:
    pooling, frames = Pooling(kind, 8, heads=3).requires_grad_(False), torch.randn(3, 10, 8)
    found = pooling(frames, LENGTHS)
    assert found.shape == (3, pooling.size)
    assert found.dtype == torch.float32
    for vector, clip, length in zip(found, frames, LENGTHS.tolist(), strict=True):
        torch.testing.assert_close(vector, reference(pooling, clip[:length]).float(), atol=1.5e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_pooling_sees_the_frames_that_count_alone(kind: str) -> None:
    pooling, frames = Pooling(kind, 8), torch.randn(3, 10, 8)
    garbage = frames.clone()
    garbage[1, 4:], garbage[2, 1:] = 1e4, -1e4
    alone = torch.cat([pooling(f[None, :n], n[None]) for f, n in zip(frames, LENGTHS, strict=True)])
    torch.testing.assert_close(pooling(garbage, LENGTHS), alone)


def test_multihead_with_one_head_is_attention() -> None:
    torch.manual_seed(0)
    one = Pooling("multihead", 8, heads=1)
    torch.manual_seed(0)
    plain, frames = Pooling("attention", 8), torch.randn(3, 10, 8)
    torch.testing.assert_close(one(frames, LENGTHS), plain(frames, LENGTHS), atol=0, rtol=0)


@pytest.mark.parametrize("kind", ["stats", "attentive_stats"])
@pytest.mark.parametrize("mixed", [False, True])
def test_a_deviation_is_exact_beside_a_large_mean(kind: str, mixed: bool) -> None:
    """Half precision alone would lose it: 300 ± 1 squared is beyond float16, and a step of bfloat16 is 2 there."""
    frames = (torch.randn(2, 200, 8) + 300).half()
    pooling, lengths = Pooling(kind, 8).requires_grad_(False), torch.tensor([200, 120])
    if pooling.score is not None:
        pooling.score.weight.zero_()
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        found = pooling(frames, lengths)
    for vector, clip, length in zip(found, frames, lengths.tolist(), strict=True):
        torch.testing.assert_close(vector[8:], clip[:length].double().std(0, correction=0).float(), rtol=1e-4, atol=0)


def test_a_constant_clip_has_no_deviation_and_finite_gradients() -> None:
    frames = torch.ones(2, 5, 4, requires_grad=True)
    pooled = Pooling("stats", 4)(frames, torch.tensor([5, 1]))
    assert (pooled[:, 4:] < 1e-4).all()
    pooled.sum().backward()
    assert frames.grad is not None
    assert frames.grad.isfinite().all()


@pytest.mark.parametrize(("length", "count"), [(1, 1), (29, 1), (30, 1), (39, 1), (40, 2), (50, 3), (59, 3)])
def test_the_number_of_segments(length: int, count: int) -> None:
    segments = Segments()
    means, present = segments(torch.ones(1, 60, 2), torch.tensor([length]))
    assert means.shape == (count, 2)
    assert present.tolist() == [[True] * count]
    torch.testing.assert_close(means, torch.ones(count, 2))


def test_a_mean_over_segments_is_that_of_each_clip() -> None:
    present = torch.tensor([[True, True, True], [True, False, False]])
    values = torch.arange(8.0).reshape(4, 2)
    assert mean_of_segments(values, present).tolist() == [[2.0, 3.0], [6.0, 7.0]]
