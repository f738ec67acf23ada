"""Omnilingual ASR's encoder, of a CTC model and inside one with a language model, against transformers."""

from dataclasses import replace
from pathlib import Path

import inner
import pytest
import torch
import transformers
from encoders import shake

from emoshare.backbones.auto import settle
from emoshare.backbones.base import load_backbone
from emoshare.backbones.kinds.encoder import Options as Encoder
from emoshare.core.config import WindowConfig
from emoshare.core.errors import EmoshareError
from emoshare.data.window import frame_count

NATIVE = WindowConfig(pad="none", normalize="checkpoint")
DIM, LAYERS = 32, 3
SIZES = {
    "hidden_size": DIM, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": 48,
    "conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip


def write(folder: Path, kind: str) -> Encoder:
    torch.manual_seed(0)
    text = {"text_config": {"model_type": "llama"} | inner.TEXT} if kind == "omniasr" else {"vocab_size": 20}
    stem, task = {"omniasr": ("OmniASRConfig", "OmniASRForConditionalGeneration")}.get(
        kind, ("OmniASRCTCConfig", "OmniASRForCTC")
    )
    model = getattr(transformers, task)(getattr(transformers, stem)(audio_config=SIZES, **text)).eval()
    shake(model)
    model.save_pretrained(folder)
    transformers.OmniASRFeatureExtractor().save_pretrained(folder)
    return Encoder(path=str(folder), type="auto")


def reference(folder: Path, kind: str, wave: torch.Tensor):
    task = "OmniASRForConditionalGeneration" if kind == "omniasr" else "OmniASRForCTC"
    model = getattr(transformers, task).from_pretrained(folder).eval()
    tower = next(module for name, module in model.named_modules() if name.endswith("audio_tower"))
    inputs = transformers.OmniASRFeatureExtractor.from_pretrained(folder)(wave.numpy(), sampling_rate=16_000)
    with torch.no_grad():
        return tower(**inputs, output_hidden_states=True)


@pytest.mark.parametrize("kind", ["omniasr", "omniasr_ctc"])
def test_clips_of_a_batch_equal_transformers_on_each_alone(kind, tmp_path):
    config = write(tmp_path / "model", kind)
    settled = settle(config, NATIVE)
    assert (settled.type, settled.dim, settled.layers, settled.conv_norm) == ("omniasr_audio", DIM, LAYERS, "layer")
    backbone = load_backbone(settled, NATIVE)
    assert (backbone.identity["class"], backbone.identity["normalize"]) == ("OmniASRAudioModel", True)
    lengths = torch.tensor([9_000, 3_123, 400, 4_999])
    waves = torch.full((4, 9_000), torch.nan)
    for row, n in enumerate(lengths.tolist()):
        waves[row, :n] = torch.randn(n) * 0.01 + 0.002
    frames, counts = backbone(waves, lengths)
    for wave, n, clip, count in zip(waves, lengths.tolist(), frames, counts.tolist(), strict=True):
        true = reference(tmp_path / "model", kind, wave[:n])
        assert count == frame_count(n) == true.last_hidden_state.shape[1]
        torch.testing.assert_close(clip[:count], true.last_hidden_state[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(clip[:count], backbone(wave[None, :n])[0][0], rtol=0, atol=1e-5)
        assert not clip[count:].any()
    states = true.hidden_states
    for layer in range(LAYERS + 1):
        found = load_backbone(replace(config, layer=str(layer)), NATIVE)(waves[3:, :4_999])[0]
        torch.testing.assert_close(found, states[layer], rtol=0, atol=1e-5)
    found = load_backbone(replace(config, layer="weighted"), NATIVE)(waves[3:, :4_999])[0]
    torch.testing.assert_close(found, torch.stack(states, 2).flatten(2), rtol=0, atol=1e-5)


def test_it_has_no_specaugment(tmp_path):
    config = replace(write(tmp_path / "model", "omniasr_ctc"), frozen=False, specaugment=True)
    with pytest.raises(EmoshareError, match=r"backbone\.specaugment=true: omniasr_audio has none; set it to false"):
        load_backbone(config, NATIVE)
    backbone = load_backbone(replace(config, specaugment=False), NATIVE).train()
    backbone(torch.randn(1, 6_000))[0].square().mean().backward()
