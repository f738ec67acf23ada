"""A backbone of the user's own that gives a vector per clip, in the store; and the types that there are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from extraction import make_corpus
from sections import backbone
from torch import nn

from emoshare.backbones.base import load_backbone
from emoshare.backbones.extractor import resolve
from emoshare.backbones.families import FAMILIES
from emoshare.core.config import Config, ExtractConfig, WindowConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.kinds import classes
from emoshare.core.typed import fill_options
from emoshare.data.audio import read
from emoshare.data.window import Window
from emoshare.store.clips import Clips
from emoshare.store.extract import frames_of

CPU = torch.device("cpu")


class Loudness(nn.Module):
    """Mean and greatest absolute sample of each clip: (B, N) → (B, 1, 2)."""

    width = 2

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()))

    def frame_counts(self, samples):
        return np.ones_like(samples)

    def forward(self, waves, lengths):
        clips = [wave[:n].abs() * self.scale for wave, n in zip(waves, lengths.tolist(), strict=True)]
        return torch.stack([torch.stack([c.mean(), c.max()]) for c in clips])[:, None], torch.ones_like(lengths)


def section():
    return fill_options("backbone", {"_target_": f"{__name__}.Loudness", "name": "loud"}, "test", asked=True)


@pytest.mark.parametrize("pad", ["zeros", "none"])
def test_a_vector_per_clip_is_stored_and_read(tmp_path, pad):
    corpus, window = make_corpus(tmp_path / "wav", 12), WindowConfig(seconds=0.15, pad=pad)
    config = Config(backbone=section(), window=window, extract=ExtractConfig(precision="float32"))
    cut = Window.of(window, {"step": 1})
    store = frames_of(Clips.of_corpus(corpus, cut), resolve(config.frames, CPU, tmp_path), tmp_path)
    frames, lengths = store.gather(np.arange(12))
    assert frames.shape == (12, 1, 2)
    assert lengths.tolist() == [1] * 12
    for row, file in enumerate(corpus.files):
        wave = np.abs(cut.cut(read(corpus.path(file))))
        least = cut.samples if pad == "zeros" else 400  # no clip is shorter than a frame
        heard = np.pad(wave, (0, max(least - len(wave), 0)))
        np.testing.assert_allclose(frames[row, 0].numpy(), [heard.mean(), heard.max()], rtol=1e-6)
    again = frames_of(Clips.of_corpus(corpus, cut), resolve(config.frames, CPU, tmp_path), tmp_path)
    assert not again.computed
    assert store.recipe.compute == "float32"


def test_it_stays_in_float32_and_frozen():
    loaded = load_backbone(section(), WindowConfig(), torch.bfloat16).bfloat16()
    assert loaded.encoder.scale.dtype == torch.float32
    assert not loaded.train().training
    assert loaded(torch.ones(2, 800))[0].shape == (2, 1, 2)


@pytest.mark.parametrize("kind", ["wisper", "hubrt", "base", "../x", "engine"])
def test_an_unknown_type_names_those_that_there_are(kind):
    with pytest.raises(EmoshareError, match=rf"^backbone\.type={kind}: must be one of .*hubert, logmel, .*wav2vec2"):
        load_backbone(backbone(kind, name="x", path="tiny", dim=64, layers=3), WindowConfig())


def test_each_type_is_one_class():
    found = classes("backbone")
    assert {"encoder", "logmel", "deepspectrum", "concat", "opensmile", "audeep"} <= set(found)
    assert {"wav2vec2", "hubert", "wavlm", "unispeech-sat", "whisper"} <= set(found["encoder"].types)
    assert all(backbone(name).type == name for name in found if name != "encoder")


def test_every_type_of_transformers_audio_classification_is_taken():
    from transformers.models.auto.modeling_auto import MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES as NAMES

    assert len(NAMES) == 12
    assert set(NAMES) <= set(FAMILIES)


def test_the_page_of_encoders_has_every_family():
    page = (Path(__file__).parents[2] / "docs/encoders.md").read_text(encoding="utf-8")
    assert [kind for kind in FAMILIES if f"\n| {kind} " not in page] == []
