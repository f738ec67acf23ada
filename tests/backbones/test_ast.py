"""The Audio Spectrogram Transformer: frames are held against the patches of transformers' own, clip by clip."""

from dataclasses import replace
from pathlib import Path

import pytest
import spectrogram
import torch
import transformers
from encoders import check_batch, ragged
from spectrogram import DIM, LAYERS

from emoshare.backbones.auto import settle
from emoshare.backbones.base import load_backbone
from emoshare.core.config import WindowConfig
from emoshare.core.errors import EmoshareError

NATIVE = WindowConfig(seconds=2, pad="none", normalize="checkpoint")


def reference(folder: Path, wave: torch.Tensor) -> list[torch.Tensor]:
    """Hidden states, then the last one, as means over frequency: 12 patches of 128 bands."""
    model = transformers.ASTForAudioClassification.from_pretrained(folder).audio_spectrogram_transformer.eval()
    extractor = transformers.ASTFeatureExtractor.from_pretrained(folder)
    inputs = extractor(wave.numpy(), sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        found = model(**inputs, output_hidden_states=True)
    return [s[0, 2:].unflatten(0, (12, -1)).mean(0) for s in (*found.hidden_states, found.last_hidden_state)]


def test_clips_of_a_batch_equal_transformers_on_each_alone(tmp_path):
    config = settle(spectrogram.write(tmp_path / "model"), NATIVE)
    assert (config.type, config.dim, config.layers) == ("audio-spectrogram-transformer", DIM, LAYERS)
    backbone = load_backbone(config, NATIVE)
    assert (backbone.identity["class"], backbone.identity["frames_per_second"]) == ("ASTModel", 10)
    waves, lengths = ragged(16_000, 5_123, 2_900, 400)
    counts = check_batch(backbone, waves, lengths, lambda wave: reference(tmp_path / "model", wave)[-1])
    states, count = reference(tmp_path / "model", waves[0])[:-1], int(counts[0])
    for layer in range(LAYERS + 1):
        found = load_backbone(replace(config, layer=str(layer)), NATIVE)(waves[:1])[0]
        torch.testing.assert_close(found[0], states[layer][:count], rtol=0, atol=2e-5)
    found = load_backbone(replace(config, layer="weighted"), NATIVE)(waves[:1])[0]
    torch.testing.assert_close(found[0], torch.stack(states, 1).flatten(1)[:count], rtol=0, atol=2e-5)


def test_what_it_does_not_take(tmp_path):
    config = spectrogram.write(tmp_path / "model")
    with pytest.raises(EmoshareError, match=r"window\.seconds=3: model hears 2\.575 s at most"):
        load_backbone(config, replace(NATIVE, seconds=3))
    with pytest.raises(EmoshareError, match=r"specaugment=true: audio-spectrogram-transformer has none"):
        load_backbone(replace(config, frozen=False, specaugment=True), NATIVE)
    backbone = load_backbone(replace(config, frozen=False), NATIVE).train()
    backbone(torch.randn(1, 9_600))[0].square().mean().backward()
