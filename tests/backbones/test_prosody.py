"""Prosody against signals of known pitch, formulas written out with NumPy and SciPy, and torchaudio."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch
from scipy.signal import lfilter
from torch import Tensor

from emoshare.backbones import pitch
from emoshare.backbones.prosody import CHANNELS, ProsodyEncoder, deltas
from emoshare.core.errors import UnusableClips

RATE = 16_000


def buzz(hertz: np.ndarray, rng: np.random.Generator, noise: float = 0.001) -> np.ndarray:
    """Glottal pulses of the pitch track (N,) Hz through two formants: rich in harmonics, peak 0.5."""
    cycle = np.cumsum(hertz) / RATE % 1
    flow = np.where(cycle < 0.4, 0.5 - 0.5 * np.cos(np.pi * cycle / 0.4), 0.0)
    sound = np.diff(flow, prepend=0.0)
    for centre, width in ((600, 100), (1400, 120)):
        radius = np.exp(-np.pi * width / RATE)
        sound = lfilter([1.0], [1, -2 * radius * np.cos(2 * np.pi * centre / RATE), radius**2], sound)
    sound = 0.5 * sound / np.abs(sound).max()
    return sound + noise * rng.normal(0, 1, len(sound))


def encode(*waves: np.ndarray) -> tuple[list[Tensor], Tensor]:
    """Frames (T, D) of each clip of one batch, and the padded batch; garbage stands after each clip's end."""
    batch = torch.full((len(waves), max(map(len, waves))), 0.7)
    for row, wave in zip(batch, waves, strict=True):
        row[: len(wave)] = torch.from_numpy(wave.astype(np.float32))
    frames, counts = ProsodyEncoder()(batch, torch.tensor([len(wave) for wave in waves]))
    return [clip[:count] for clip, count in zip(frames, counts.tolist(), strict=True)], frames


def channel(frames: Tensor, name: str) -> np.ndarray:
    return frames[..., CHANNELS.index(name)].numpy()


@pytest.mark.parametrize("hertz", [70.0, 101.3, 155.7, 233.1, 310.0, 420.0, 550.0])
def test_a_steady_pitch_is_found_to_half_a_percent(hertz: float) -> None:
    (frames,), _ = encode(buzz(np.full(RATE, hertz), np.random.default_rng(0)))
    inner = slice(2, -2)  # the stretches of the first and last frames reach beyond the clip
    assert (channel(frames, "voicing")[inner] == 1).all()
    found = 100 * 2 ** (channel(frames, "pitch")[inner] / 12)
    np.testing.assert_allclose(found, hertz, rtol=0.005)
    assert channel(frames, "clarity")[inner].min() > 0.9


def test_a_gliding_pitch_is_followed() -> None:
    truth = np.geomspace(90, 380, 3 * RATE)
    (frames,), _ = encode(buzz(truth, np.random.default_rng(0)))
    found = 100 * 2 ** (channel(frames, "pitch") / 12)
    centres = truth[200 + 320 * np.arange(len(found))]
    assert channel(frames, "voicing")[2:-2].all()
    np.testing.assert_allclose(found[2:-2], centres[2:-2], rtol=0.02)


def test_pitch_survives_noise_of_10_db() -> None:
    rng = np.random.default_rng(0)
    clean = buzz(np.full(2 * RATE, 140.0), rng, noise=0)
    noisy = clean + clean.std() * 10**-0.5 * rng.normal(0, 1, len(clean))
    (frames,), _ = encode(noisy)
    voiced = channel(frames, "voicing") == 1
    found = 100 * 2 ** (channel(frames, "pitch")[voiced] / 12)
    assert voiced.mean() > 0.95
    assert np.mean(np.abs(found / 140 - 1) < 0.02) > 0.95


def test_noise_and_silence_are_unvoiced() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, 2 * RATE)
    voice = buzz(np.full(RATE, 120.0), rng)
    (hiss, silence, mixed), _ = encode(noise, np.zeros(RATE), np.concatenate([np.zeros(RATE), voice, np.zeros(RATE)]))
    assert channel(hiss, "voicing").mean() < 0.05
    assert not channel(silence, "voicing").any()
    assert torch.isfinite(silence).all()
    assert not channel(mixed, "pitch")[:47].any()
    assert channel(mixed, "voicing")[52:97].all()
    assert not channel(mixed, "voicing")[103:].any()


def test_yin_against_its_formulas() -> None:
    rng = np.random.default_rng(1)
    stretch = rng.normal(0, 1, pitch.SPAN + 100).astype(np.float32)
    expected = [np.square(stretch[: pitch.SPAN] - stretch[lag : lag + pitch.SPAN]).sum() for lag in range(101)]
    found = pitch.difference(torch.from_numpy(stretch), 100)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-2)
    relative = pitch.normalise(torch.tensor(expected))
    by_hand = [1.0] + [expected[lag] * lag / sum(expected[1 : lag + 1]) for lag in range(1, 101)]
    np.testing.assert_allclose(relative, by_hand, rtol=1e-5)


def test_the_valley_is_found_between_two_lags() -> None:
    lags = torch.arange(30.0)
    valley = 0.05 + (lags - 12.3) ** 2 / 100  # a parabola, lowest at 12.3
    lag, clarity = pitch.pick(valley.clamp(max=1.0)[None], 5)
    torch.testing.assert_close(lag, torch.tensor([12.3]))
    torch.testing.assert_close(clarity, torch.tensor([0.95]))
    deeper = torch.minimum(valley, 0.02 + (lags - 24.6) ** 2 / 100)  # twice the period
    torch.testing.assert_close(pitch.pick(deeper.clamp(max=1.0)[None], 5)[0], torch.tensor([12.3]))


def test_pitch_agrees_with_torchaudio() -> None:
    from torchaudio.functional import detect_pitch_frequency

    wave = buzz(np.full(2 * RATE, 180.0), np.random.default_rng(0))
    (frames,), _ = encode(wave)
    theirs = detect_pitch_frequency(torch.from_numpy(wave)[None].float(), RATE)
    ours = 100 * 2 ** (np.median(channel(frames, "pitch")) / 12)
    assert abs(ours / theirs.median().item() - 1) < 0.03


def spectrum(wave: np.ndarray, frame: int) -> np.ndarray:
    """Power spectrum (257,) of a frame."""
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    return np.abs(scipy.fft.rfft(wave[320 * frame : 320 * frame + 400] * taper, 512)) ** 2 / 512


def test_cepstra_against_scipy() -> None:
    wave = np.random.default_rng(0).normal(0, 0.1, RATE)
    (frames,), _ = encode(wave)
    hertz = np.arange(257) * RATE / 512
    top, bottom = (2595 * np.log10(1 + f / 700) for f in (8000, 20))
    edges = 700 * (10 ** (np.linspace(bottom, top, 28) / 2595) - 1)
    rise, fall = (
        (hertz[:, None] - edges[:-2]) / np.diff(edges)[:-1],
        (edges[2:] - hertz[:, None]) / np.diff(edges)[1:],
    )
    mel = np.clip(np.minimum(rise, fall), 0, None)  # (257, 26)
    for frame in (0, 7, 48):
        expected = scipy.fft.dct(np.log(spectrum(wave, frame) @ mel), norm="ortho")[1:14]
        found = [channel(frames, f"mfcc {i}")[frame] for i in range(1, 14)]
        np.testing.assert_allclose(found, expected, atol=2e-3)


def test_the_shape_of_the_spectrum_against_numpy() -> None:
    wave = np.random.default_rng(0).normal(0, 0.1, RATE)
    (frames,), _ = encode(wave)
    hertz = np.arange(257) * RATE / 512
    power, before = spectrum(wave, 20), spectrum(wave, 19)
    share, past = power / power.sum(), before / before.sum()
    level = 10 * np.log10(power)
    middle = (share * hertz).sum()
    fitted = (hertz >= 100) & (hertz < 5000)
    low = hertz < 500
    expected = {
        "loudness": 10 * np.log10(power.mean()),
        "tilt": np.polyfit(np.log2(hertz[fitted]), level[fitted], 1)[0],
        "slope 0-500": np.polyfit(hertz[low] / 1000, level[low], 1)[0],
        "centroid": middle / 1000,
        "spread": np.sqrt((share * (hertz - middle) ** 2).sum()) / 1000,
        "flatness": level.mean() - 10 * np.log10(power.mean()),
        "roll-off 75": hertz[np.flatnonzero(np.cumsum(share) >= 0.75)[0]] / 1000,
        "flux": np.sqrt(((np.sqrt(share) - np.sqrt(past)) ** 2).sum()),
        "hammarberg": level[hertz < 2000].max() - level[(hertz >= 2000) & (hertz < 5000)].max(),
        "alpha ratio": 10 * np.log10(
            power[(hertz >= 1000) & (hertz < 5000)].mean() / power[(hertz >= 50) & (hertz < 1000)].mean()
        ),
        "band 500-1000": 10 * np.log10(power[(hertz >= 500) & (hertz < 1000)].mean() / power.mean()),
    }  # fmt: skip
    for name, value in expected.items():
        assert channel(frames, name)[20] == pytest.approx(value, abs=2e-3), name


def test_deltas_by_hand() -> None:
    line = torch.arange(6.0)[None, :, None] * 3
    found = deltas(line, torch.tensor([5]))  # the sixth frame does not count
    assert found[0, 2:3, 0].tolist() == [3.0]
    # at the last frame: (1·(12 − 9) + 2·(12 − 6)) / 10
    assert found[0, 4, 0].item() == pytest.approx(1.5)


def test_a_clip_alone_is_a_clip_in_a_batch() -> None:
    rng = np.random.default_rng(0)
    waves = [buzz(np.full(size, hertz), rng) for size, hertz in ((16_000, 110.0), (400, 200.0), (23_456, 290.0))]
    together, padded = encode(*waves)
    for wave, frames in zip(waves, together, strict=True):
        (alone,), _ = encode(wave)
        torch.testing.assert_close(alone, frames, rtol=1e-6, atol=1e-6)
        assert len(alone) == 1 + (len(wave) - 400) // 320
    assert not padded[1, 1:].any()
    reverse, _ = encode(*waves[::-1])
    torch.testing.assert_close(reverse[0], together[2], rtol=1e-6, atol=1e-6)


def test_a_clip_without_a_frame_is_an_error() -> None:
    with pytest.raises(UnusableClips, match=r"clips 1 of the batch: a frame takes 0.025 s"):
        encode(np.zeros(800), np.zeros(399))


def test_half_precision_is_never_taken_over() -> None:
    encoder = ProsodyEncoder().to(torch.bfloat16)
    assert encoder.taper.dtype == torch.float32
