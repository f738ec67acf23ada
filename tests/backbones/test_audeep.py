"""auDeep's front end against scipy, its training against an interrupted one, and what it must have learned."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import signal as dsp
from scipy.io import wavfile

from emoshare.backbones import audeep, autoencoder_training
from emoshare.backbones.audeep import (
    THRESHOLDS,
    Settings,
    Spectrogram,
    clip_levels,
    load_folder,
    mel_filters,
    random_control,
)
from emoshare.backbones.autoencoder_training import train_autoencoders
from emoshare.core.errors import EmoshareError

SMALL = Settings(epochs=3, units=8, batch_size=4)


def clip(samples: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    pitch = rng.uniform(100, 400) * (1 + 0.2 * np.sin(np.arange(samples) / 3000))
    tone = sum(np.sin(k * np.cumsum(2 * np.pi * pitch / 16_000)) / k for k in range(1, 12))
    loudness = np.abs(np.sin(np.arange(samples) / rng.uniform(1500, 4000)))
    return (0.2 * tone * loudness + 0.002 * rng.normal(size=samples)).astype(np.float32)


def levels(wave: torch.Tensor) -> torch.Tensor:
    """A clip (N,) → (1, 74, 128) in dB."""
    return Spectrogram()(wave[None], torch.tensor([len(wave)]))


def reference(wave: np.ndarray, threshold: float) -> np.ndarray:
    """(N,) → (74, 128) in [-1, 1], by scipy and loops, in float64."""
    length = 48_000
    if len(wave) > length:
        start = (len(wave) - length) // 2
        wave = wave[start : start + length]
    else:
        before = (length - len(wave)) // 2
        wave = np.concatenate([np.zeros(before), wave, np.zeros(length - len(wave) - before)])
    wave = dsp.lfilter([1, -0.95], [1], wave.astype(np.float64))
    _, _, magnitude = dsp.spectrogram(
        wave, 16_000, window=dsp.get_window("hann", 1280), nperseg=1280, noverlap=640, mode="magnitude"
    )  # scipy's default takes each frame's mean away
    power = magnitude**2 / 1280  # (641, 74)
    points = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 130)
    corners = [int(1281 * 700 * (10 ** (mel / 2595) - 1) / 16_000) for mel in points]
    bank = np.zeros((128, 641))
    for band, (low, middle, high) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
        for k in range(low, middle):
            bank[band, k] = (k - low) / (middle - low)
        for k in range(middle, high):
            bank[band, k] = (high - k) / (high - middle)
    mel = bank @ power
    mel[mel == 0] = mel[mel > 0].min()
    decibels = np.maximum(10 * np.log10(mel / mel.max()), threshold)
    centred = decibels - decibels.mean()
    return (2 * (centred - centred.min()) / (centred.max() - centred.min()) - 1).T


@pytest.mark.parametrize("samples", [9_001, 48_000, 60_001])
@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_the_front_end_is_the_one_of_the_table(samples: int, threshold: int) -> None:
    wave = clip(samples, samples)
    ours = clip_levels(levels(torch.from_numpy(wave)), threshold)[0].numpy()
    assert ours.shape == (74, 128)
    np.testing.assert_allclose(ours, reference(wave, threshold), atol=2e-3)


def test_triangles_have_height_one_and_no_band_is_empty() -> None:
    filters = mel_filters()
    assert filters.shape == (641, 128)
    assert (filters.max(0) == 1).all()
    assert (filters >= 0).all()


@pytest.mark.parametrize("wave", [torch.zeros(20_000), torch.zeros(400), torch.full((50_000,), 0.5), torch.ones(1)])
def test_silence_and_very_short_clips_are_finite(wave: torch.Tensor) -> None:
    for threshold in THRESHOLDS:
        values = clip_levels(levels(wave), threshold)
        assert values.isfinite().all()
        assert values.abs().max() <= 1
    if not wave.any():
        assert not values.any()


def write_clips(root: Path, count: int = 10) -> list[Path]:
    root.mkdir(parents=True, exist_ok=True)
    paths = [root / f"{row}.wav" for row in range(count)]
    for row, path in enumerate(paths):
        wavfile.write(path, 16_000, (clip(30_000 + 3_000 * row, row) * 20_000).astype(np.int16))
    return paths


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, clips: list[Path]) -> Path:
    return train_autoencoders(clips, "f00d", SMALL, tmp_path_factory.mktemp("cache"))


def test_a_vector_per_clip_whatever_the_batch(uninterrupted: Path) -> None:
    encoder = load_folder(uninterrupted)
    sizes = [20_000, 400, 60_000]
    waves = torch.zeros(3, 60_000)
    for row, size in enumerate(sizes):
        waves[row, :size] = torch.from_numpy(clip(size, row))
    with torch.no_grad():
        frames, counts = encoder(waves, torch.tensor(sizes))
        backwards, _ = encoder(waves.flip(0), torch.tensor(sizes[::-1]))
        alone = torch.cat([encoder(waves[r : r + 1, :n], torch.tensor([n]))[0] for r, n in enumerate(sizes)])
    assert frames.shape == (3, 1, 4 * 4 * 8) == (3, 1, encoder.dim)
    assert counts.tolist() == [1, 1, 1]
    torch.testing.assert_close(frames, alone, rtol=0, atol=1e-6)
    torch.testing.assert_close(frames, backwards.flip(0), rtol=0, atol=1e-6)
    first = clip_levels(levels(waves[0, : sizes[0]]), -30)
    with torch.no_grad():
        theirs = encoder.autoencoders[0].encode(first)
    torch.testing.assert_close(frames[:1, 0, :32], theirs, rtol=0, atol=1e-6)


def test_a_second_call_trains_nothing(uninterrupted: Path, clips: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoencoder_training, "fit", None)
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.iterdir()}
    assert train_autoencoders(clips, "f00d", SMALL, uninterrupted.parents[1]) == uninterrupted
    assert {path: path.stat().st_mtime_ns for path in uninterrupted.iterdir()} == before
    assert sorted(p.name for p in before) == [
        "30dB.safetensors", "45dB.safetensors", "60dB.safetensors", "75dB.safetensors", "digests.json", "lock",
        "recipe.json",
    ]  # fmt: skip


def test_identity_hangs_on_the_audio_and_every_setting(uninterrupted: Path) -> None:
    cache = uninterrupted.parents[1]
    places = {audeep.folder_of(audeep.training_identity("f00d", SMALL), cache)}
    assert places == {uninterrupted}
    for change in ({"epochs": 4}, {"units": 9}, {"batch_size": 5}, {"train_on_test": False}, {"seed": 1}):
        places.add(audeep.folder_of(audeep.training_identity("f00d", Settings(**(vars(SMALL) | change))), cache))
    places.add(audeep.folder_of(audeep.training_identity("beef", SMALL), cache))
    assert len(places) == 7
    facts = load_folder(uninterrupted).facts()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["training"]["audio"] == "f00d"
    assert facts["dim"] == 128


KILLED = """
import sys
from pathlib import Path
from emoshare.backbones.audeep import Settings
from emoshare.backbones.autoencoder_training import train_autoencoders
clips = [Path(sys.argv[1]) / f"{row}.wav" for row in range(10)]
train_autoencoders(clips, "f00d", Settings(epochs=3, units=8, batch_size=4), Path(sys.argv[2]))
"""


def test_a_killed_training_goes_on_and_ends_the_same(tmp_path: Path, clips: list[Path], uninterrupted: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(clips[0].parent), str(tmp_path)])
    folder = tmp_path / "audeep" / uninterrupted.name
    while process.poll() is None and not (folder / "45dB.ckpt").exists():  # in the midst of the second of four
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    left = sorted(path.name for path in folder.iterdir())
    assert "30dB.safetensors" in left
    assert "75dB.safetensors" not in left
    assert train_autoencoders(clips, "f00d", SMALL, tmp_path) == folder
    for threshold in THRESHOLDS:
        name = f"{-threshold}dB.safetensors"
        assert (folder / name).read_bytes() == (uninterrupted / name).read_bytes()
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in uninterrupted.iterdir())


def test_an_epoch_in_the_middle_is_gone_on_from(
    tmp_path: Path, clips: list[Path], uninterrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the first two epochs of an autoencoder is made the last one before the process ends."""
    write = autoencoder_training.Last.on_train_epoch_end

    class Ended(Exception):  # noqa: N818 (nothing fails: it ends a training)
        pass

    def once(self: autoencoder_training.Last, trainer: object, module: object) -> None:
        write(self, trainer, module)
        raise Ended

    monkeypatch.setattr(autoencoder_training.Last, "on_train_epoch_end", once)
    for _ in range(2):
        with pytest.raises(Ended):
            train_autoencoders(clips, "f00d", SMALL, tmp_path)
    monkeypatch.setattr(autoencoder_training.Last, "on_train_epoch_end", write)
    folder = train_autoencoders(clips, "f00d", SMALL, tmp_path)
    assert (folder / "30dB.safetensors").read_bytes() == (uninterrupted / "30dB.safetensors").read_bytes()


def test_training_leaves_the_random_state_alone(tmp_path: Path, clips: list[Path]) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_autoencoders(clips[:4], "f00d", Settings(epochs=1, units=4, batch_size=4), tmp_path)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


def test_training_gets_below_the_mean_frame(tmp_path: Path, clips: list[Path]) -> None:
    levels = autoencoder_training.spectrograms(clips, tmp_path / "levels.npy")
    data = autoencoder_training.Clips(levels, -60)
    values = np.stack([reference(wavfile.read(path)[1] / 32768, -60) for path in clips])  # (10, 74, 128)
    mean_frame = np.sqrt(np.mean((values - values.mean((0, 1))) ** 2))
    assert autoencoder_training.mean_frame_error(data, batch_size=3) == pytest.approx(mean_frame, abs=1e-3)
    settings = Settings(epochs=16, units=32, batch_size=4)
    untrained = audeep.new_autoencoder(settings, -60, 0)
    before = autoencoder_training.reconstruction_error(untrained, data, 4)
    autoencoder_training.fit(levels, -60, settings, tmp_path, torch.device("cpu"))
    trained = audeep.new_autoencoder(settings, -60, 0)
    from safetensors.torch import load_file

    trained.load_state_dict(load_file(tmp_path / "60dB.safetensors"))
    after = autoencoder_training.reconstruction_error(trained, data, 4)
    assert after < 0.9 * mean_frame < before
    reconstruction, target = trained.eval()(data.__getitems__(range(10)))
    assert np.sqrt(np.mean((reconstruction - target).detach().numpy() ** 2)) == pytest.approx(after, rel=1e-5)


def test_little_learned_is_said(tmp_path: Path, clips: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "emoshare"):
        train_autoencoders(clips, "f00d", Settings(epochs=1, units=2, batch_size=16), tmp_path)
    assert len(caplog.records) == 1
    text = caplog.text
    assert "auDeep has learned little" in text
    assert all(f"{threshold} dB (" in text for threshold in THRESHOLDS)


def test_a_diverged_training_leaves_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    levels = np.random.default_rng(0).uniform(-60, 0, (4, 74, 128)).astype(np.float32)
    monkeypatch.setattr(autoencoder_training, "rms_error", lambda x, y: (x - y).sum() * torch.nan)
    with pytest.raises(EmoshareError, match="the training diverged"):
        autoencoder_training.fit(levels, -30, Settings(epochs=1, units=2, batch_size=4), tmp_path, torch.device("cpu"))
    assert list(tmp_path.iterdir()) == []


def test_lightning_says_nothing(
    tmp_path: Path, clips: list[Path], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("emoshare"), "handlers", [])  # of a command in this process
    train_autoencoders(clips[:4], "f00d", Settings(epochs=2, units=4, batch_size=4), tmp_path)
    said = capfd.readouterr()
    assert said.out == ""
    assert [
        line for line in said.err.splitlines() if "learned little" not in line and "training auDeep" not in line
    ] == []


def test_the_random_control_depends_on_its_seed() -> None:
    weights = [random_control(SMALL, seed).facts()["weights"] for seed in (0, 0, 1)]
    assert weights[0] == weights[1] != weights[2]
    assert random_control(Settings(), 0).dim == 4096


def test_damaged_files_are_named(tmp_path: Path, clips: list[Path], uninterrupted: Path) -> None:
    folder = tmp_path / "audeep" / uninterrupted.name
    folder.mkdir(parents=True)
    for path in uninterrupted.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "60dB.safetensors").write_bytes(b"half")
    with pytest.raises(EmoshareError, match=r"60dB.safetensors: not readable .*; name another folder"):
        load_folder(folder)
    (folder / "60dB.safetensors").write_bytes((uninterrupted / "60dB.safetensors").read_bytes())
    recipe = json.loads((folder / "recipe.json").read_text())
    (folder / "recipe.json").write_text(json.dumps(recipe | {"audio": "other"}))
    with pytest.raises(EmoshareError, match=r"recipe.json: not the recipe that the folder is named by; delete"):
        train_autoencoders(clips, "f00d", SMALL, tmp_path)
    (folder / "recipe.json").write_text("{")
    with pytest.raises(EmoshareError, match=r"recipe.json: not readable"):
        load_folder(folder)


def test_autoencoders_of_other_clips_are_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the clips without those of test: another division of the same clips has others."""
    from emoshare.backbones.kinds.audeep import Options
    from emoshare.data.corpus import divide
    from emoshare.data.partition import Corpus

    made: list[tuple[int, str]] = []

    def train(clips: list[Path], fingerprint: str, *rest: object) -> Path:
        made.append((len(clips), fingerprint))
        return tmp_path

    monkeypatch.setattr(autoencoder_training, "train_autoencoders", train)
    files, digests = [f"{n}.wav" for n in range(6)], tuple(bytes([n]) * 32 for n in range(6))
    for on_test in (False, True):
        for end in (4, 5):
            parts = {"train": files[:3], "devel": files[3:end], "test": files[end:]}
            divided = divide({part: (names, None) for part, names in parts.items()}, np.ones(6))
            corpus = Corpus("c", tmp_path, tmp_path, ("joy",), divided, "f", (), digests)
            autoencoder_training.prepare(Options(train_on_test=on_test), corpus, autoencoder_training.CPU, tmp_path)
    assert [clips for clips, _ in made] == [4, 5, 6, 6]
    assert made[0][1] != made[1][1]
    assert made[2][1] == made[3][1] == corpus.audio_fingerprint


def test_a_run_trains_its_autoencoders_once_and_stores_a_vector_per_clip(tmp_path: Path, corpus_root: Path) -> None:
    from composed import config, on_cpu

    from emoshare.training import source

    keys = ["data=compare23", f"data.root={corpus_root}", "backbone=audeep", "backbone.units=4", "backbone.dim=64"]
    keys += ["backbone.epochs=1", "backbone.batch_size=16", f"paths.cache={tmp_path}", "trainer.progress=false"]
    made = config(*keys, "window=native", "extract.precision=float32")
    store = source.open_store(on_cpu(made))
    rows = np.arange(3)
    frames, counts = store.gather(rows)
    assert frames.shape == (3, 1, 64)
    assert counts.tolist() == [1, 1, 1]
    (folder,) = (tmp_path / "audeep").iterdir()
    assert store.recipe.backbone["path"] == "audeep"
    before = (folder / "30dB.safetensors").stat().st_mtime_ns
    assert source.open_store(on_cpu(made)).recipe.backbone == store.recipe.backbone
    assert (folder / "30dB.safetensors").stat().st_mtime_ns == before
    control = source.open_store(on_cpu(config(*keys, "window=native", "backbone.pretrained=false")))
    assert control.recipe.backbone["weights"] != store.recipe.backbone["weights"]
    assert len(list((tmp_path / "audeep").iterdir())) == 1
