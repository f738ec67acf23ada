"""The packed encoder is the backbone: for every family, with a mask, for all layers, in a batch and alone."""

import checkpoints
import inner
import parakeet
import pytest
import spectrogram
import torch
from encoders import backbones, batch, error
from torch import nn

from emoshare.backbones import attention
from emoshare.backbones.base import load_backbone
from emoshare.backbones.packed import ChannelsLast, PackedConvolution, Pointwise, place
from emoshare.core.config import WindowConfig
from emoshare.core.products import PackedLinear, packable

CPU = torch.device("cpu")

pytestmark = pytest.mark.skipif(not packable(torch.float32), reason="no oneDNN on this processor")


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
    run = place(other, CPU)
    kinds = {type(module) for module in other.encoder.modules()}
    assert PackedLinear in kinds
    assert nn.Linear not in kinds
    for clips in (3, 1, 2):
        waves, lengths = batch(backbone, clips)
        frames, counts = run(waves, lengths)
        wanted, true = backbone(waves, lengths)
        torch.testing.assert_close(frames, wanted, rtol=0, atol=1e-5)
        assert counts.tolist() == true.tolist()


@pytest.mark.parametrize("kind", [*inner.MODELS, "parakeet", "ast"])
def test_so_do_those_behind_spectra(kind, tmp_path):
    """A pointwise or chunked convolution and the activation after a layer are packed as the products are."""
    write = {"parakeet": parakeet.write, "ast": spectrogram.write}.get(kind)
    config = write(tmp_path) if write else inner.write(tmp_path, kind)
    window = WindowConfig(seconds=2, pad="none", normalize="checkpoint")
    backbone, other = (load_backbone(config, window) for _ in range(2))
    run = place(other, CPU)
    modules = list(other.encoder.modules())
    activated = [module for module in modules if isinstance(module, PackedLinear) and module.activation != "none"]
    assert len(activated) == inner.LAYERS * (2 if kind == "parakeet" else 1)
    assert sum(isinstance(module, PackedConvolution) for module in modules) == (3 if kind == "qwen3_asr" else 0)
    assert sum(isinstance(module, Pointwise) for module in modules) == (2 * inner.LAYERS if kind == "parakeet" else 0)
    waves, lengths = torch.randn(2, 25_000) * 0.1, torch.tensor([25_000, 17_000])
    for part in (lengths, lengths * 0 + 25_000):
        torch.testing.assert_close(run(waves, part)[0], backbone(waves, part)[0], rtol=0, atol=1e-5)


@pytest.mark.skipif(not packable(torch.bfloat16), reason="no bfloat16 on this processor")
@pytest.mark.parametrize("name", ["hubert", "wavlm", "data2vec", "whisper", "conformer_rel"])
@pytest.mark.parametrize("products", [True, False], ids=["products", "kernel"])
def test_in_bfloat16_it_is_no_farther_from_float32_than_the_backbone(name, products, tmp_path, monkeypatch):
    attended = []
    monkeypatch.setattr(attention, "pays", lambda dtype: not attended.append(dtype) and products)
    backbone, other = backbones(tmp_path / "model", name, pad="none", dtype=torch.bfloat16)
    exact = backbones(tmp_path / "model", name, pad="none")[0]
    waves, lengths = batch(backbone, 8 if name != "data2vec" else 1)
    true, plain = exact(waves, lengths)[0], backbone(waves, lengths)[0]
    packed = place(other, CPU)(waves, lengths)[0]
    assert error(packed, true) <= error(plain, true) * 1.1
    assert error(plain, true) > 0
    assert attended == [torch.bfloat16] * checkpoints.LAYERS


def test_positions_and_gelu_are_computed_packed(tmp_path):
    """hubert's one positional convolution, data2vec's three; GELU once in every layer."""
    for name, convolutions in (("hubert", 1), ("data2vec", 3), ("whisper", 0)):
        _, backbone = backbones(tmp_path / name, name)
        place(backbone, CPU)
        modules = list(backbone.encoder.modules())
        assert sum(isinstance(module, ChannelsLast) for module in modules) == convolutions
        activated = [module for module in modules if isinstance(module, PackedLinear) and module.activation == "gelu"]
        assert len(activated) == checkpoints.LAYERS


def test_where_nothing_can_be_packed_the_backbone_stays(tmp_path, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    _, backbone = backbones(tmp_path, "hubert")
    place(backbone, CPU)
    assert not any(isinstance(module, PackedLinear) for module in backbone.encoder.modules())
    assert not packable(torch.float16)


def test_every_projection_is_one_matrix_product(tmp_path):
    """As in transformers: for weights without gradients PyTorch would multiply WavLM's inputs clip by clip."""
    config = checkpoints.write(tmp_path / "model", "wavlm")
    run = place(load_backbone(config, WindowConfig()), CPU)
    model, waves = checkpoints.reference(tmp_path / "model", "wavlm"), torch.randn(2, 4_000)

    def products(extract) -> int:
        with torch.no_grad(), torch.profiler.profile() as profiler:
            extract()
        return sum(event.name == "aten::bmm" for event in profiler.events())

    assert products(lambda: run(waves, torch.tensor([4_000, 4_000]))) <= products(lambda: model(waves))
