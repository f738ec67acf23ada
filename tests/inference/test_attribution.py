"""What stretches and frames add, against closed forms: a model that is known, a path that can be integrated by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import emoshare.inference.attribution as attribution
from emoshare.core.config import RATE
from emoshare.core.masks import length_mask
from emoshare.inference.attribution import (
    TOLERANCE,
    attention_of,
    frame_times,
    integrated_gradients,
    mean_frame,
    occlusion,
    resample_to_frames,
    silence,
    stretches_of,
)
from emoshare.models.functionals import POOLINGS
from emoshare.models.head import Head
from emoshare.systems.kinds.mlp import Options as HeadConfig

OF_SVR = {*POOLINGS, "auto"} - {"mean"}
[FIELD] = [field for field in dataclasses.fields(HeadConfig) if field.name == "pooling"]
POOLINGS_OF_HEAD = [kind for kind in FIELD.metadata["key"].choices if kind not in OF_SVR]


@pytest.mark.parametrize(("samples", "length", "step"), [(100, 30, 10), (101, 30, 10), (30, 30, 15), (31, 30, 15)])
def test_stretches_cover_every_sample_and_end_with_the_recording(samples, length, step) -> None:
    found = stretches_of(samples, length, step)
    assert set().union(*(range(start, end) for start, end in found)) == set(range(samples))
    assert (np.diff(found[:, 0]) == step).all()
    assert (found[:-1, 1] - found[:-1, 0] == length).all()
    assert found[-1, 1] == samples
    assert len(found) == 1 or found[-2, 1] < samples


def test_a_stretch_is_silenced_without_a_click() -> None:
    wave = np.ones(1600, np.float32)
    found = silence(wave, 400, 800)
    assert np.abs(found[400:800]).max() < 2e-3
    assert (found[:320] == 1).all()
    assert (found[880:] == 1).all()
    assert np.abs(np.diff(found)).max() < 0.02  # 80 samples from 1 to 0
    np.testing.assert_array_equal(silence(wave, 5000, 6000), wave)
    np.testing.assert_array_equal(silence(wave, -600, -200), wave)
    assert np.abs(silence(wave, 0, 1600)).max() < 2e-3
    np.testing.assert_allclose(silence(wave / 8, 400, 800), found / 8, rtol=1e-5, atol=1e-8)


def test_occlusion_of_a_sum_is_the_part_of_each_stretch() -> None:
    """The model adds up the samples, with a weight per target: a stretch adds its own sum."""
    wave, weights = np.arange(40.0), np.array([1.0, -2.0])
    stretches = stretches_of(40, 10, 5)
    sizes = []

    def predict(silent: np.ndarray) -> np.ndarray:
        sizes.append(len(silent))
        return np.stack([(wave.sum() - wave[start:end].sum()) * weights for start, end in silent])

    found = occlusion(predict, stretches, wave.sum() * weights)
    expected = np.stack([wave[start:end].sum() * weights for start, end in stretches])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert sum(sizes) == len(stretches)


def test_overlapping_stretches_are_averaged_where_they_overlap() -> None:
    stretches = np.array([[0, 2], [1, 3], [2, 4]])
    values = np.array([[1.0], [3.0], [8.0]])
    np.testing.assert_allclose(resample_to_frames(stretches, values, np.arange(5.0))[:, 0], [1, 2, 5.5, 8])


def test_gradients_of_a_linear_head_are_its_weights() -> None:
    torch.manual_seed(0)
    frames, counts, weight = torch.randn(2, 7, 5), torch.tensor([7, 4]), torch.randn(5, 3)

    def head(x: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
        return ((x * length_mask(n, x.shape[1])[..., None]).sum(1) / n[:, None]) @ weight + 0.1

    found = integrated_gradients(head, frames, counts)
    for clip, n in enumerate(counts.tolist()):
        mean = frames[clip, :n].mean(0)
        torch.testing.assert_close(found.values[clip, :n], (frames[clip, :n] - mean) @ weight / n)
        torch.testing.assert_close(found.baseline[clip], mean @ weight + 0.1)
    assert (found.values[1, 4:] == 0).all()


def test_gradients_of_a_square_are_those_of_its_integral() -> None:
    """share = (Σ_t w·x_t)²: on the path s(α) = s′ + α (s − s′), ∫ 2 s(α) dα = s + s′."""
    torch.manual_seed(1)
    frames, baseline = torch.randn(1, 6, 4), torch.randn(1, 6, 4)
    weight = torch.randn(4)
    found = integrated_gradients(
        lambda x, _: (x @ weight).sum(1, keepdim=True).square(), frames, torch.tensor([6]), baseline
    )
    both = (frames @ weight).sum() + (baseline @ weight).sum()
    torch.testing.assert_close(found.values[0, :, 0], ((frames - baseline) @ weight)[0] * both)


def trained(pooling: str, seed: int = 0, states: int = 1) -> Head:
    """A head with weights and statistics as different from the first ones as training makes them."""
    torch.manual_seed(seed)
    head = Head(6 * states, states, 3, HeadConfig(pooling=pooling, hidden=8))
    for tensor in head.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(0.5 * torch.rand_like(tensor))
    return head.eval().requires_grad_(False)


@pytest.mark.parametrize("states", [1, 3])
@pytest.mark.parametrize("pooling", POOLINGS_OF_HEAD)
def test_gradients_are_complete_for_every_pooling(pooling, states) -> None:
    head = trained(pooling, states=states)
    frames, counts = 2 * torch.randn(2, 30, 6 * states), torch.tensor([30, 17])
    found = integrated_gradients(head, frames, counts)
    difference = head(frames, counts) - head(mean_frame(frames, counts), counts)
    torch.testing.assert_close(found.values.sum(1), difference, atol=TOLERANCE, rtol=0)
    assert found.gap <= TOLERANCE
    assert difference.abs().max() > 10 * TOLERANCE or pooling in ("mean", "segments")  # of which it keeps the mean
    assert (found.values[1, 17:] == 0).all()
    alone = integrated_gradients(head, frames[1:, :17], counts[1:])
    torch.testing.assert_close(found.values[1, :17], alone.values[0], atol=1e-5, rtol=1e-4)


def test_more_points_are_taken_until_the_gradients_are_complete() -> None:
    """A step of the head that is narrow: few points miss it."""
    frames, counts = torch.linspace(-3, 3, 7).reshape(1, 7, 1), torch.tensor([7])

    def head(x: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return (20 * (x[:, -1] - 1.3)).sigmoid()

    assert integrated_gradients(head, frames, counts, steps=(4,)).gap > TOLERANCE
    found = integrated_gradients(head, frames, counts)
    assert found.gap <= TOLERANCE
    assert float(found.values[0, -1, 0]) == pytest.approx(1, abs=2 * TOLERANCE)


def test_gradients_do_not_depend_on_how_many_points_share_a_pass(monkeypatch) -> None:
    head, frames, counts = trained("attention"), torch.randn(1, 20, 6), torch.tensor([20])
    whole = integrated_gradients(head, frames, counts).values
    monkeypatch.setattr(attribution, "NUMBERS", 20 * 6 * 5)
    torch.testing.assert_close(integrated_gradients(head, frames, counts).values, whole, atol=1e-6, rtol=1e-5)


def test_the_attention_is_what_the_head_averages_by() -> None:
    head = trained("attention", states=2)
    frames, counts = torch.randn(2, 9, 12), torch.tensor([9, 5])
    weights = attention_of(head, frames, counts)
    assert weights is not None
    mixed = head.mix(frames)
    torch.testing.assert_close((weights[:, None] @ mixed).squeeze(1), head.pooling(mixed, counts))
    torch.testing.assert_close(weights.sum(1), torch.ones(2))
    assert (weights[1, 5:] == 0).all()
    assert attention_of(trained("mean"), frames[..., :6], counts) is None


def test_frames_have_the_times_of_what_they_see() -> None:
    times = frame_times(274, round(5.5 * RATE))
    np.testing.assert_allclose(times[0].mean(), 0.0125)  # the middle of the first 25 ms
    np.testing.assert_allclose(np.diff(times[:, 0]), 0.02)
    assert times[-1, 1] <= 5.5
    np.testing.assert_allclose(frame_times(4, RATE), [[0, 0.25], [0.25, 0.5], [0.5, 0.75], [0.75, 1]])
