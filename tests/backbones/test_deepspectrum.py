"""DeepSpectrum's picture against formulas written out in numpy, its CNN against transformers' own output."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sections import backbone

from emoshare.backbones import deepspectrum
from emoshare.backbones.deepspectrum import DeepSpectrum, MelPicture, load_encoder
from emoshare.backbones.kinds.encoder import Options as Encoder
from emoshare.core.errors import EmoshareError

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def write_resnet(folder: Path, preprocessor: bool = True) -> Encoder:
    """A tiny ResNet classifier in the hub's format, with batch norms that are not at their defaults."""
    import transformers

    torch.manual_seed(0)
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="bottleneck")
    model = transformers.ResNetForImageClassification(config)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor) * (0.5 if "running_var" in name else 0.1))
    model.eval().save_pretrained(folder)
    if preprocessor:
        text = json.dumps({"do_normalize": True, "image_mean": MEAN, "image_std": STD})
        (folder / "preprocessor_config.json").write_text(text)
    return backbone("deepspectrum", name="deepspectrum", path=str(folder), dim=16)


def edit(folder: Path, change: Any) -> None:
    """Rewrite the checkpoint's tensors: `change` takes their dict and returns another."""
    from safetensors.torch import load_file, save_file

    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", metadata={"format": "pt"})


def clip(samples: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    tone = np.sin(2 * np.pi * np.cumsum(np.linspace(200, 3000, samples)) / 16_000)
    return torch.tensor(0.3 * tone + 0.01 * rng.normal(size=samples), dtype=torch.float32)


def draw(*waves: torch.Tensor) -> torch.Tensor:
    """Clips (N,) of equal length → pictures (B, 3, 224, 224)."""
    return MelPicture()(torch.stack(waves), torch.tensor([len(wave) for wave in waves]))


def slaney(hertz: np.ndarray) -> np.ndarray:
    """Slaney's mel scale (Auditory Toolbox): linear to 1 kHz, then 27 steps per factor 6.4."""
    high = 15 + 27 * np.log(np.maximum(hertz, 1) / 1000) / np.log(6.4)
    return np.where(hertz < 1000, hertz * 3 / 200, high)


def reference_decibels(wave: np.ndarray) -> np.ndarray:
    """(N,) → (128, T): librosa's melspectrogram (its defaults, no centring) and power_to_db, written out in loops."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    starts = range(0, len(wave) - 511, 256)
    power = np.stack([np.abs(np.fft.rfft(wave[s : s + 512] * window)) ** 2 for s in starts], 1)  # (257, T)
    grid = np.linspace(0, 8000, 80_001)
    corners = np.interp(np.linspace(0, slaney(np.array(8000.0)), 130), slaney(grid), grid)
    bins, bank = np.arange(257) * 16_000 / 512, np.zeros((128, 257))
    for band in range(128):
        low, middle, high = corners[band : band + 3]
        triangle = np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle))
        bank[band] = np.maximum(triangle, 0) * 2 / (high - low)
    mel = np.maximum(bank @ power, 1e-10)
    return 10 * np.log10(mel / mel.max())


def test_the_spectrogram_is_the_one_of_the_formulas() -> None:
    wave = clip(5000)
    ours = MelPicture().decibels(wave[None], torch.ones(1, 1 + (5000 - 512) // 256, dtype=torch.bool))[0].T.numpy()
    theirs = reference_decibels(wave.double().numpy())
    assert ours.shape == theirs.shape == (128, 1 + (5000 - 512) // 256)
    loud = theirs > -60  # below, float32 and the filters' rounded corners show
    assert loud.mean() > 0.3
    np.testing.assert_allclose(ours[loud], theirs[loud], atol=0.05)
    np.testing.assert_allclose(ours, theirs, atol=0.5)


def test_colours_are_those_of_matplotlib() -> None:
    import matplotlib

    values = np.concatenate([np.random.default_rng(0).uniform(0, 1, 500), [0.0, 1.0]]).astype(np.float32)
    theirs = matplotlib.colormaps["viridis"](values.reshape(2, 251))[::-1, :, :3]
    ours = MelPicture().paint(torch.from_numpy(values.reshape(2, 251)).T[None])[0]
    np.testing.assert_allclose(ours.permute(1, 2, 0).numpy(), theirs, atol=1e-6)


@pytest.mark.parametrize("width", [3, 100, 224, 230, 343])
def test_pictures_are_resized_as_pytorch_does_it(width: int) -> None:
    picture = torch.rand(1, 3, 128, width)
    theirs = torch.nn.functional.interpolate(picture, (224, 224), mode="bilinear", antialias=True)
    across = deepspectrum.resizing(torch.tensor([width]), 400, 224)  # of a picture that others are wider than
    down = deepspectrum.resizing(torch.tensor([128]), 128, 224)
    ours = down @ torch.nn.functional.pad(picture, (0, 400 - width)) @ across.transpose(1, 2)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_low_frequencies_are_at_the_bottom_and_time_runs_to_the_right() -> None:
    time = torch.arange(16_000) / 16_000
    low = torch.sin(2 * torch.pi * 200 * time) * (time < 0.5)
    (picture,) = draw(low + 1e-4 * torch.randn(16_000, generator=torch.Generator().manual_seed(0)))
    bright = picture.sum(0)  # viridis grows brighter
    row, column = divmod(int(bright.argmax()), 224)
    assert row > 180
    assert column < 112
    high = torch.sin(2 * torch.pi * 7000 * time) * (time >= 0.5)
    bright = draw(high + 1e-4 * torch.randn(16_000, generator=torch.Generator().manual_seed(0)))[0].sum(0)
    row, column = divmod(int(bright.argmax()), 224)
    assert row < 40
    assert column >= 112


@pytest.mark.parametrize("samples", [0, 100, 511, 512, 768, 40_000])
def test_any_clip_gives_a_finite_picture(samples: int) -> None:
    (picture,) = draw(clip(samples) if samples else torch.zeros(1000))
    assert picture.shape == (3, 224, 224)
    assert picture.isfinite().all()
    assert 0 <= picture.min() <= picture.max() <= 1
    if not samples:
        assert (picture.flatten(1).std(1) < 1e-6).all()


def test_features_are_transformers_own_pooled_output(tmp_path: Path) -> None:
    import transformers

    encoder = load_encoder(write_resnet(tmp_path))
    waves, lengths = torch.stack([clip(20_000), clip(20_000, 1)]), torch.tensor([20_000, 20_000])
    with torch.no_grad():
        frames, counts = encoder(waves, lengths)
        model = transformers.ResNetModel.from_pretrained(tmp_path).eval()
        pixels = (draw(*waves) - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
        theirs = model(pixel_values=pixels).pooler_output
    assert frames.shape == (2, 1, 16)
    assert encoder.dim == 16
    assert counts.tolist() == [1, 1]
    torch.testing.assert_close(frames[:, 0], theirs[:, :, 0, 0], rtol=0, atol=1e-6)
    assert (frames[0] - frames[1]).abs().max() > 1e-4


def test_neither_batch_nor_order_nor_padding_matters(tmp_path: Path) -> None:
    encoder = load_encoder(write_resnet(tmp_path))
    sizes = [20_000, 700, 9_000]
    waves = torch.stack([torch.nn.functional.pad(clip(n, i), (0, 20_000 - n)) for i, n in enumerate(sizes)])
    with torch.no_grad():
        together, _ = encoder(waves, torch.tensor(sizes))
        backwards, _ = encoder(waves.flip(0), torch.tensor(sizes[::-1]))
        alone = torch.cat([encoder(clip(n, i)[None], torch.tensor([n]))[0] for i, n in enumerate(sizes)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    torch.testing.assert_close(together, backwards.flip(0), rtol=0, atol=1e-6)


def test_half_precision_is_not_taken(tmp_path: Path) -> None:
    encoder = load_encoder(write_resnet(tmp_path)).to(torch.bfloat16)
    assert {tensor.dtype for tensor in encoder.parameters()} == {torch.float32}


def test_facts_name_what_the_features_depend_on(tmp_path: Path) -> None:
    config = write_resnet(tmp_path / "a")
    facts = load_encoder(config).facts()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["class"] == "ResNetModel"
    assert facts["picture"]["image_mean"] == MEAN
    assert load_encoder(write_resnet(tmp_path / "b")).facts() == facts  # not the folder
    edit(
        tmp_path / "b", lambda t: {k: v + 0.01 if k.endswith("layer.1.normalization.bias") else v for k, v in t.items()}
    )
    changed = load_encoder(backbone("deepspectrum", name="x", path=str(tmp_path / "b"), dim=16)).facts()
    assert {key for key in facts if facts[key] != changed[key]} == {"weights"}


def test_a_random_control_depends_on_the_seed_alone(tmp_path: Path) -> None:
    config = write_resnet(tmp_path)
    trained = load_encoder(config).facts()["weights"]
    config.pretrained = False
    weights = [load_encoder(config, seed).facts()["weights"] for seed in (0, 0, 1)]
    assert weights[0] == weights[1] != weights[2]
    assert trained not in weights


def test_a_random_resnet50_needs_no_hub() -> None:
    config = backbone("deepspectrum", path="microsoft/resnet-50")
    config.pretrained, config.parameters = False, 23_508_032
    encoder = load_encoder(config)
    assert encoder.dim == 2048
    assert encoder.statistics == deepspectrum.IMAGENET


@pytest.mark.parametrize("stem", ["ConvNext", "RegNet", "MobileNetV2"])
def test_other_cnns_of_the_hub(tmp_path: Path, stem: str) -> None:
    import transformers

    sizes: dict[str, dict[str, Any]] = {
        "ConvNext": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
        "RegNet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "groups_width": 8},
        "MobileNetV2": {"depth_multiplier": 0.1},
    }
    model = getattr(transformers, f"{stem}ForImageClassification")(
        getattr(transformers, f"{stem}Config")(**sizes[stem])
    )
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    config = backbone("deepspectrum", name="cnn", path=str(tmp_path))
    config.dim = None  # any
    encoder = load_encoder(config)
    assert isinstance(encoder, DeepSpectrum)
    with torch.no_grad():
        frames, _ = encoder(clip(8000)[None], torch.tensor([8000]))
    assert frames.shape == (1, 1, encoder.dim)
    assert encoder.statistics["image_std"] == [1.0] * 3


def test_what_is_wrong_with_a_checkpoint_is_said_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = write_resnet(tmp_path)
    with caplog.at_level(logging.DEBUG, "emoshare"):
        load_encoder(config)
    assert "dropped 2 tensors of other tasks: classifier.1.bias" in caplog.text

    def refused(change: dict[str, Any], words: str) -> None:
        with pytest.raises(EmoshareError, match=words) as caught:
            load_encoder(replace(config, **change))
        assert "\n" not in str(caught.value)

    refused({"dim": 32}, r"backbone.dim=32: .* has 16; set backbone.dim=16")
    refused({"parameters": 7}, r"backbone.parameters=7: .* set backbone.parameters=\d+")
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.5]}')
    refused({}, r"preprocessor_config.json: image_mean is \[0.5\], not three numbers")
    (tmp_path / "preprocessor_config.json").unlink()
    refused({}, "has no preprocessor_config.json at hand")
    name = "resnet.encoder.stages.0.layers.0.layer.0.convolution.weight"
    edit(tmp_path, lambda tensors: {k: v for k, v in tensors.items() if k != name})
    (tmp_path / "preprocessor_config.json").write_text("{}")
    refused({}, "is without 1 encoder tensors: encoder.stages.0.layers.0.layer.0.convolution.weight")
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | {"model_type": "vit"}))
    refused({}, "model_type is vit; deepspectrum takes one of resnet, ")
