"""What config, checkpoint, corpus and machine tell is told before anything is computed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import checkpoints
import pytest
import torch

from emoshare.backbones.layers import SpecAugment
from emoshare.command.compose import compose_one
from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError, NotAtHandError
from emoshare.runs.resolved import ResolvedRun
from emoshare.training.ready import check_ready
from emoshare.training.train import train_resolved

RANDOM = "backbone.pretrained=false"
WHISPER = ("backbone=whisper_tiny", RANDOM)
TRAINED = ("backbone=tiny", "backbone.frozen=false")
MASKED = (*TRAINED, "backbone.specaugment=true")


@pytest.fixture
def made(small, tmp_path, monkeypatch):
    """Overrides → the config of a run that takes seconds, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return lambda *more: compose_one([*small, *more])


def refused(config: Config, *words: str) -> None:
    """All the words are in the error, and nothing was written but an empty cache and what is known of the corpus."""
    with pytest.raises(EmoshareError) as error:
        check_ready([ResolvedRun(config)])
    for word in words:
        assert word in str(error.value)
    assert not (Path(config.paths.cache) / "frames").exists()
    assert not Path(config.paths.outputs).exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["backbone=audeep", "backbone.units=8"], ["backbone.dim=4096", "8 units gives 128 features"]),
        (["backbone=audeep", "backbone.path=."], ["no recipe.json in it", "name a folder of auDeep's"]),
        (["backbone=prosody", "backbone.dim=10"], ["backbone.dim=10", "83 features"]),
        (["backbone=deepspectrum", RANDOM, "backbone.dim=9"], ["backbone.dim=9", "2048"]),
        (["backbone=tiny", "backbone.dim=50"], ["backbone.dim=50", "can be built", "divisible"]),
        (["backbone=tiny", "backbone.layers=5"], ["195,392 parameters, not 128,448"]),
        (["backbone=tiny", "+backbone.architecture.num_attention_heads=5"], ["can be built"]),
        ([*WHISPER, "backbone.dim=128"], ["parameters"]),
        ([*WHISPER, "window.seconds=31"], ["window.seconds=31", "30 s at most"]),
        ([*MASKED, "window.seconds=0.15"], ["masks 10 frames at a time", "0.15 s has 7", "0.205 or more"]),
        ([*MASKED, "window=native", "window.seconds=0.2"], ["0.2 s has 9"]),
        ([*WHISPER, *MASKED[1:], "window.seconds=0.09"], ["0.09 s has 9", "0.1 or more"]),
        ([*TRAINED, "backbone.trainable_layers=9"], ["tiny has 3 layers"]),
        ([*TRAINED, "backbone.layer=2", "backbone.trainable_layers=3"], ["tiny has 2 layers"]),
        (["backbone=opensmile", "window.seconds=0.05"], ["at least 0.06 s"]),
        (["data.batch_size=29"], ["data.batch_size=29", "28 clips"]),
        (["trainer.precision=transformer-engine"], ["transformer_engine", "use auto"]),
        (["trainer.accelerator=cpu", "trainer.precision=16-mixed"], ["too slow on a CPU"]),
        (["trainer.accelerator=cpu", "extract.compute=float16"], ["extract.compute=float16"]),
        (["backbone=concat", "backbone.parts=[tiny,prosody]"], ["window.pad=zeros", "set window.pad to none"]),
        (["backbone=concat", "backbone.parts=[tiny,{name: prosody, dim: 8}]", "window=native"], ["83 features"]),
        (
            ["backbone=concat", "backbone.parts=[tiny,prosody]", "window=native", "window.crop=center"],
            ["window.crop=center", "set window.crop to start"],
        ),
    ],
)
def test_a_mistake_is_told_before_anything_is_computed(made, monkeypatch, more, words) -> None:
    plain = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "opensmile" or plain(name))
    refused(made(*more), *words)


@pytest.mark.parametrize(
    ("more", "package", "extra"),
    [([*TRAINED, "backbone.lora=4"], "peft", "lora"), (["logger=tensorboard"], "tensorboard", "tensorboard")],
)
def test_a_missing_package_is_told(made, monkeypatch, more, package, extra) -> None:
    plain = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name.startswith(package) else plain(name))
    refused(made(*more), f"emoshare[{extra}]")


def test_what_is_not_at_hand_fails_no_other_run_and_is_told_at_once(made, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    asked = [made("backbone=opensmile"), made(), made("backbone=hubert_large", "window=native")]
    [note] = check_ready(list(map(ResolvedRun, asked)))
    assert note.startswith("not at hand: backbone opensmile")
    assert "pip install" in note


def test_a_head_that_could_not_be_saved_is_not_trained(small, tmp_path, monkeypatch) -> None:
    plain = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "skops" else plain(name))
    monkeypatch.chdir(tmp_path)
    keys = [line for line in small if not line.startswith("trainer.epochs")]
    config = compose_one([*keys, "head=sklearn", "head.estimator={_target_: sklearn.linear_model.Ridge}"])
    monkeypatch.setattr("emoshare.training.source.open", lambda *_: pytest.fail("it has begun"))
    for checked in (False, True):
        with pytest.raises(NotAtHandError, match=r"head=sklearn: skops .* `pip install \"emoshare\[skops\]\"`"):
            train_resolved(ResolvedRun(config), checked=checked)


def test_a_checkpoints_own_values_are_told(made, tmp_path) -> None:
    section = checkpoints.write(tmp_path / "mine", "hubert")
    keys = ["backbone=hubert_large", f"backbone.path={section.path}", "backbone.parameters=null"]
    with pytest.raises(EmoshareError, match=r"hidden_size is 32, but backbone\.dim=1024"):
        check_ready([ResolvedRun(made(*keys))])
    (tmp_path / "mine/config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(EmoshareError, match="model_type is bert"):
        check_ready([ResolvedRun(made(*keys))])


def test_all_runs_are_checked_and_each_mistake_told_once(made) -> None:
    configs = [made(f"seed={seed}", *more) for seed in (0, 1) for more in ([], ["backbone=prosody", "backbone.dim=1"])]
    configs.append(made("data.batch_size=40"))
    with pytest.raises(EmoshareError) as error:
        check_ready(list(map(ResolvedRun, configs)))
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("accumulate_grad_batches=0", "a whole number of at least 1"), ("gradient_clip_algorithm=foo", "norm or value"),
        ("profiler=foo", "simple, advanced or pytorch"), ("gradient_clip_val=abc", "a number of at least 0"),
        ("benchmark=maybe", "true or false"),
    ],
)  # fmt: skip
def test_values_of_lightnings_options_are_checked(made, option, words) -> None:
    with pytest.raises(EmoshareError, match=rf"trainer\.options\.{option}: must be {words}"):
        made(f"+trainer.options.{option}")


def test_a_support_vector_regression_needs_stored_frames(made) -> None:
    for more in ("backbone.cache=false", "window.crop=random"):
        with pytest.raises(EmoshareError, match=r"head\.name=svr: it is fitted on stored frames"):
            made("head=svr", more)


@pytest.mark.parametrize("time", [1, 2])
def test_clips_with_fewer_frames_than_are_masked_together_keep_them(time) -> None:
    """As under window.pad=none, where a batch may hold short clips alone."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model, WhisperModel

    config = Wav2Vec2Config(hidden_size=32, mask_time_prob=0.9, mask_time_length=10, mask_feature_prob=0.0)
    kind, method = ((Wav2Vec2Model, "_mask_hidden_states"), (WhisperModel, "_mask_input_features"))[time - 1]
    augment = SpecAugment(config, getattr(kind, method), torch.nn.Parameter(torch.full((32,), 9.0)), time).train()
    for frames in (9, 30):
        hidden = torch.ones(2, frames, 32) if time == 1 else torch.ones(2, 32, frames)
        assert bool((augment(hidden.clone(), None) == hidden).all()) == (frames < 10)


def test_the_oddities_of_a_corpus_are_told_once_a_sweep(emoshare, small, corpus_root, tmp_path) -> None:
    import shutil

    shutil.copytree(corpus_root, tmp_path / "odd")
    (tmp_path / "odd/wav/unlisted.wav").write_bytes(next((corpus_root / "wav").iterdir()).read_bytes())
    keys = [key for key in small if not key.startswith("data.root")] + [f"data.root={tmp_path / 'odd'}"]
    result = emoshare("train", "-m", *keys, "seed=0,1", "sweep.parallel=1", "trainer.epochs=1")
    assert result.status == 0, result.err
    assert result.out.count("`emoshare check` says which") == 1
    logs = list(tmp_path.glob("outputs/default/*/run.log"))
    assert ["`emoshare check` says which" in log.read_text() for log in logs] == [True, True]
