"""Variants of clips against the equations and torchaudio's own transforms."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch

from emoshare.core.errors import EmoshareError
from emoshare.core.variants import Variant, variant, variants
from emoshare.data.augment import augment, digest, length, rates

transforms = importlib.import_module("torchaudio.transforms")  # after emoshare, which makes it importable

SHA = bytes(range(32))


def clip(samples: int = 16_123) -> np.ndarray:
    return (np.random.default_rng(samples).normal(size=samples) * 0.05).astype(np.float32)


@pytest.mark.parametrize("factor", [0.5, 0.85, 0.9, 1.0, 1.1, 1.15, 1.25, 2.0])
@pytest.mark.parametrize("samples", [400, 16_000, 16_123])
def test_speed_is_the_sound_at_other_times(factor: float, samples: int) -> None:
    """Sample n of the variant is the clip at factor × n, which a tone says exactly."""
    wave = np.sin(2 * np.pi * 1000 * np.arange(samples) / 16_000).astype(np.float32)
    found = augment(Variant("speed", factor), wave, SHA)
    assert len(found) == length(Variant("speed", factor), samples) == -(-samples * 100 // round(factor * 100))
    expected = np.sin(2 * np.pi * 1000 * factor * np.arange(len(found)) / 16_000)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[200:-200], expected[200:-200], atol=1e-5)


def test_what_speed_puts_above_8_khz_is_gone() -> None:
    high = np.sin(2 * np.pi * 7500 * np.arange(16_000) / 16_000).astype(np.float32)  # 8,250 Hz at 1.1 times the speed
    assert np.abs(augment(Variant("speed", 1.1), high, SHA)[500:-500]).max() < 1e-5


def test_speed_of_any_two_decimals_is_a_short_fraction() -> None:
    assert rates(Variant("speed", 1.15)) == (23, 20)
    assert length(Variant("speed", 1.15), 23) == 20


def test_gain_is_torchaudios() -> None:
    found = augment(variant("gain-6"), clip(), SHA)
    np.testing.assert_array_equal(found, transforms.Vol(-6, "db")(torch.from_numpy(clip())).numpy())
    assert np.abs(augment(variant("gain40"), clip(), SHA)).max() > 1  # no clipping


@pytest.mark.parametrize("ratio", [-5, 0, 20])
def test_noise_has_its_ratio_and_is_the_same_for_the_same_file(ratio: int) -> None:
    wave, what = clip(160_000), variant(f"noise{ratio}")
    found = augment(what, wave, SHA)
    noise = (found - wave).astype(np.float64)
    power = 10 * np.log10(np.square(wave.astype(np.float64)).sum() / np.square(noise).sum())
    assert power == pytest.approx(ratio, abs=1e-3)
    expected = transforms.AddNoise()(
        torch.from_numpy(wave), torch.from_numpy(noise.astype(np.float32)), torch.tensor(ratio)
    )
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
    assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 0.02  # white
    np.testing.assert_array_equal(found, augment(what, wave, SHA))
    other = augment(what, wave, SHA[::-1]) - wave
    assert abs(np.corrcoef(noise, other)[0, 1]) < 0.02


def test_silence_stays_a_number() -> None:
    assert np.isfinite(augment(variant("noise10"), np.zeros(1000, np.float32), SHA)).all()


def test_equal_variants_have_equal_keys() -> None:
    assert digest(variant("speed0.90"), SHA) == digest(variant("speed0.9"), SHA)
    assert len({digest(variant(word), SHA) for word in ("speed0.9", "noise20", "gain20", "noise-20")} | {SHA}) == 5


@pytest.mark.parametrize("word", ["speed1", "speed1.00", "gain0", "gain-0.0"])
def test_a_variant_that_is_the_clip_itself_is_refused(word: str) -> None:
    with pytest.raises(EmoshareError) as error:
        variants([word, "noise20"])
    assert str(error.value) == (
        f"augment: {word}: is the clip itself, which training sees anyway; name another value, or leave it out"
    )


def test_all_wrong_words_are_told() -> None:
    with pytest.raises(EmoshareError) as error:
        variants(["speed3", "pitch2", "noise20", "gain", "speed0.901", "noise20.0"])
    lines = str(error.value).splitlines()
    assert [line.split(": ")[1].split(" ")[0] for line in lines[:4]] == ["speed3", "pitch2", "gain", "speed0.901"]
    assert lines[4].endswith("noise20.0 is named twice")
    assert "speed and a number of 0.5 to 2" in lines[1]
