"""A trained run predicts new recordings as it predicted its own, whatever it is made of, alone as in a batch."""

from __future__ import annotations

import json
from pathlib import Path

import checkpoints
import numpy as np
import pytest
import torch

import emoshare
from emoshare.core.errors import EmoshareError
from emoshare.inference.model import Model, device_of
from emoshare.training.fusion import fuse

SMALL = [
    "data=compare23", "trainer.progress=false", "logger=none", "window.seconds=1",
]  # fmt: skip
MLP = ["trainer.epochs=1", "trainer.precision=32-true"]  # which an SVR does not read


def train(corpus: Path, *overrides: str) -> Path:
    keys = [*SMALL, f"data.root={corpus}", *([] if "head=svr" in overrides else MLP)]
    stored = {"backbone.frozen=false", "backbone.cache=false", "window.crop=random"}.isdisjoint(overrides)
    results = emoshare.train(*keys, *(["extract.compute=float32"] if stored else []), *overrides)
    return Path("outputs/default") / results.run


def by_path(folder: Path, family: str) -> list[str]:
    """Overrides of a small checkpoint that the tests make."""
    config = checkpoints.write(folder, family)
    names = {"wav2vec2": "wav2vec2_base", "hubert": "hubert_base", "wavlm": "wavlm_base_plus"}
    return [
        f"backbone={names.get(config.type, 'unispeech_sat_base_plus')}", f"backbone.path={folder}",
        f"backbone.dim={config.dim}", f"backbone.layers={config.layers}", "backbone.parameters=null",
        f"backbone.conv_norm={config.conv_norm}",
    ]  # fmt: skip


SYSTEMS = {
    "logmel": ["backbone=logmel"],
    "softmax": ["backbone=logmel", "head.output=softmax", "head.norm=layer", "head.pooling=max", "loss=mix"],
    "native": ["backbone=logmel", "window=native"],
    "centre": ["backbone=tiny", "window.crop=center"],
    "weighted": ["backbone=tiny", "backbone.layer=weighted", "head.pooling=mean"],
    "random": ["backbone=tiny", "window.crop=random"],
    "loop": ["backbone=tiny", "backbone.cache=false"],
    "trained": ["backbone=tiny", "backbone.frozen=false", "optimizer.backbone_lr=1e-3"],
    "refit": ["backbone=logmel", "train.refit=true"],
    "averaged": ["backbone=logmel", "train.average=2", "trainer.epochs=3", "head.pooling=attentive_stats"],
    "segments": ["backbone=logmel", "head=segments"],
    "svr": ["backbone=prosody", "head=svr", "head.grid=[1e-2]"],
    "svr on frames": ["backbone=tiny", "head=svr", "head.grid=[1e-2]", "window=native"],
    "audeep": ["backbone=audeep", "head=svr", "head.grid=[1e-2]", "backbone.epochs=1", "backbone.units=8"],
}


@pytest.fixture
def clips(corpus_root) -> list[Path]:
    """The test clips, in their order."""
    lines = (corpus_root / "lab" / "test.csv").read_text().splitlines()[1:]
    return [corpus_root / "wav" / line.split(",")[0] for line in lines]


def check(run: Path, clips: list[Path], tolerance: float = 2e-5) -> Model:
    """Batched and alone, the shares are those that the run wrote."""
    model = emoshare.load(run, device="cpu")
    files, expected = model.predictions("test")
    assert [path.name for path in clips] == list(files)
    table = model.predict(clips)
    np.testing.assert_allclose(table.values, expected, atol=tolerance)
    assert table.targets == tuple(model.results.targets)
    for row in (0, 3):
        alone = model.predict(clips[row])
        assert list(alone) == model.results.targets
        np.testing.assert_allclose(list(alone.values()), table.values[row], atol=tolerance)
    return model


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_run_predicts_what_it_predicted(system, corpus_root, clips, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    dim = ["backbone.dim=128"] if system == "audeep" else []
    check(train(corpus_root, *SYSTEMS[system], *dim), clips)


@pytest.mark.parametrize("family", ["wav2vec2_group", "hubert", "wavlm", "unispeech_sat"])
@pytest.mark.parametrize("pad", ["zeros", "none"])
def test_every_family_of_checkpoints(family, pad, corpus_root, clips, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    check(train(corpus_root, *by_path(tmp_path / "checkpoint", family), f"window.pad={pad}"), clips, 1e-4)


def test_a_fusion_predicts_with_all_its_members(corpus_root, clips, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [
        train(corpus_root, "backbone=logmel"),
        train(corpus_root, "backbone=logmel", "window.seconds=2", "seed=1"),
        train(corpus_root, "backbone=prosody", "head=svr", "head.grid=[1e-2]"),
    ]
    fused = fuse(runs, Path("outputs/fused"), [1, 2, 3])
    model = check(Path("outputs/fused") / fused.run, clips)
    assert len(model.parts) == 3
    table = model.predict([clips[0]], step=0.5)
    assert len(table) == len(model.predict([clips[0]], windows=2, step=0.5))  # the longest of its members' windows
    with pytest.raises(EmoshareError, match=r"several backbones.*prosody"):
        model.embed(clips[0])
    for run in runs[:2]:
        (run / "results.json").unlink()
    with pytest.raises(EmoshareError, match=r"(?s)no finished run.*\n.*no finished run"):
        _ = emoshare.load(Path("outputs/fused") / fused.run).parts


@pytest.fixture(scope="module")
def run(corpus_root, tmp_path_factory) -> Path:
    """A run of logmel on windows of 1 s."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("model"))
        return train(corpus_root, "backbone=logmel").absolute()


def test_devel_error_stands_beside_the_shares(run) -> None:
    model = emoshare.load(run)
    _, predicted = model.predictions("devel")
    lines = [line.split(",") for line in (run / "reference/devel.csv").read_text().splitlines()]
    true = np.array([line[1 : 1 + len(model.targets)] for line in lines[1:]], float)
    expected = np.abs(predicted - true).mean(0)
    np.testing.assert_allclose(list(model.devel_error.values()), expected, atol=1e-6)


def test_predictions_that_are_not_there_are_said_with_what_is(run, tmp_path) -> None:
    from emoshare.command.cli import main

    for name in ("train", "nope"):
        with pytest.raises(EmoshareError) as caught:
            emoshare.load(run).predictions(name)
        assert str(caught.value) == f"partition={name}: {run} has predictions of devel and test; name one of these"
    exported = tmp_path / "exported"
    assert main(["export", str(run), "--to", "hub", str(exported)]) == 0
    with pytest.raises(EmoshareError) as caught:
        emoshare.load(exported).predictions("test")
    assert str(caught.value).startswith(f"{exported}: an exported folder has no predictions")
    assert str(caught.value).endswith(f"load the folder of the run {run.name}")


def test_arrays_of_any_rate_shape_and_type(run, clips) -> None:
    from scipy.io import wavfile

    model = emoshare.load(run)
    rate, wave = wavfile.read(clips[0])
    expected = list(model.predict(clips[0]).values())
    floats = wave / 32768
    for values in (
        wave, wave.astype(">i2"), wave.astype(np.int32) * 2**16, torch.from_numpy(wave), floats, floats.tolist(),
        list(floats.astype(np.float32)), np.stack([wave, wave], 1), torch.from_numpy(floats).requires_grad_(),
    ):  # fmt: skip
        np.testing.assert_allclose(list(model.predict(values, rate=rate).values()), expected, atol=1e-6)
    table = model.predict([wave, clips[1]], rate=rate)
    assert table.files == ("array 0", str(clips[1]))
    slow = np.repeat(wave / 32768, 3)  # at 48 kHz the same but for what lies above 8 kHz
    assert np.abs(list(model.predict(slow, rate=3 * rate).values()) - np.array(expected)).max() < 0.1


def test_arrays_of_any_scale_that_is_named(run, clips) -> None:
    from scipy.io import wavfile

    model = emoshare.load(run)
    rate, wave = wavfile.read(clips[0])
    expected = list(model.predict(clips[0]).values())
    for values, scale in (
        (wave.astype(float), 2**15), (wave.astype(np.int64), 2**15), (wave.tolist(), 2**15), (wave, 2**15),
        (wave.astype(np.int32) * 256, 2**23), (wave.astype(np.float32) * 2**16, 2.0**31),
        (wave.astype(np.int32) + 0.0, np.float32(2**15)),
    ):  # fmt: skip
        np.testing.assert_allclose(list(model.predict(values, rate=rate, scale=scale).values()), expected, atol=1e-6)
    louder = wave / np.abs(wave).max()
    assert model.predict(1.3 * louder, rate=rate)  # overshoot
    for bits in (8, 16, 24, 32):
        with pytest.raises(EmoshareError, match=f"say what full scale is: --scale {2 ** (bits - 1)} "):
            model.predict(louder * 2 ** (bits - 1), rate=rate)
    with pytest.raises(EmoshareError, match="--scale 32768 "):
        model.predict(1.3 * louder * 2**15, rate=rate)
    for scale in (0, -1, np.nan, np.inf, "1"):  # type: ignore[assignment]
        with pytest.raises(EmoshareError, match="must be a positive number"):
            model.predict(wave, rate=rate, scale=scale)


@pytest.mark.parametrize("bits", [16, 24])
def test_int32_that_may_hold_fewer_bits_is_named(run, clips, caplog, bits) -> None:
    from scipy.io import wavfile

    rate, wave = wavfile.read(clips[0])
    values = wave.astype(np.int32) << bits - 16
    emoshare.load(run).predict(values, rate=rate)
    assert f"is it {2 ** (bits - 1)}? Then say scale={2 ** (bits - 1)}" in caplog.text
    emoshare.load(run).predict(values, rate=rate, scale=2 ** (bits - 1))
    assert caplog.text.count("int32 samples") == 1


def test_arrays_whose_channels_cancel(run, clips, caplog) -> None:
    from scipy.io import wavfile

    model = emoshare.load(run)
    rate, wave = wavfile.read(clips[0])
    with pytest.raises(EmoshareError, match="array 1: its channels cancel"):
        model.predict([wave, np.stack([wave, -wave], 1)], rate=rate)
    model.predict(np.stack([wave / 32768, -wave / 40000], 1), rate=rate)
    assert "array 0: its channels cancel" in caplog.text


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros(100), None, "need their rate"),
        (np.zeros(100), 100, "must be from 4000"),
        (np.zeros((2, 100)), 16000, "transpose"),
        (np.zeros((0,)), 16000, "one sample at least"),
        (np.full(100, np.nan), 16000, "NaN"),
        (np.zeros(100, np.int64), 16000, "samples of type int64: must be floats in"),
        ([0, 1] * 50, 16000, "samples of type int64"),
        (np.zeros(100, np.uint16), 16000, "samples of type uint16"),
        (np.zeros(100, bool), 16000, "samples of type bool"),
        (np.zeros(100, complex), 16000, "samples of type complex128"),
        (np.zeros(100), "16000", "rate='16000': must be"),
    ],
)
def test_arrays_that_are_no_recordings(run, samples, rate, message) -> None:
    with pytest.raises(EmoshareError, match=message):
        emoshare.load(run).predict(samples, rate=rate)


def test_windows_slide_to_the_end(run, clips) -> None:
    model = emoshare.load(run)
    wave = np.random.default_rng(0).normal(0, 0.1, 40_000).astype(np.float32)  # 2.5 s
    table = model.predict(wave, rate=16_000, step=0.5)
    assert table.start.tolist() == [0, 0.5, 1, 1.5]
    assert table.end.tolist() == [1, 1.5, 2, 2.5]
    second = model.predict(wave[8_000:24_000], rate=16_000)
    np.testing.assert_allclose(table.values[1], list(second.values()), atol=1e-6)
    assert len(model.predict(wave, rate=16_000, windows=1.5, step=1.5)) == 2
    assert len(model.predict(wave, rate=16_000, windows=2, step=2)) == 1  # 0.5 s are left
    rest = {40_000: [1, 2, 2.5], 39_999: [1, 2], 32_048: [1, 2], 16_048: [1], 8_000: [0.5], 7_000: [0.4375]}
    for length, ends in rest.items():  # less than half a step is no window of its own
        assert model.predict(wave[:length], rate=16_000, step=1).end.round(6).tolist() == ends
    short = model.predict(wave[:100], rate=16_000, step=0.5)
    assert len(short) == 1
    with pytest.raises(EmoshareError, match="leaves gaps"):
        model.predict(wave, rate=16_000, windows=1, step=2)
    with pytest.raises(EmoshareError, match=r"windows='1': must be from 0\.025"):
        model.predict(wave, rate=16_000, windows="1")
    with pytest.raises(EmoshareError, match=r"(?s)windows=-1.*step=nan"):
        model.predict(wave, rate=16_000, windows=-1, step=float("nan"))


def test_bad_recordings_are_named_together(run, clips, tmp_path) -> None:
    (tmp_path / "a.wav").write_text("no sound")
    with pytest.raises(EmoshareError, match=r"(?s)a\.wav: not a sound file.*\n.*nosuch: no such file"):
        emoshare.load(run).predict([clips[0], tmp_path / "a.wav", tmp_path / "nosuch"])


def test_another_checkpoint_in_its_place_is_refused(corpus_root, clips, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = train(corpus_root, *by_path(tmp_path / "checkpoint", "hubert"))
    checkpoints.write(tmp_path / "checkpoint", "hubert", seed=1)
    with pytest.raises(EmoshareError, match=r"was trained on another hubert_base.*weights differ"):
        emoshare.load(run, cache=tmp_path / "fresh").predict(clips[0])


def test_a_run_of_another_machine_computes_with_what_is_here(run, tmp_path) -> None:
    import shutil

    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    text = (moved / "config.yaml").read_text()
    assert "compute: float32" in text
    (moved / "config.yaml").write_text(text.replace("compute: float32", "compute: float16"))
    assert emoshare.load(moved, device="cpu").parts


def test_loading_says_what_is_missing(tmp_path, run) -> None:
    with pytest.raises(EmoshareError, match="no finished run here"):
        emoshare.load(tmp_path)
    with pytest.raises(EmoshareError, match=r"nobody/nothing: no such folder, not in the hub cache"):
        emoshare.load("nobody/nothing")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "hubert"}))
    with pytest.raises(EmoshareError, match="not a model that emoshare exported"):
        emoshare.load(tmp_path)
    for name in ("nonsense", "cuda:7"):
        with pytest.raises(EmoshareError, match=f"device={name}"):
            device_of(name)


def test_arrays_that_nothing_can_be_told_from_are_said(run, caplog) -> None:
    model = emoshare.load(run)
    model.predict([np.ones(160, np.float32) / 2, np.zeros(16_000, np.float32)], rate=16_000)
    assert [record.message for record in caplog.records] == [
        "array 0: lasts 10 ms, less than a frame of speech (25 ms): nothing can be told from it",
        "array 1: silent: nothing can be told from it",
    ]
