"""Every engine's frames are held against transformers in float32, windows of a single frame first among them."""

import logging
import re
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from types import SimpleNamespace

import checkpoints
import pytest
import torch

from emoshare.backbones import engine
from emoshare.backbones.base import load_backbone
from emoshare.backbones.engine import OpenVinoEngine, TorchEngine, make_engine, resolve_engine
from emoshare.core import hardware
from emoshare.core.config import BackboneConfig, ExtractConfig, WindowConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.hardware import matrix_bf16, resolve_dtype
from emoshare.data.window import frame_count

CPU = torch.device("cpu")
needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")
LOGMEL = BackboneConfig("logmel", "logmel", type="logmel", dim=80, layers=0, normalize=False, mask=True)


def hidden_states(folder, name, waves, samples):
    """transformers' own, clip by clip: no padding, no mask."""
    model = checkpoints.reference(folder, name)
    with torch.no_grad():
        clips = [model(w[None, :n], output_hidden_states=True) for w, n in zip(waves, samples, strict=True)]
    return [(clip.last_hidden_state[0], [state[0] for state in clip.hidden_states]) for clip in clips]


@needs_openvino
@pytest.mark.parametrize("name", ["wav2vec2_group", "hubert", "wavlm", "unispeech_sat"])
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
    convert = engine.convert
    monkeypatch.setattr(engine, "convert", lambda backbone: converted.append(1) or convert(backbone))
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
def test_a_failed_conversion_leaves_nothing(tmp_path, monkeypatch, caplog):
    def fail(backbone):
        raise RuntimeError("no such operation\nand more")

    monkeypatch.setattr(engine, "convert", fail)
    monkeypatch.setattr(engine, "WORTH_CONVERTING", 0)
    backbone = load_backbone(checkpoints.write(tmp_path / "model", "hubert"), WindowConfig())
    with caplog.at_level(logging.WARNING):
        assert make_engine(backbone, ExtractConfig(), CPU, tmp_path).name == "torch"
    assert "no such operation" in caplog.text
    with pytest.raises(EmoshareError, match=re.escape("extract.engine=openvino: can't convert hubert")):
        make_engine(backbone, ExtractConfig(engine="openvino"), CPU, tmp_path)
    assert {path.suffix for path in (tmp_path / "openvino").iterdir()} == {".lock", ".failed"}


def test_a_failed_conversion_is_remembered_until_it_is_forgotten(tmp_path, monkeypatch, caplog):
    """Unless there was too little memory, which may be there the next time."""
    errors = [RuntimeError("std::bad_alloc"), RuntimeError("no such operation\nand more")]

    def fail(*_):
        raise errors.pop(0)

    backbone, auto = load_backbone(checkpoints.write(tmp_path / "model", "hubert"), WindowConfig()), ExtractConfig()
    dtype = resolve_dtype("auto", CPU)
    backbone.to(dtype)
    monkeypatch.setattr(engine, "WORTH_CONVERTING", 0)
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(engine, "version", lambda package: "1")
    monkeypatch.setattr(engine, "OpenVinoEngine", fail)
    make_engine(backbone, auto, CPU, tmp_path)
    assert engine.settle_engine(auto, CPU, backbone.identity, tmp_path) == auto
    (tmp_path / "openvino").mkdir(exist_ok=True)
    make_engine(backbone, auto, CPU, tmp_path)
    caplog.clear()
    assert engine.settle_engine(auto, CPU, backbone.identity, tmp_path).engine == "torch"
    failure = engine.failure_of(backbone.identity, dtype, tmp_path)
    assert f"can't convert hubert (RuntimeError: no such operation): PyTorch computes its frames; delete {failure}" in (
        caplog.text
    )
    wanted = ExtractConfig(engine="openvino")
    assert engine.settle_engine(wanted, CPU, backbone.identity, tmp_path) == wanted
    monkeypatch.setattr(engine, "OpenVinoEngine", lambda *_: "an engine")
    assert make_engine(backbone, wanted, CPU, tmp_path) == "an engine"
    assert not failure.exists()


def test_of_two_processes_one_converts_and_what_a_killed_one_left_goes(tmp_path, monkeypatch):
    converted = []

    def slow(backbone):
        time.sleep(0.1)
        converted.append(1)

    package = SimpleNamespace(save_model=lambda model, path, **_: path.write_text("model"))
    monkeypatch.setattr(engine, "openvino", lambda: package)
    monkeypatch.setattr(engine, "version", lambda package: "1")
    monkeypatch.setattr(engine, "convert", slow)
    backbone = load_backbone(checkpoints.write(tmp_path / "model", "hubert"), WindowConfig())
    folder = engine.conversion(backbone.identity, torch.float32, tmp_path)
    for name in (f".{folder.name}-dead", ".another-living"):
        (folder.parent / name).mkdir(parents=True)
    with ThreadPoolExecutor(2) as pool:
        files = list(pool.map(engine.converted, [backbone] * 2, [tmp_path] * 2))
    assert files == [folder / "model.xml"] * 2
    assert files[0].read_text() == "model"
    assert converted == [1]
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, f"{folder.name}.lock", ".another-living"}


def test_torch_engine_is_the_backbone(tmp_path):
    backbone = load_backbone(checkpoints.write(tmp_path, "wavlm"), WindowConfig(pad="none"))
    run = make_engine(backbone, ExtractConfig(), CPU, tmp_path)
    assert isinstance(run, TorchEngine)
    waves = torch.randn(2, 4_000)
    lengths = torch.tensor([4_000, 1_234])
    frames, counts = run(waves, lengths)
    torch.testing.assert_close(frames, backbone(waves, lengths)[0], rtol=0, atol=0)
    assert counts.tolist() == [frame_count(4_000), frame_count(1_234)]


def test_every_projection_is_one_matrix_product(tmp_path):
    """As in transformers: for weights without gradients PyTorch would multiply WavLM's inputs clip by clip."""
    config = checkpoints.write(tmp_path / "model", "wavlm")
    run = make_engine(load_backbone(config, WindowConfig()), ExtractConfig(engine="torch"), CPU, tmp_path)
    model, waves = checkpoints.reference(tmp_path / "model", "wavlm"), torch.randn(2, 4_000)

    def products(extract) -> int:
        with torch.no_grad(), torch.profiler.profile() as profiler:
            extract()
        return sum(event.name == "aten::bmm" for event in profiler.events())

    assert products(lambda: run(waves, torch.tensor([4_000, 4_000]))) <= products(lambda: model(waves))


@pytest.mark.parametrize("layer", ["last", "weighted"])
def test_compiled_equals_plain(layer, tmp_path, monkeypatch):
    """With dynamo's own backend: what the compiler is given, without waiting for it."""
    real, compiled = torch.compile, []
    monkeypatch.setattr(torch, "compile", lambda f, **keys: compiled.append(f) or real(f, backend="eager", **keys))
    config = checkpoints.write(tmp_path, "hubert")
    config.layer = layer
    run = make_engine(load_backbone(config, WindowConfig(pad="none")), ExtractConfig(compile=True), CPU, tmp_path)
    backbone = load_backbone(config, WindowConfig(pad="none"))
    for samples in (4_000, 7_000):
        waves, lengths = torch.randn(2, samples), torch.tensor([samples, 1_234])
        torch.testing.assert_close(run(waves, lengths)[0], backbone(waves, lengths)[0], rtol=0, atol=1e-5)
    assert len(compiled) == checkpoints.LAYERS


def test_auto_converts_what_is_worth_it(monkeypatch):
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: object())
    small, large = ({"name": "x", "type": "hubert", "parameters": n} for n in (10**6, 10**8))
    assert resolve_engine("auto", CPU, large) == "openvino"
    assert resolve_engine("auto", CPU, small) == "torch"
    assert resolve_engine("auto", torch.device("cuda"), large) == "torch"
    assert resolve_engine("openvino", CPU, small) == "openvino"
    assert resolve_engine("torch", CPU, large) == "torch"


def test_openvino_where_it_cannot_be(tmp_path, monkeypatch):
    logmel = load_backbone(LOGMEL, WindowConfig()).identity
    large = {"name": "x", "type": "hubert", "parameters": 10**8}
    assert resolve_engine("auto", CPU, logmel) == "torch"
    with pytest.raises(EmoshareError, match="logmel has no network"):
        resolve_engine("openvino", CPU, logmel)
    with pytest.raises(EmoshareError, match="for a CPU, not cuda"):
        resolve_engine("openvino", torch.device("cuda"), large)
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)  # it is not installed
    assert resolve_engine("auto", CPU, large) == "torch"
    with pytest.raises(EmoshareError, match="pip install openvino"):
        resolve_engine("openvino", CPU, large)


def test_a_gpus_free_memory_is_what_pytorch_can_have(monkeypatch):
    """Once it has given back what it keeps, and within the fraction that the process may take."""
    gpu, cached = torch.device("cuda"), [30 * 2**30]
    monkeypatch.setattr(torch.cuda, "empty_cache", cached.clear)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (40 * 2**30 - sum(cached), 80 * 2**30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2**30)
    for fraction, free in ((1.0, 40), (0.25, 19), (0.01, 0)):
        monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device, f=fraction: f)
        assert engine.free_memory(gpu) == free * 2**30
        assert engine.batch_seconds("auto", gpu) == min(free * 16, 640)
    assert engine.batch_seconds("auto", CPU) <= 44


def test_precision(monkeypatch):
    for found in (True, False):
        monkeypatch.setattr(hardware, "matrix_bf16", lambda found=found: found)
        assert resolve_dtype("auto", CPU) == (torch.bfloat16 if found else torch.float32)
    assert resolve_dtype("bfloat16", CPU) == torch.bfloat16
    assert resolve_dtype("float32", torch.device("cuda")) == torch.float32
    assert resolve_dtype("float16", torch.device("cuda")) == torch.float16
    with pytest.raises(EmoshareError, match=r"extract\.compute=float16"):
        resolve_dtype("float16", CPU)
    for bf16 in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True, bf16=bf16: bf16)
        assert resolve_dtype("auto", torch.device("cuda")) == (torch.bfloat16 if bf16 else torch.float16)


def test_matrix_bf16_agrees_with_the_kernel():
    from pathlib import Path

    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if "flags" not in flags:
        pytest.skip("no x86 flags to read")
    assert matrix_bf16() == any(flag in flags for flag in ("amx_tile", "avx512_bf16"))
