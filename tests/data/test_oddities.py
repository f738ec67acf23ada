"""What a check of a corpus says of its sound and its labels: silent and clipped clips, labels that drift."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emoshare.data import audio, drift, labels, scan
from emoshare.data.channels import cancellation, mono

RNG = np.random.default_rng(0)
TIME = np.arange(16_000) / 16_000


def voice(peak: float = 0.7) -> np.ndarray:
    """A second of a modulated tone with noise."""
    wave = np.sin(2 * np.pi * 120 * TIME) * (1.1 + np.sin(2 * np.pi * 3 * TIME)) + 0.05 * RNG.normal(size=16_000)
    return peak * wave / np.abs(wave).max()


def problems(wave: np.ndarray, kind: str = "WAV", subtype: str = "PCM_16") -> list[str]:
    file = io.BytesIO()
    soundfile.write(file, wave, 16_000, format=kind, subtype=subtype)
    file.seek(0)
    return [f"{name}: {text}" for name, text in scan.level_problems(audio.inspect(file)[2])]


@pytest.mark.parametrize("peak", [1.0, 0.7, 0.02])
def test_a_voice_is_neither_silent_nor_clipped(peak: float) -> None:
    assert problems(voice(peak)) == []


@pytest.mark.parametrize(
    ("wave", "text"),
    [
        (np.zeros(16_000), "no sound at all"),
        (np.full(16_000, 0.4), "no sound at all"),  # a constant voltage
        (1e-4 * RNG.normal(size=16_000), "-80 dB"),
    ],
)
def test_silence(wave: np.ndarray, text: str) -> None:
    (problem,) = problems(wave)
    assert problem.startswith("silent clip")
    assert text in problem


def test_one_channel_with_sound_is_enough() -> None:
    assert problems(np.stack([np.zeros(16_000), voice()], 1)) == []


@pytest.mark.parametrize("limit", [1.0, 0.5], ids=["at full scale", "turned down afterwards"])
def test_clipping(limit: float) -> None:
    wave = limit * np.clip(2 * voice(), -1, 1)
    (problem,) = problems(wave)
    assert problem.startswith("clipped clip")
    share = float(problem.rpartition(": ")[2].split(" %")[0]) / 100
    assert share == pytest.approx((np.abs(wave) >= limit).mean(), rel=0.3)


@pytest.mark.parametrize(
    ("channels", "text"),
    [
        ([1, -1], "100 dB or more"),
        ([1, -0.9], "their mean is 26 dB softer"),
        ([1, -0.5], "their mean is 10 dB softer"),
        ([1, -1, 1, -1], "100 dB or more"),
        ([0, 1, -1, 0], "100 dB or more"),
        ([1, 1, -1], "and 3. is 100 dB or more softer"),
    ],
)
def test_channels_that_cancel(channels: list[float], text: str) -> None:
    assert text in cancellation(np.outer(voice(), channels))


def test_channels_that_do_not_cancel() -> None:
    wave, other = voice(), RNG.normal(size=16_000)
    for channels in ([wave], [wave, wave], [wave, 0 * wave], [wave, 0.1 * other], [wave, -0.01 * wave], [0 * wave] * 2):
        assert cancellation(np.stack(channels, 1)) == ""
    assert cancellation(np.stack([wave, np.roll(other, 5), np.roll(other, 50), 0 * wave], 1)) == ""
    assert cancellation(np.stack([wave + 0.3, wave - 0.3], 1)) == ""  # opposite constants go, the sound stays
    assert cancellation(wave) == ""
    np.testing.assert_array_equal(mono(np.stack([wave, 0 * wave], 1)), wave / 2)


def test_a_check_tells_of_channels(tmp_path: Path) -> None:
    waves = {"a": [voice(), -voice()], "b": [voice(), voice()], "c": [voice()] * 2, "d": [np.zeros(8000)] * 2}
    waves["a"][1] = -waves["a"][0]
    waves["b"][1] = -0.8 * waves["b"][0]
    for name, channels in waves.items():
        soundfile.write(tmp_path / f"{name}.wav", np.stack(channels, 1), 16_000)
    table = labels.LabelTable("train.csv", [f"{name}.wav" for name in waves], [2, 3, 4, 5], [[]] * 4)
    found = {(f.line, f.kind.split(",")[0], f.error) for f in scan.scan_clips(tmp_path, [table], 500).findings}
    assert (2, "bad wav", True) in found
    assert (3, "channels that cancel: keep one of them", False) in found
    assert {kind for line, kind, _ in found if line == 4} == {"more than one channel"}
    assert not any("cancel" in kind for line, kind, _ in found if line == 5)


def test_a_check_names_them(tmp_path: Path) -> None:
    for name, wave in {"a": voice(), "b": np.zeros(8000), "c": np.clip(3 * voice(), -1, 1)}.items():
        soundfile.write(tmp_path / f"{name}.wav", wave, 16_000)
    table = labels.LabelTable("train.csv", ["a.wav", "b.wav", "c.wav"], [2, 3, 4], [[], [], []])
    found = scan.scan_clips(tmp_path, [table], 500).findings
    assert [(finding.line, finding.error) for finding in found] == [(3, False), (4, False)]
    assert "silent" in found[0].kind
    assert "clipped" in found[1].kind


# Labels


def find_drift(train: np.ndarray, devel: np.ndarray, test: np.ndarray | None = None) -> list[str]:
    parts = {"train": train, "devel": devel, "test": test}
    tables = {name: labels.LabelTable(f"{name}.csv", [], [], []) for name in parts}
    targets = [f"T{e}" for e in range(train.shape[1])]
    return [str(finding) for finding in drift.find_drift(tables, parts, targets)]


def test_equal_distributions_are_not_mentioned() -> None:
    rng = np.random.default_rng(1)
    quiet = [
        find_drift(rng.beta(1, 3, (400, 9)), rng.beta(1, 3, (100, 9)), rng.beta(1, 3, (100, 9))) for _ in range(40)
    ]
    assert sum(map(bool, quiet)) <= 2  # expected: 0.4


def test_drift_is_one_line_with_the_most_different_first() -> None:
    rng = np.random.default_rng(2)
    train, devel = rng.random((500, 5)), rng.random((300, 5))
    devel[:, 1] *= 0.5
    devel[:, 3] *= 0.8
    devel[:, [0, 4]] = devel[:, [0, 4]] * 0.75
    (line,) = find_drift(train, devel, rng.random((300, 5)))
    assert line.startswith("devel.csv: T1 (mean 0.2")
    assert ", in train 0.5" in line
    assert "KS distance 0.48" in line
    assert line.endswith(" and 1 more")
    assert "T2" not in line


def test_a_small_difference_in_many_clips_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    train, devel = rng.random((20_000, 2)), 0.95 * rng.random((20_000, 2))
    assert drift.distance(train[:, 0], devel[:, 0])[1] < 1e-6
    assert find_drift(train, devel) == []
    assert find_drift(rng.random((19, 2)), np.zeros((5, 2))) == []
