"""A new backbone is a module with a function `load`: here one that gives a vector per clip."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from extraction import make_corpus
from torch import nn

from emoshare.backbones import base
from emoshare.backbones.base import Backbone, identify, load_backbone, one_frame
from emoshare.backbones.extractor import resolve
from emoshare.core.config import BackboneConfig, Config, ExtractConfig, WindowConfig
from emoshare.core.errors import EmoshareError
from emoshare.data.audio import read
from emoshare.data.window import Window
from emoshare.store.clips import Clips
from emoshare.store.extract import frames_of

CPU = torch.device("cpu")


class Loudness(nn.Module):
    """Mean and greatest absolute sample of each clip: (B, N) → (B, 1, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()))

    def forward(self, waves, lengths):
        clips = [wave[:n].abs() * self.scale for wave, n in zip(waves, lengths.tolist(), strict=True)]
        return torch.stack([torch.stack([c.mean(), c.max()]) for c in clips])[:, None], torch.ones_like(lengths)

    def facts(self):
        return {"class": "Loudness", "version": 1, "dim": 2}


def load(config, window, dtype, seed, cache):
    encoder = Loudness()
    return Backbone(encoder, identify(config, window, encoder.facts(), encoder), config.frozen, one_frame)


@pytest.fixture
def registered(monkeypatch):
    module = ModuleType("emoshare.backbones.loudness")
    module.load = load
    monkeypatch.setitem(sys.modules, "emoshare.backbones.loudness", module)


def section(**changes) -> BackboneConfig:
    return BackboneConfig(**{"name": "loud", "path": "loudness", "type": "loudness", "dim": 2, "layers": 0, **changes})


@pytest.mark.parametrize("pad", ["zeros", "none"])
def test_a_vector_per_clip_is_stored_and_read(tmp_path, registered, pad):
    corpus, window = make_corpus(tmp_path / "wav", 12), WindowConfig(seconds=0.15, pad=pad)
    config = Config(backbone=section(), window=window, extract=ExtractConfig(precision="float32"))
    cut = Window.of(window)
    store = frames_of(Clips.of_corpus(corpus, cut), resolve(config, CPU, tmp_path), tmp_path)
    frames, lengths = store.gather(np.arange(12))
    assert frames.shape == (12, 1, 2)
    assert lengths.tolist() == [1] * 12
    for row, file in enumerate(corpus.files):
        wave = np.abs(cut.cut(read(corpus.path(file))))
        heard = np.pad(wave, (0, max(400 - len(wave), 0)))  # no clip is shorter than a frame
        np.testing.assert_allclose(frames[row, 0].numpy(), [heard.mean(), heard.max()], rtol=1e-6)
    again = frames_of(Clips.of_corpus(corpus, cut), resolve(config, CPU, tmp_path), tmp_path)
    assert not again.computed
    assert store.recipe.compute == "float32"


def test_it_stays_in_float32_and_frozen(registered):
    backbone = load_backbone(section(), WindowConfig(), torch.bfloat16).bfloat16()
    assert backbone.encoder.scale.dtype == torch.float32
    assert not backbone.train().training
    assert backbone(torch.ones(2, 800))[0].shape == (2, 1, 2)


def test_another_dim_than_the_config_says(registered):
    with pytest.raises(EmoshareError, match=r"backbone\.dim=3: loud gives 2 features"):
        load_backbone(section(dim=3), WindowConfig())


@pytest.mark.parametrize("kind", ["wisper", "hubrt", "base", "../x", "engine"])
def test_an_unknown_type_names_those_that_there_are(kind):
    with pytest.raises(EmoshareError, match=rf"^backbone\.type={kind}: must be one of .*hubert, logmel, .*wav2vec2"):
        load_backbone(section(type=kind), WindowConfig())


def test_types_are_the_modules_that_load():
    assert {"wav2vec2", "hubert", "wavlm", "unispeech-sat", "logmel", "deepspectrum"} <= set(base.types())
    assert not {"ssl", "base", "engine", "extractor", "checkpoint"} & set(base.types())
