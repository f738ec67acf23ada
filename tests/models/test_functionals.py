"""Pooling against NumPy, one clip and one feature at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from emoshare.models.functionals import STATISTICS, pool

LENGTHS = (7, 1, 30, 12)


@pytest.fixture
def frames() -> Tensor:
    """(4, 30, 3): two random walks and a voicing; NaN stands where no frame counts."""
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, (4, 30, 3)).cumsum(1) + 50
    values[..., 2] = rng.random((4, 30)) < 0.6
    values[3, :, 2] = 0  # a clip without a voiced frame
    for clip, length in zip(values, LENGTHS, strict=True):
        clip[length:] = np.nan
    return torch.from_numpy(values)


def by_hand(track: np.ndarray, places: np.ndarray) -> list[float]:
    """The STATISTICS of one feature (n,) whose frames stand at the given places of the clip."""
    if not len(track):
        return [0.0] * len(STATISTICS)
    five, quarter, middle, three, most = np.percentile(track, (5, 25, 50, 75, 95))
    span = places[-1] - places[0]
    time = 2 * (places - places[0]) / span - 1 if span else np.zeros(1)
    slope = np.polyfit(time, track, 1)[0] if len(track) > 1 else 0.0
    curvature = np.polyfit(time, track, 2)[0] if len(track) > 2 else 0.0
    thirds = 3 * (places - places[0]) < span, 3 * (places - places[0]) > 2 * span  # of integers: no rounding
    first, last = ([track[part].mean() if part.any() else 0.0] for part in thirds)
    steps = [abs(b - a) for a, b, gap in zip(track[:-1], track[1:], np.diff(places), strict=True) if gap == 1]
    tops = [
        track[i - 1] < track[i] >= track[i + 1] and track[i] > track.mean() and places[i + 1] - places[i - 1] == 2
        for i in range(1, len(track) - 1)
    ]
    return [
        track.mean(), track.std(), five, quarter, middle, three, most, three - quarter, most - five,
        slope, curvature, *first, *last, np.mean(steps) if steps else 0.0, sum(tops) / len(track),
    ]  # fmt: skip


def test_functionals_against_numpy(frames: Tensor) -> None:
    pooled = pool(frames, torch.tensor(LENGTHS), "functionals").view(4, len(STATISTICS), 3)
    for clip, length, vector in zip(frames.numpy(), LENGTHS, pooled.numpy(), strict=True):
        expected = np.stack([by_hand(track, np.arange(length)) for track in clip[:length].T], 1)
        np.testing.assert_allclose(vector, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("length", [7, 136, 274])
def test_a_clip_played_backwards_has_its_thirds_exchanged(length: int) -> None:
    """Frames at exactly a third of the time count in neither, whatever rounding makes of them: 274 are 5.5 s."""
    track = torch.rand(1, length, 1)
    there, back = (pool(clip, torch.tensor([length]), "functionals")[0] for clip in (track, track.flip(1)))
    places = [STATISTICS.index(f"{name} third") for name in ("first", "last")]
    torch.testing.assert_close(there[places], back[places[::-1]])


def test_voiced_frames_are_measured_by_themselves(frames: Tensor) -> None:
    pooled = pool(frames, torch.tensor(LENGTHS), "functionals", voicing=2)
    size = 3 * len(STATISTICS)
    assert pooled.shape == (4, 2 * size + 4)
    for clip, length, vector in zip(frames.numpy(), LENGTHS, pooled[:, size:].numpy(), strict=True):
        places = np.flatnonzero(clip[:length, 2] == 1)
        expected = np.stack([by_hand(track[places], places) for track in clip[:length].T], 1)
        few = [STATISTICS.index("curvature")] if len(places) < 3 else []  # no parabola through fewer
        np.testing.assert_allclose(
            np.delete(vector[:size].reshape(-1, 3), few, 0), np.delete(expected, few, 0), rtol=1e-5, atol=1e-4
        )
    share, rate, voiced, unvoiced = pooled[2, 2 * size :].tolist()
    flags = frames[2, :, 2].numpy() == 1
    starts = flags & ~np.append(False, flags[:-1])
    stops = ~flags & np.append(True, flags[:-1])
    assert share == pytest.approx(flags.mean())
    assert rate == pytest.approx(starts.sum() / 30)
    assert voiced == pytest.approx(flags.sum() / starts.sum())
    assert unvoiced == pytest.approx((~flags).sum() / stops.sum())


@pytest.mark.parametrize("pooling", ["mean", "std", "mean_std", "functionals"])
def test_a_clip_alone_is_a_clip_in_a_batch(frames: Tensor, pooling: str) -> None:
    together = pool(frames, torch.tensor(LENGTHS), pooling, 2)
    assert torch.isfinite(together).all()
    for row, length in enumerate(LENGTHS):
        alone = pool(frames[row : row + 1, :length], torch.tensor([length]), pooling, 2)
        torch.testing.assert_close(alone[0], together[row], rtol=1e-6, atol=1e-6)


def test_mean_and_std_of_half_precision_are_exact() -> None:
    frames = torch.full((1, 3000, 1), 1000.0, dtype=torch.float16)
    frames[0, ::2] = 1001.0
    mean, std = pool(frames, torch.tensor([3000]), "mean_std")[0].tolist()
    assert mean == 1000.5
    assert std == 0.5


def test_a_constant_feature_has_no_slope_of_rounding_errors() -> None:
    """A standardised feature of 1e-16 would be as loud as any other, and depend on the padding of its batch."""
    frames = torch.full((2, 60, 1), 0.1)
    frames[1, 49:] = 0
    pooled = pool(frames, torch.tensor([60, 49]), "functionals")
    slope = STATISTICS.index("slope")
    assert pooled[:, slope : slope + 2].eq(0).all()
