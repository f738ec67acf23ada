"""Parakeet's encoder from a CTC model: features and frames are held against transformers' own, clip by clip."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import parakeet
import pytest
import torch
import transformers
from encoders import check_batch, ragged
from parakeet import DIM, LAYERS

from emoshare.backbones.auto import settle
from emoshare.backbones.base import load_backbone
from emoshare.core.config import WindowConfig
from emoshare.core.errors import EmoshareError

NATIVE = WindowConfig(pad="none", normalize="checkpoint")


def reference(folder: Path, wave: torch.Tensor):
    model = transformers.ParakeetForCTC.from_pretrained(folder).eval()
    extractor = transformers.ParakeetFeatureExtractor.from_pretrained(folder)
    inputs = extractor(wave.numpy(), sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        return model.encoder(**inputs, output_hidden_states=True)


def test_clips_of_a_batch_equal_transformers_on_each_alone(tmp_path):
    config = settle(parakeet.write(tmp_path / "model"), NATIVE)
    assert (config.type, config.dim, config.layers) == ("parakeet_encoder", DIM, LAYERS)
    backbone = load_backbone(config, NATIVE)
    assert (backbone.identity["class"], backbone.identity["frames_per_second"]) == ("ParakeetEncoder", 12.5)
    waves, lengths = ragged(16_000, 5_123, 1_040, 9_999, 400)
    counts = check_batch(
        backbone, waves, lengths, lambda wave: reference(tmp_path / "model", wave).last_hidden_state[0]
    )
    states = reference(tmp_path / "model", waves[0]).hidden_states
    count = int(counts[0])
    found = load_backbone(replace(config, layer="weighted"), NATIVE)(waves[:1])[0]
    torch.testing.assert_close(found, torch.stack(states, 2).flatten(2)[:, :count], rtol=0, atol=2e-5)
    found = load_backbone(replace(config, layer="1"), NATIVE)(waves[:1])[0]
    torch.testing.assert_close(found, states[1][:, :count], rtol=0, atol=2e-5)


def test_half_precision_training_and_other_features(tmp_path):
    config, wave = parakeet.write(tmp_path / "model"), torch.randn(1, 9_600) * 0.1
    true, half = (load_backbone(config, NATIVE, kind)(wave)[0] for kind in (torch.float32, torch.bfloat16))
    assert half.dtype == torch.bfloat16
    assert (half.float() - true).square().mean().sqrt() < 0.05 * true.square().mean().sqrt()
    assert load_backbone(config, NATIVE).frame_counts(np.array([400])).tolist() == [1]
    backbone = load_backbone(replace(config, frozen=False), NATIVE).train()
    backbone(wave)[0].square().mean().backward()
    with pytest.raises(EmoshareError, match=r"specaugment=true: parakeet_encoder has none; set it to false"):
        load_backbone(replace(config, frozen=False, specaugment=True), NATIVE)
    transformers.ParakeetFeatureExtractor(feature_size=40).save_pretrained(config.path)
    with pytest.raises(EmoshareError, match=r"its preprocessor file is of other features \(feature_size is 40\)"):
        load_backbone(config, NATIVE)
