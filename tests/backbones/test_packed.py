"""The packed encoder is the backbone: for every family, with a mask, for all layers, in a batch and alone."""

import checkpoints
import pytest
import torch
from torch import nn

from emoshare.backbones.base import load_backbone
from emoshare.backbones.engine import TorchEngine
from emoshare.backbones.packed import ChannelsLast, PackedLinear, packable
from emoshare.core.config import WindowConfig

CPU = torch.device("cpu")
SECONDS, SAMPLES = 0.25, 4_000

pytestmark = pytest.mark.skipif(not packable(torch.float32), reason="no oneDNN on this processor")


def backbones(folder, name, layer="last", pad="zeros", dtype=torch.float32):
    """Twice the same: an engine takes its own over."""
    config = (checkpoints.write_mel if name in checkpoints.MELS else checkpoints.write)(folder, name)
    config.layer = layer
    return [load_backbone(config, WindowConfig(seconds=SECONDS, pad=pad), dtype) for _ in range(2)]


def batch(backbone, clips: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips of which every other one is shorter, where the backbone takes that, zeros after them."""
    lengths = torch.full((clips,), SAMPLES)
    lengths[1::2] = SAMPLES if backbone.equal_lengths else 2_600
    return torch.randn(clips, SAMPLES) * 0.1 * (torch.arange(SAMPLES) < lengths[:, None]), lengths


@pytest.mark.parametrize("pad", ["zeros", "none"])
@pytest.mark.parametrize(
    ("name", "layer"),
    [
        *((name, "last") for name in (*checkpoints.FAMILIES, "whisper", "w2v_bert", "w2v_bert_rope")),
        ("hubert", "weighted"), ("wavlm", "weighted"), ("wavlm", "1"), ("wav2vec2_group", "1"), ("whisper", "weighted"),
    ],
)  # fmt: skip
def test_packed_equals_the_backbone(name, layer, pad, tmp_path):
    backbone, other = backbones(tmp_path, name, layer, pad)
    run = TorchEngine(other, CPU)
    kinds = {type(module) for module in other.encoder.modules()}
    assert PackedLinear in kinds
    assert nn.Linear not in kinds
    for clips in (3, 1, 2):
        waves, lengths = batch(backbone, clips)
        frames, counts = run(waves, lengths)
        wanted, true = backbone(waves, lengths)
        torch.testing.assert_close(frames, wanted, rtol=0, atol=1e-5)
        assert counts.tolist() == true.tolist()


@pytest.mark.skipif(not packable(torch.bfloat16), reason="no bfloat16 on this processor")
@pytest.mark.parametrize("name", ["hubert", "wavlm", "data2vec", "whisper"])
def test_in_bfloat16_it_is_no_farther_from_float32_than_the_backbone(name, tmp_path):
    backbone, other = backbones(tmp_path / "model", name, pad="none", dtype=torch.bfloat16)
    exact = backbones(tmp_path / "model", name, pad="none")[0]
    waves, lengths = batch(backbone, 8 if name != "data2vec" else 1)
    true, plain = exact(waves, lengths)[0], backbone(waves, lengths)[0]
    packed = TorchEngine(other, CPU)(waves, lengths)[0]
    assert error(packed, true) <= error(plain, true) * 1.1
    assert error(plain, true) > 0


def error(found: torch.Tensor, true: torch.Tensor) -> float:
    return float((found.float() - true).square().mean().sqrt())


def test_positions_and_gelu_are_computed_packed(tmp_path):
    """hubert's one positional convolution, data2vec's three; GELU once in every layer."""
    for name, convolutions in (("hubert", 1), ("data2vec", 3), ("whisper", 0)):
        _, backbone = backbones(tmp_path / name, name)
        TorchEngine(backbone, CPU)
        modules = list(backbone.encoder.modules())
        assert sum(isinstance(module, ChannelsLast) for module in modules) == convolutions
        activated = [module for module in modules if isinstance(module, PackedLinear) and module.activation == "gelu"]
        assert len(activated) == checkpoints.LAYERS


def test_where_nothing_can_be_packed_the_backbone_stays(tmp_path, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    _, backbone = backbones(tmp_path, "hubert")
    TorchEngine(backbone, CPU)
    assert not any(isinstance(module, PackedLinear) for module in backbone.encoder.modules())
    assert not packable(torch.float16)
