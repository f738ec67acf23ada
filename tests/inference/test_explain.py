"""`emoshare explain`, through the real command line: a cue that is planted in a known stretch is found there."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

import emoshare as door
import emoshare.command.cli as cli
from emoshare.core.config import RATE
from emoshare.core.errors import EmoshareError
from emoshare.data import demo
from emoshare.inference.explanation import predict, view_of
from emoshare.inference.model import Model

CUE = (2.5, 3.0)  # seconds


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with outputs/ of an MLP on log-mel frames, an SVR on prosody, and their fusion; read only."""
    folder = tmp_path_factory.mktemp("explain")
    common = ["data=demo", "window.seconds=5.5", "logger=none", "trainer.progress=false"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.main(["train", *common, "backbone=logmel", "trainer.epochs=8"]) == 0
        assert cli.main(["train", *common, "backbone=prosody", "head=svr", "head.grid=[0.01]"]) == 0
        assert cli.main(["fuse", "outputs/default", "--out", "outputs/fused"]) == 0
    return folder


def model_of(home: Path, name: str) -> Model:
    [folder] = home.glob(f"outputs/*/{name}*")
    return door.load(folder, "cpu", home / "cache")


@pytest.fixture(scope="module")
def planted() -> np.ndarray:
    """4 s of a neutral voice, but for the half second of CUE, which has what the demo corpus calls anger."""
    starts = np.arange(0, 4, 0.5)
    latents = np.zeros((len(starts), len(demo.LATENTS)))
    latents[starts == CUE[0]] = 2.5 * demo.WEIGHTS[0]
    speaker = demo.Speaker("nobody", 0, "female", 150.0, 1.03, 4.5, 0.0, np.zeros(len(demo.LATENTS)))
    nothing = np.zeros(0)
    clip = demo.Clip("planted.wav", "test", speaker, 4.0, starts, latents, nothing, nothing)
    return demo.synthesize(clip, np.random.default_rng(5))


def inside(times: np.ndarray) -> np.ndarray:
    """Of spans (S, 2), those that lie within the cue."""
    return (times[:, 0] >= CUE[0] - 1e-6) & (times[:, 1] <= CUE[1] + 1e-6)


def touching(times: np.ndarray) -> np.ndarray:
    """Of spans (S, 2), those that overlap with the cue."""
    return (times[:, 1] > CUE[0] + 1e-6) & (times[:, 0] < CUE[1] - 1e-6)


def test_occlusion_and_gradients_point_to_the_cue(home, planted) -> None:
    found = model_of(home, "logmel").explain(planted, rate=RATE)
    assert found.targets[0] == "Anger"
    occluded = found.occlusion[:, 0]
    assert inside(found.stretches)[occluded.argmax()]
    assert occluded[inside(found.stretches)].mean() > 2 * np.abs(occluded[~touching(found.stretches)]).mean()
    assert found.frames is not None
    gradients, here = found.frames.gradients[:, 0], touching(found.frames.times)
    quarter = np.convolve(gradients, np.ones(12), "same")  # sums of 0.24 s
    assert here[quarter.argmax()]
    assert gradients[here].mean() > 4 * np.abs(gradients[~here]).mean()


def test_occlusion_points_to_the_cue_for_an_svr(home, planted) -> None:
    found = model_of(home, "prosody").explain(planted, rate=RATE)
    occluded = found.occlusion[:, 0]
    assert occluded[inside(found.stretches)].mean() > 2 * np.abs(occluded[~touching(found.stretches)]).mean()
    assert found.frames is None


def test_the_numbers_are_those_of_predict_and_add_up(home, planted) -> None:
    model = model_of(home, "logmel")
    found = model.explain(planted, rate=RATE)
    shares = model.predict(planted, rate=RATE)
    np.testing.assert_allclose(found.shares, [shares[target] for target in found.targets], rtol=1e-6)
    frames = found.frames
    assert frames is not None
    assert frames.gap < 1e-3
    np.testing.assert_allclose(frames.baseline + frames.gradients.sum(0), found.shares, atol=1e-3)
    assert frames.attention is not None
    assert frames.attention.sum() == pytest.approx(1, abs=1e-5)
    assert found.stretches[0, 0] == 0
    assert found.stretches[-1, 1] == found.seconds == 4.0


@pytest.mark.parametrize(("name", "atol"), [("logmel", 1e-5), ("prosody", 3e-3)])
def test_batched_occlusion_equals_one_by_one(home, planted, name, atol) -> None:
    """Some functionals of prosody are constant but for rounding (slope of the voicing of voiced frames), and the SVR's
    scaler magnifies that rounding, which changes with the batch.
    """
    model = model_of(home, name)
    view = view_of(model.parts[0][0], 1.0, (planted / 32768).astype(np.float32), None)
    stretches = np.array([[0, 4000], [40_000, 44_000], [60_000, 64_000]])
    together = predict([view], stretches)
    alone = np.concatenate([predict([view], stretch[None]) for stretch in stretches])
    np.testing.assert_allclose(together, alone, atol=atol)
    assert np.ptp(together[:, 0]) > 10 * atol


def test_a_fusion_adds_what_its_members_add(home, planted) -> None:
    fused = model_of(home, "fusion").explain(planted, rate=RATE)
    members = [model_of(home, name).explain(planted, rate=RATE) for name in ("logmel", "prosody")]
    np.testing.assert_allclose(fused.occlusion, np.mean([m.occlusion for m in members], axis=0), atol=1e-5)
    np.testing.assert_allclose(fused.shares, np.mean([m.shares for m in members], axis=0), atol=1e-6)
    assert fused.frames is None


def test_times_are_those_of_the_recording(home, planted) -> None:
    """Four seconds of other sound before the clip move everything by four seconds."""
    model = model_of(home, "logmel")
    long = np.concatenate([np.roll(planted, 20_000), planted])
    later, first = (model.explain(wave, RATE, start, 2.0) for wave, start in ((long, 5.5), (planted, 1.5)))
    assert (later.start, later.end, later.seconds) == (5.5, 7.5, 8.0)
    np.testing.assert_allclose(later.stretches, first.stretches + 4)
    np.testing.assert_allclose(later.occlusion, first.occlusion, atol=1e-5)
    assert later.frames is not None
    assert first.frames is not None
    np.testing.assert_allclose(later.frames.times, first.frames.times + 4)
    np.testing.assert_allclose(later.frames.gradients, first.frames.gradients, atol=1e-6)
    np.testing.assert_array_equal(later.samples, first.samples)


def test_the_command_writes_a_figure_and_json_and_prints_what_matters(home, planted, emoshare, tmp_path, drawn) -> None:
    wavfile.write(tmp_path / "clip.wav", RATE, planted)
    [run] = home.glob("outputs/default/logmel*")
    result = emoshare("explain", str(run), "clip.wav", "--cache", str(home / "cache"))
    assert result.status == 0, result.err
    folder = tmp_path / "explanations" / run.name
    assert sorted(path.name for path in folder.iterdir()) == ["clip.json", "clip.png"]
    width, height = struct.unpack(">II", (folder / "clip.png").read_bytes()[16:24])
    assert width >= 1280
    assert width > height
    content = json.loads((folder / "clip.json").read_text())
    found = model_of(home, "logmel").explain(tmp_path / "clip.wav")
    assert content["run"] == run.name
    assert content["window"] == {"start": 0, "end": 4, "recording": 4}
    assert content["shares"].keys() == content["devel_error"].keys() == set(content["targets"])
    np.testing.assert_allclose(content["occlusion"], found.occlusion, atol=1e-6)
    np.testing.assert_allclose(content["gradients"], found.frames.gradients, atol=1e-6)
    assert len(content["frames"]) == len(content["attention"]) == len(content["gradients"])
    assert found._repr_png_().startswith(b"\x89PNG")
    [anger] = [line for line in result.out.splitlines() if line.startswith("Anger")]
    strongest = dict(zip(found.targets, found.strongest(), strict=True))["Anger"]
    assert f"{strongest[1]:.2f} to {strongest[2]:.2f} s" in anger
    assert f"{strongest[3]:+.3f}" in anger
    assert result.err == ""


@pytest.mark.parametrize("name", ["prosody", "fusion"])
def test_systems_without_gradients_have_a_figure_too(home, planted, emoshare, tmp_path, name, drawn) -> None:
    wavfile.write(tmp_path / "clip.wav", RATE, planted)
    [run] = home.glob(f"outputs/*/{name}*")
    options = ["--out", "here", "--start", "1", "--windows", "2", "--stretch", "0.5", "--cache", str(home / "cache")]
    result = emoshare("explain", str(run), "clip.wav", *options)
    assert result.status == 0, result.err
    assert "window: 1.00 to 3.00 s of 4.00 s" in result.out
    content = json.loads((tmp_path / "here/clip-1s-windows2s-stretch0.5s.json").read_text())
    assert content["gradients"] is content["attention"] is content["frames"] is None
    assert content["stretches"][0] == [1, 1.5]
    assert (tmp_path / "here/clip-1s-windows2s-stretch0.5s.png").stat().st_size > 10_000


def test_no_explanation_takes_the_place_of_another(home, planted, emoshare, tmp_path) -> None:
    for folder, part in (("s1", planted), ("s2", planted[::-1])):
        (tmp_path / folder).mkdir()
        wavfile.write(tmp_path / folder / "x.wav", RATE, part)
    runs = [str(next(home.glob(f"outputs/default/{name}*"))) for name in ("logmel", "prosody")]
    calls = [(runs[0], "s1/x.wav"), (runs[0], "s2/x.wav"), (runs[0], "s1/x.wav", "--windows", "1"),
             (runs[0], "s1/x.wav", "--stretch", "1"), (runs[1], "s1/x.wav")]  # fmt: skip
    told = []
    for call in [*calls, *calls, (runs[0], str(tmp_path / "s1/x.wav"))]:
        result = emoshare("explain", *call, "--out", "here", "--cache", str(home / "cache"))
        assert result.status == 0, result.err
        told.append(result.out.rpartition("data: ")[2].strip())
    assert len(set(told[:5])) == 5
    assert told[5:] == [*told[:5], told[0]], "the same call replaces its own files"
    assert [told[0], *told[2:4]] == ["here/x.json", "here/x-windows1s.json", "here/x-stretch1s.json"]
    assert len(list((tmp_path / "here").iterdir())) == 10
    for path, call in zip(told, calls, strict=False):
        content = json.loads((tmp_path / path).read_text())
        assert (content["run"], Path(content["file"]).resolve()) == (Path(call[0]).name, tmp_path / call[1])


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"run": 1, "file": 2}'])
def test_a_file_that_is_no_explanation_is_not_replaced(home, planted, emoshare, tmp_path, content) -> None:
    wavfile.write(tmp_path / "x.wav", RATE, planted)
    (tmp_path / "here").mkdir()
    (tmp_path / "here/x.json").write_text(content)
    [run] = map(str, home.glob("outputs/default/logmel*"))
    result = emoshare("explain", run, "x.wav", "--out", "here", "--cache", str(home / "cache"))
    assert result.status == 0, result.err
    assert (tmp_path / "here/x.json").read_text() == content
    assert len(list((tmp_path / "here").glob("x-*"))) == 2


def test_mistakes_are_one_line_with_a_remedy(home, planted, emoshare, tmp_path) -> None:
    wavfile.write(tmp_path / "clip.wav", RATE, planted)
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    (tmp_path / "file").write_text("in the way")
    [run] = map(str, home.glob("outputs/default/prosody*"))
    for arguments, words in {
        ("missing", "clip.wav"): ("missing: no finished run here",),
        (run, "none.wav"): ("none.wav: no such file",),
        (run, "bad.wav"): ("bad.wav: not a sound file",),
        (run, "."): ("a folder", "one recording"),
        (run, "clip.wav", "--out", "file"): ("file", "cannot be written", "--out"),
        (run, "clip.wav", "--out", "file/in"): ("file/in", "cannot be written", "--out"),
        (run, "clip.wav", "--start", "4"): ("start=4", "clip.wav has 4 s", "0 to 3.975 s"),
        (run, "clip.wav", "--start", "-1"): ("start=-1",),
        (run, "clip.wav", "--start", "nan"): ("start=nan",),
        (run, "clip.wav", "--stretch", "0"): ("stretch=0", "0.025 to 60 s"),
        (run, "clip.wav", "--windows", "0"): ("windows=0",),
    }.items():
        result = emoshare("explain", *arguments)
        assert result.status == 1, arguments
        assert len(result.err.splitlines()) == 1, result.err
        assert all(word in result.err for word in words), result.err
        assert "Traceback" not in result.err
    assert not list(tmp_path.rglob("*.png"))


def test_several_mistakes_are_said_at_once(home, planted) -> None:
    with pytest.raises(EmoshareError) as caught:
        model_of(home, "prosody").explain(planted, RATE, start=9, stretch=99)
    assert str(caught.value).count("\n") == 1


def test_shares_that_are_not_finite_are_named_and_not_written(home, planted, emoshare, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("emoshare.data.audio.OVERSHOOT", np.inf)  # such samples are refused before
    wavfile.write(tmp_path / "huge.wav", RATE, planted.astype(np.float32) * np.float32(1e20))
    [run] = home.glob("outputs/default/logmel*")
    result = emoshare("explain", str(run), "huge.wav", "--cache", str(home / "cache"))
    assert (result.status, result.err) == (1, "emoshare: huge.wav: its shares are NaN or infinite\n")
    assert not list(tmp_path.rglob("huge.json"))
    assert not list(tmp_path.rglob("huge.png"))
