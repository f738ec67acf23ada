"""The engine on PyTorch is the backbone; which engine, precision and batch size a machine gets."""

from types import SimpleNamespace

import checkpoints
import pytest
import torch
from sections import backbone

from emoshare.backbones import engine
from emoshare.backbones.base import load_backbone
from emoshare.backbones.engine import TorchEngine, choose_engine, make_engine
from emoshare.core import hardware
from emoshare.core.config import WindowConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.hardware import matrix_bf16, resolve_dtype
from emoshare.data.window import frame_count

CPU = torch.device("cpu")
LOGMEL = backbone("logmel")


def test_torch_engine_is_the_backbone(tmp_path):
    backbone = load_backbone(checkpoints.write(tmp_path, "wavlm"), WindowConfig(pad="none"))
    run = make_engine(backbone, "torch", CPU, torch.float32, tmp_path)
    assert isinstance(run, TorchEngine)
    waves = torch.randn(2, 4_000)
    lengths = torch.tensor([4_000, 1_234])
    frames, counts = run(waves, lengths)
    torch.testing.assert_close(frames, backbone(waves, lengths)[0], rtol=0, atol=0)
    assert counts.tolist() == [frame_count(4_000), frame_count(1_234)]


def test_every_projection_is_one_matrix_product(tmp_path):
    """As in transformers: for weights without gradients PyTorch would multiply WavLM's inputs clip by clip."""
    config = checkpoints.write(tmp_path / "model", "wavlm")
    run = make_engine(load_backbone(config, WindowConfig()), "torch", CPU, torch.float32, tmp_path)
    model, waves = checkpoints.reference(tmp_path / "model", "wavlm"), torch.randn(2, 4_000)

    def products(extract) -> int:
        with torch.no_grad(), torch.profiler.profile() as profiler:
            extract()
        return sum(event.name == "aten::bmm" for event in profiler.events())

    assert products(lambda: run(waves, torch.tensor([4_000, 4_000]))) <= products(lambda: model(waves))


def like(parameters: int | None, convertible: bool = True) -> SimpleNamespace:
    """What the choice of an engine depends on."""
    return SimpleNamespace(identity={"name": "x", "type": "hubert", "parameters": parameters}, convertible=convertible)


def test_auto_converts_what_is_worth_it(monkeypatch):
    monkeypatch.setattr(engine, "installed", lambda: True)
    small, large = like(10**6), like(10**8)
    assert choose_engine("auto", CPU, large) == "openvino"
    assert choose_engine("auto", CPU, small) == "torch"
    assert choose_engine("auto", CPU, like(10**8, convertible=False)) == "torch"
    assert choose_engine("auto", CPU, like(None)) == "torch"
    assert choose_engine("auto", torch.device("cuda"), large) == "torch"
    assert choose_engine("openvino", CPU, small) == "openvino"
    assert choose_engine("torch", CPU, large) == "torch"


def test_openvino_where_it_cannot_be(monkeypatch):
    monkeypatch.setattr(engine, "installed", lambda: True)
    logmel = load_backbone(LOGMEL, WindowConfig())
    assert choose_engine("auto", CPU, logmel) == "torch"
    with pytest.raises(EmoshareError, match="logmel has no network"):
        choose_engine("openvino", CPU, logmel)
    with pytest.raises(EmoshareError, match="for a CPU, not cuda"):
        choose_engine("openvino", torch.device("cuda"), like(10**8))
    monkeypatch.setattr(engine, "installed", lambda: False)
    assert choose_engine("auto", CPU, like(10**8)) == "torch"
    with pytest.raises(EmoshareError, match="pip install openvino"):
        choose_engine("openvino", CPU, like(10**8))


@pytest.mark.parametrize("wanted", ["0", "-3", "many", "nan"])
def test_bad_batch_seconds(wanted):
    with pytest.raises(EmoshareError, match=f"extract.max_batch_seconds={wanted}"):
        engine.batch_seconds(wanted, CPU)


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
