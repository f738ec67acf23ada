"""Masked frames and mixed clips: what is kept is unchanged, as much as was asked for, and repeatable."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from emoshare.core.config import Config, TrainConfig
from emoshare.models.augment import STRETCH, mask_frames, mix
from emoshare.models.head import Head
from emoshare.models.module import EmotionShareModule
from emoshare.systems.kinds.mlp import Options as HeadConfig


def numbered(clips: int, count: int) -> torch.Tensor:
    """Frames that say which they are: (B, T, 2) clip and place."""
    clip, place = torch.meshgrid(torch.arange(clips), torch.arange(count), indexing="ij")
    return torch.stack([clip, place], 2).half()


def test_what_is_kept_is_the_clips_own_in_order() -> None:
    lengths = torch.randint(1, 200, (64,))
    frames, counts = mask_frames(numbered(64, 200), lengths, 0.5)
    assert frames.shape == (64, int(counts.max()), 2)
    assert (counts >= 1).all()
    for clip, (values, count, length) in enumerate(zip(frames, counts.tolist(), lengths.tolist(), strict=True)):
        places = values[:count, 1].int().tolist()
        assert (values[:count, 0] == clip).all()
        assert places == sorted(set(places))
        assert places[-1] < length
        gaps = np.diff([-1, *places]) - 1
        assert not gaps[gaps > 0].size or (gaps[1:][gaps[1:] > 0] % STRETCH == 0).all()  # whole stretches are missing


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_the_share_is_the_one_asked_for(share: float) -> None:
    torch.manual_seed(0)
    _, counts = mask_frames(numbered(2000, 200), torch.full((2000,), 200), share)
    kept = counts.double() / 200
    assert kept.mean().item() == pytest.approx(1 - share, abs=4 * kept.std().item() / 2000**0.5)


def test_a_clip_of_one_frame_keeps_it() -> None:
    frames, counts = mask_frames(numbered(50, 1), torch.ones(50, dtype=torch.long), 0.9)
    assert counts.tolist() == [1] * 50
    assert torch.equal(frames, numbered(50, 1))


def test_mixed_clips_and_labels_are_the_same_mixture() -> None:
    vectors = torch.eye(6)
    mixed, shares = mix(vectors, vectors * 2, 0.4)
    torch.testing.assert_close(shares, mixed * 2)
    torch.testing.assert_close(mixed.sum(1), torch.ones(6))
    torch.testing.assert_close(mixed.sum(0), torch.ones(6))  # every clip is the other one once


def test_the_weights_are_of_a_beta_distribution() -> None:
    torch.manual_seed(0)
    weights = []
    while len(weights) < 2000:
        mixed, _ = mix(torch.tensor([[0.0], [1.0]]), torch.zeros(2, 1), 0.5)
        if 0 < mixed[0, 0] < 1:  # else each was mixed with itself
            weights.append(1 - mixed[0, 0].item())
    assert stats.kstest(weights, stats.beta(0.5, 0.5).cdf).pvalue > 1e-3


def test_nothing_is_done_in_evaluation_or_by_default() -> None:
    batch = {"clip": torch.arange(4), "lengths": torch.tensor([40, 9, 1, 30]), "frames": torch.randn(4, 40, 8),
             "shares": torch.rand(4, 3)}  # fmt: skip
    found = {}
    for name, train in (("plain", TrainConfig()), ("both", TrainConfig(frame_mask=0.5, mixup=0.4))):
        torch.manual_seed(0)
        head = Head(8, 1, 3, HeadConfig(norm="layer"))
        made = EmotionShareModule(head, Config().loss.make(), Config().optimizer, ("a", "b", "c"), train=train)
        found[name] = made.predict_shares(batch), made.predicted_and_true(batch)
    torch.testing.assert_close(found["plain"][0], found["both"][0], rtol=0, atol=0)
    torch.testing.assert_close(found["plain"][1][0], found["plain"][0], rtol=1e-6, atol=1e-6)
    assert torch.equal(found["plain"][1][1], batch["shares"])
    assert not torch.allclose(found["plain"][1][0], found["both"][1][0], atol=1e-4)
    assert not torch.equal(found["both"][1][1], batch["shares"])
