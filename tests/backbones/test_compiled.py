"""The compiled encoder is the backbone: for every family, with a mask, for all layers, in an incomplete batch."""

import logging
import shutil

import pytest
import torch
from encoders import SAMPLES, backbones, batch, error

from emoshare.backbones.compiled import CompiledEncoder
from emoshare.backbones.engine import TorchEngine

CPU = torch.device("cpu")


@pytest.fixture
def traced(monkeypatch):
    """What was given to torch.compile, which then only traces it: as Inductor gets it, without waiting for C++."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    real, given = torch.compile, []
    monkeypatch.setattr(
        torch, "compile", lambda f, **keys: given.append(f) or real(f, backend="eager", fullgraph=True, **keys)
    )
    return given


@pytest.mark.parametrize(
    ("name", "layer", "pad"),
    [
        ("hubert", "last", "zeros"), ("hubert", "weighted", "none"), ("wav2vec2_group", "1", "none"),
        ("wavlm", "weighted", "zeros"), ("unispeech_sat", "last", "none"), ("data2vec", "last", "zeros"),
        ("conformer_rope", "last", "zeros"), ("conformer_rel", "weighted", "zeros"), ("whisper", "weighted", "none"),
        ("w2v_bert", "last", "none"),
    ],
)  # fmt: skip
def test_compiled_equals_the_backbone(name, layer, pad, tmp_path, traced):
    backbone, other = backbones(tmp_path, name, layer, pad)
    run = TorchEngine(other, CPU, compile=True)
    for clips in (3, 3, 2, 1):  # one graph for the first three; a batch of one is computed sooner as it is
        waves, lengths = batch(backbone, clips)
        frames, counts = run(waves, lengths)
        wanted, true = backbone(waves, lengths)
        torch.testing.assert_close(frames, wanted, rtol=0, atol=1e-5)
        assert counts.tolist() == true.tolist()
    assert len(traced) == 1
    assert run.compiled is not None
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, None)])
def test_what_the_compiler_makes_of_it(dtype, tolerance, tmp_path):
    """With a mask. In bfloat16 it is no farther from float32 than the backbone that is not compiled."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    backbone, other = backbones(tmp_path / "model", "hubert", "1", "none", dtype)
    run = TorchEngine(other, CPU, compile=True)
    waves, lengths = batch(backbone, 3)
    run(waves, lengths)
    waves, lengths = batch(backbone, 2)
    frames, wanted = run(waves, lengths)[0], backbone(waves, lengths)[0]
    assert run.compiled is not None
    assert torch._dynamo.utils.counters["inductor"]["mkldnn_linear_weight_pack_matcher_count"] > 0  # weights are packed
    if tolerance is None:
        exact = backbones(tmp_path / "model", "hubert", "1", "none")[0](waves, lengths)[0]
        assert error(frames, exact) <= error(wanted, exact) * 1.2
    else:
        torch.testing.assert_close(frames, wanted, rtol=0, atol=tolerance)


def test_other_shapes_are_computed_as_they_are(tmp_path, traced):
    backbone, other = backbones(tmp_path, "hubert", pad="none")
    run = TorchEngine(other, CPU, compile=True)
    for clips, samples in ((2, 3_000), (2, SAMPLES), (4, SAMPLES), (2, 2_000)):
        waves = torch.randn(clips, samples)
        lengths = torch.full((clips,), samples)
        torch.testing.assert_close(run(waves, lengths)[0], backbone(waves, lengths)[0], rtol=0, atol=1e-5)
        assert len(traced) == (0 if samples == 3_000 else 1)  # the length of the window is the one that comes again
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_a_compiler_that_fails_leaves_the_backbone_as_it_is(tmp_path, monkeypatch, caplog):
    backbone, other = backbones(tmp_path, "hubert")
    tried = []

    def broken(self, inputs, mask):
        tried.append(1)
        raise RuntimeError("no C++ compiler found\nand more")

    monkeypatch.setattr(CompiledEncoder, "__call__", broken)
    run = TorchEngine(other, CPU, compile=True)
    for _ in range(2):
        waves, lengths = batch(backbone, 2)
        torch.testing.assert_close(run(waves, lengths)[0], backbone(waves, lengths)[0], rtol=0, atol=1e-6)
    assert tried == [1]
    [said] = [record for record in caplog.records if "can't be compiled" in record.message]
    assert said.levelno == logging.WARNING
    assert said.message == "hubert can't be compiled (RuntimeError: no C++ compiler found): it is computed as it is"
