"""OpenVINO's frames are held against transformers in float32, windows of a single frame first among them."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import checkpoints
import pytest
import torch

from emoshare.backbones import openvino
from emoshare.backbones.base import load_backbone
from emoshare.backbones.openvino import OpenVinoEngine
from emoshare.core.config import WindowConfig
from emoshare.data.window import frame_count

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")


def hidden_states(folder, name, waves, samples):
    """transformers' own, clip by clip: no padding, no mask."""
    model = checkpoints.reference(folder, name)
    with torch.no_grad():
        clips = [model(w[None, :n], output_hidden_states=True) for w, n in zip(waves, samples, strict=True)]
    return [(clip.last_hidden_state[0], [state[0] for state in clip.hidden_states]) for clip in clips]


@needs_openvino
@pytest.mark.parametrize(
    "name",
    ["wav2vec2_group", "hubert", "wavlm", "unispeech_sat", "data2vec", "conformer_rope", "conformer_rel"],
)
def test_openvino_equals_transformers_at_any_length(name, tmp_path):
    config = checkpoints.write(tmp_path / "model", name)
    backbone = load_backbone(config, WindowConfig(pad="none"))
    run = OpenVinoEngine(backbone, torch.float32, tmp_path)
    # A single frame comes first: OpenVINO 2026.4 without a mask is wrong ever after.
    for samples in ([400], [12_345, 5_000, 400], [24_000, 24_000]):
        if backbone.equal_lengths:
            samples = [samples[0]] * len(samples)
        waves = torch.randn(len(samples), samples[0]) * 0.1
        frames, counts = run(waves, torch.tensor(samples))
        assert frames.shape == (len(samples), frame_count(samples[0]), checkpoints.DIM)
        assert counts.tolist() == [frame_count(n) for n in samples]
        for clip, count, (true, _) in zip(
            frames, counts, hidden_states(tmp_path / "model", name, waves, samples), strict=True
        ):
            torch.testing.assert_close(clip[:count], true, rtol=0, atol=3e-5)
            assert not clip[count:].any()


@needs_openvino
def test_openvino_gives_every_layer(tmp_path):
    config = checkpoints.write(tmp_path / "model", "hubert")
    config.layer = "weighted"
    backbone = load_backbone(config, WindowConfig())
    waves = torch.randn(2, 6_000) * 0.1
    frames, _ = OpenVinoEngine(backbone, torch.float32, tmp_path)(waves, torch.tensor([6_000, 6_000]))
    states = hidden_states(tmp_path / "model", "hubert", waves, [6_000, 6_000])
    for clip, (_, true) in zip(frames, states, strict=True):
        torch.testing.assert_close(clip.unflatten(1, (4, 32)), torch.stack(true, 1), rtol=0, atol=3e-5)


@needs_openvino
def test_conversion_is_kept_and_belongs_to_the_weights(tmp_path, monkeypatch):
    converted = []
    convert = openvino.convert
    monkeypatch.setattr(openvino, "convert", lambda backbone: converted.append(1) or convert(backbone))
    config = checkpoints.write(tmp_path / "a", "wav2vec2_layer")
    config.layer = "1"
    waves = torch.randn(1, 2_000)
    for pad, normalize in (("zeros", "none"), ("none", "checkpoint")):
        backbone = load_backbone(config, WindowConfig(pad=pad, normalize=normalize))
        frames, _ = OpenVinoEngine(backbone, torch.float32, tmp_path)(waves, torch.tensor([2_000]))
        torch.testing.assert_close(frames, backbone(waves)[0], rtol=0, atol=3e-5)
    assert len(converted) == 1
    half = load_backbone(config, WindowConfig(), torch.bfloat16)  # of rounded weights, so another model
    frames, _ = OpenVinoEngine(half, torch.float32, tmp_path)(waves, torch.tensor([2_000]))
    torch.testing.assert_close(frames, load_backbone(config, WindowConfig())(waves)[0], rtol=0, atol=0.05)
    assert len(converted) == 2
    assert not list((tmp_path / "openvino").glob(".*"))
    other = checkpoints.write(tmp_path / "b", "wav2vec2_layer", seed=1)
    other.layer = "1"
    OpenVinoEngine(load_backbone(other, WindowConfig()), torch.float32, tmp_path)
    assert len(converted) == 3


@needs_openvino
def test_threads_can_share_an_engine(tmp_path):
    backbone = load_backbone(checkpoints.write(tmp_path / "model", "hubert"), WindowConfig(pad="none"))
    run = OpenVinoEngine(backbone, torch.float32, tmp_path)
    clips = [torch.randn(1, 4_000 + 400 * number) for number in range(8)]
    alone = [run(clip, torch.tensor([clip.shape[1]]))[0] for clip in clips]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda clip: run(clip, torch.tensor([clip.shape[1]]))[0], clips * 5))
    for number, frames in enumerate(together):
        torch.testing.assert_close(frames, alone[number % 8], rtol=0, atol=0)


SIGNAL = """
import os, signal, sys
from pathlib import Path
import torch
sys.path.insert(0, {tests!r})
import checkpoints
from emoshare.backbones.base import load_backbone
from emoshare.backbones.openvino import OpenVinoEngine
from emoshare.core.config import WindowConfig

folder = Path({folder!r})
backbone = load_backbone(checkpoints.write(folder / "model", "hubert"), WindowConfig())
first = OpenVinoEngine(backbone, torch.float32, folder)
second = OpenVinoEngine(backbone, torch.float32, folder)
del first
del second
heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
os.kill(os.getpid(), signal.SIGTERM)
assert heard
print("alive")
"""


@needs_openvino
def test_a_signal_is_heard_after_engines_are_gone(tmp_path):
    """Ctrl-C, or the end of a process that loads clips: with a Core for each engine, Python dies of it."""
    code = SIGNAL.format(tests=str(Path(__file__).parents[1]), folder=str(tmp_path))
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "alive\n"), run.stderr


def test_of_two_processes_one_converts_and_what_a_killed_one_left_goes(tmp_path, monkeypatch):
    converted = []

    def slow(backbone):
        time.sleep(0.1)
        converted.append(1)

    package = SimpleNamespace(save_model=lambda model, path, **_: path.write_text("model"))
    monkeypatch.setattr(openvino, "openvino", lambda: package)
    monkeypatch.setattr(openvino, "version", lambda package: "1")
    monkeypatch.setattr(openvino, "convert", slow)
    backbone = load_backbone(checkpoints.write(tmp_path / "model", "hubert"), WindowConfig())
    folder = openvino.conversion(backbone.identity, torch.float32, tmp_path)
    for name in (f".{folder.name}-dead", ".another-living"):
        (folder.parent / name).mkdir(parents=True)
    with ThreadPoolExecutor(2) as pool:
        files = list(pool.map(openvino.converted, [backbone] * 2, [tmp_path] * 2))
    assert files == [folder / "model.xml"] * 2
    assert files[0].read_text() == "model"
    assert converted == [1]
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, f"{folder.name}.lock", ".another-living"}
