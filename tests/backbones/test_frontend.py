"""The channels-last front end is held against transformers' own, module by module."""

import copy

import pytest
import torch

from emoshare.backbones import frontend
from emoshare.backbones.frontend import FrontEnd, accelerate


def own(norm: str, bias: bool, width: int = 24, activation: str = "gelu") -> torch.nn.Module:
    from transformers import Wav2Vec2Config
    from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2FeatureEncoder

    torch.manual_seed(1)
    config = Wav2Vec2Config(
        conv_dim=[width] * 7, feat_extract_norm=norm, conv_bias=bias, feat_extract_activation=activation
    )
    features = Wav2Vec2FeatureEncoder(config).eval().requires_grad_(False)
    for name, parameter in features.named_parameters():
        parameter.add_(torch.randn_like(parameter) * (0.2 if "norm" in name else 0.1))
    return features


def voice(clips: int, samples: int) -> torch.Tensor:
    """Low-pass noise with an offset, of different loudness: like speech, hard for variances."""
    waves = torch.randn(clips, samples).cumsum(1)
    waves = waves - waves.mean(1, keepdim=True)
    return waves / waves.abs().amax(1, keepdim=True) * torch.linspace(0.05, 0.7, clips)[:, None] + 0.01


def relative(found: torch.Tensor, true: torch.Tensor) -> float:
    return float((found - true).abs().max() / true.abs().max())


@pytest.mark.parametrize("samples", [400, 719, 720, 1041, 24_123])
@pytest.mark.parametrize(("norm", "bias"), [("layer", True), ("layer", False), ("group", False), ("group", True)])
def test_equals_transformers(norm, bias, samples):
    features = own(norm, bias)
    waves = voice(3, samples)
    found = accelerate(features)(waves)
    assert found.shape == features(waves).shape
    assert relative(found, features(waves)) < 1e-5


@pytest.mark.parametrize("norm", ["layer", "group"])
def test_stretches_leave_no_seams(norm, monkeypatch):
    features = own(norm, True)
    waves = voice(2, 9_999)
    monkeypatch.setattr(frontend, "STRETCH", {"cpu": 24 * 64 * 4 * 3})  # three frames at a time
    assert relative(accelerate(features)(waves), features(waves)) < 1e-5


@pytest.mark.parametrize("norm", ["layer", "group"])
def test_silence_is_finite(norm):
    features = own(norm, False)
    waves = torch.zeros(2, 4_000)
    torch.testing.assert_close(accelerate(features)(waves), features(waves), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", ["layer", "group"])
def test_bfloat16_is_no_farther_from_float32_than_transformers(norm):
    features, waves = own(norm, False, width=64), voice(2, 16_000)
    half = copy.deepcopy(features).bfloat16()
    true = features(waves)
    theirs = (half(waves.bfloat16()).float() - true).square().mean().sqrt()
    ours = (accelerate(half)(waves.bfloat16()).float() - true).square().mean().sqrt()
    assert ours <= theirs * 1.02


def test_float64_shows_that_only_rounding_differs():
    features, waves = own("group", True).double(), voice(2, 5_000).double()
    assert relative(accelerate(features)(waves), features(waves)) < 1e-12


def test_takes_views_of_other_tensors():
    features = own("layer", True)
    waves = voice(4, 12_000)[1:3, 17:8_000]
    assert relative(accelerate(features)(waves), features(waves)) < 1e-5


@pytest.mark.parametrize("change", ["relu", "padding", "norm", "empty"])
def test_unknown_architectures_are_left_as_they_are(change):
    features = own("layer", True, activation="relu" if change == "relu" else "gelu")
    if change == "padding":
        features.conv_layers[2].conv.padding = (1,)
    if change == "norm":
        features.conv_layers[3].layer_norm = torch.nn.BatchNorm1d(24)
    if change == "empty":
        features = torch.nn.Identity()
    assert accelerate(features) is features
    assert isinstance(accelerate(own("layer", True)), FrontEnd)


@pytest.mark.parametrize("cut", [0, 399, 400, 5_555, 5_760, 11_999, 12_000])
@pytest.mark.parametrize("norm", ["layer", "group"])
def test_a_silent_end_is_computed_once(norm, cut, monkeypatch):
    """Equal to transformers' frames of the whole window, and constant where a frame sees the padding alone."""
    features, waves = own(norm, True), voice(3, 12_000)
    waves[:, cut:] = 0.0
    waves[1, cut // 2 :] = 0.25  # another value, and earlier
    front, seen = accelerate(features), []
    monkeypatch.setattr(front.first, "forward", lambda *a, f=front.first.forward: seen.append(a[0].shape[1]) or f(*a))
    found = front(waves)
    assert found.shape == features(waves).shape
    assert relative(found, features(waves)) < 1e-5
    for clip, end in zip(found, (cut, cut // 2, cut), strict=True):
        silent = clip[:, -(-end // 320) :]
        assert (silent == silent[:, :1]).all()
    assert max(seen) <= min(cut + 320 + 400, 12_000)
    assert frontend.settling_sample(waves) <= cut


def test_sound_that_is_not_a_number_is_not_taken_for_silence():
    features, waves = own("layer", True), voice(1, 4_000)
    waves[:, 2_000:] = float("nan")
    assert accelerate(features)(waves).isnan().any(1)[0, -1]
