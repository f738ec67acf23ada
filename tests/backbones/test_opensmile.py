"""openSMILE as a backbone: the package's own numbers, whatever the batch."""

from __future__ import annotations

import builtins
import logging

import numpy as np
import pytest
import torch
from torch import Tensor

from emoshare.backbones import opensmile
from emoshare.backbones.opensmile import OpenSmileEncoder
from emoshare.core.errors import EmoshareError, UnusableClips


@pytest.fixture
def needed() -> None:
    pytest.importorskip("opensmile")


def batch(*samples: int) -> tuple[Tensor, Tensor]:
    """Noise of different loudness; garbage after each clip's end."""
    rng = np.random.default_rng(0)
    waves = rng.normal(0, 0.03, (len(samples), max(samples))) * np.arange(1, len(samples) + 1)[:, None]
    return torch.from_numpy(waves.astype(np.float32)), torch.tensor(samples)


@pytest.mark.usefixtures("needed")
@pytest.mark.parametrize(("feature_set", "dim"), [("ComParE_2016", 6373), ("eGeMAPSv02", 88)])
def test_functionals_are_the_packages_own_in_any_batch(feature_set: str, dim: int) -> None:
    import opensmile as package

    encoder = OpenSmileEncoder(feature_set)
    waves, lengths = batch(16_000, 9_000, 12_345)
    frames, counts = encoder(waves, lengths)
    assert frames.shape == (3, 1, dim)
    assert encoder.dim == dim
    assert counts.tolist() == [1, 1, 1]
    smile = package.Smile(package.FeatureSet[feature_set], package.FeatureLevel.Functionals)
    for wave, length, vector in zip(waves, lengths.tolist(), frames, strict=True):
        expected = smile.process_signal(wave[:length].numpy(), 16_000).to_numpy()
        np.testing.assert_array_equal(vector.numpy(), expected)
    reverse, _ = encoder(waves.flip(0), lengths.flip(0))
    assert torch.equal(reverse.flip(0), frames)


@pytest.mark.usefixtures("needed")
@pytest.mark.parametrize(("feature_set", "dim"), [("ComParE_2016", 65), ("eGeMAPSv02", 25)])
def test_descriptors_come_every_10_ms_and_their_number_is_known_before(feature_set: str, dim: int) -> None:
    encoder = OpenSmileEncoder(feature_set, "lld")
    sizes = (960, 1_119, 1_120, 8_000, 16_159, 16_160)
    frames, counts = encoder(*batch(*sizes))
    assert counts.tolist() == [encoder.frame_count(size) for size in sizes]
    assert frames.shape == (len(sizes), max(counts.tolist()), dim)
    alone, _ = encoder(batch(*sizes)[0][3:4, :8_000], torch.tensor([8_000]))
    assert torch.equal(alone[0], frames[3, : counts[3]])
    assert not frames[0, counts[0] :].any()


@pytest.mark.usefixtures("needed")
def test_clips_too_short_are_named_by_their_rows() -> None:
    encoder = OpenSmileEncoder("eGeMAPSv02")
    with pytest.raises(UnusableClips, match=r"clips 0, 2 of the batch: openSMILE needs at least 0.06 s") as caught:
        encoder(*batch(959, 960, 320))
    assert caught.value.rows == [0, 2]
    frames, _ = encoder(*batch(960))
    assert torch.isfinite(frames).all()


@pytest.mark.usefixtures("needed")
def test_nan_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = OpenSmileEncoder("eGeMAPSv02")
    real = encoder.extract
    monkeypatch.setattr(encoder, "extract", lambda wave: real(wave) * (np.nan if len(wave) == 8_000 else 1))
    with pytest.raises(UnusableClips, match="clips 1 of the batch: openSMILE gives NaN"):
        encoder(*batch(9_000, 8_000))


@pytest.mark.usefixtures("needed")
def test_full_scale_does_not_wrap_around() -> None:
    encoder = OpenSmileEncoder("eGeMAPSv02")
    square = torch.sign(torch.sin(torch.arange(16_000) * 2 * torch.pi * 150 / 16_000 + 0.1))[None]
    loud, _ = encoder(square, torch.tensor([16_000]))
    clipped, _ = encoder(square.clamp(max=32767 / 32768), torch.tensor([16_000]))
    assert torch.equal(loud, clipped)


@pytest.mark.usefixtures("needed")
def test_the_licence_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    opensmile.mention_licence.cache_clear()
    with caplog.at_level(logging.INFO, "emoshare"):
        for _ in range(2):
            OpenSmileEncoder("eGeMAPSv02")
    assert [r.message for r in caplog.records] == [
        "openSMILE: audEERING's research licence; no commercial use, nor of features made with it"
    ]


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name == "opensmile":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(EmoshareError, match=r"pip install 'emoshare\[opensmile\]'"):
        OpenSmileEncoder()
