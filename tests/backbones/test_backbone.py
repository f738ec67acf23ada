"""Frames are held against transformers' own model and feature extractor; broken checkpoints must be refused."""

import http.server
import json
import logging
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import checkpoints
import emotion2vec
import numpy as np
import pytest
import torch
import yaml
from checkpoints import DIM, FAMILIES, LAYERS, MASKED
from composed import config as composed_config
from composed import on_cpu
from sections import backbone

from emoshare.backbones import architecture, families, ssl
from emoshare.backbones.auto import settle
from emoshare.backbones.base import Backbone, load_backbone
from emoshare.backbones.kinds.encoder import Options as Encoder
from emoshare.backbones.logmel import LogMel
from emoshare.bench import extraction_speed
from emoshare.core.config import Config, WindowConfig
from emoshare.core.errors import EmoshareError, NotAtHandError
from emoshare.core.schema import MISSING
from emoshare.data.window import frame_count

PAPER = WindowConfig(pad="zeros", normalize="none")
NATIVE = WindowConfig(pad="none", normalize="checkpoint")
FAMILIES_KNOWN = families.FAMILIES
CONF = Path(__file__).parents[2] / "conf" / "backbone"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """`library(family)`: its config, the checkpoint written once; read only."""
    root = tmp_path_factory.mktemp("library")
    configs = {}

    def get(name: str) -> Encoder:
        if name not in configs:
            configs[name] = checkpoints.write(root / name, name)
        return replace(configs[name])

    return get


@pytest.fixture
def copied(library, tmp_path):
    """`copied(family)`: a checkpoint that the test may spoil."""

    def copy(name: str) -> Encoder:
        config = library(name)
        shutil.copytree(config.path, tmp_path / "model")
        return replace(config, path=str(tmp_path / "model"))

    return copy


def built_in(name: str, **keys) -> Encoder:
    return backbone(**(yaml.safe_load((CONF / f"{name}.yaml").read_text()) | keys))


def clips(*samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips of different loudness and offset, zeros after each: (B, N), (B,)."""
    waves = torch.zeros(len(samples), max(samples))
    for row, n in enumerate(samples):
        waves[row, :n] = torch.randn(n) * 0.05 * (row + 1) + 0.02
    return waves, torch.tensor(samples)


def spoil(config: Encoder, change) -> None:
    checkpoints.edit(Path(config.path), change)


def rewrite(config: Encoder, file: str, **keys) -> None:
    path = Path(config.path) / file
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def feature_extractor(waves, samples, mask):
    from transformers import Wav2Vec2FeatureExtractor

    own = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=mask)
    raw = [wave[:n].numpy() for wave, n in zip(waves, samples.tolist(), strict=True)]
    return own(raw, sampling_rate=16_000, padding=True, return_tensors="pt")


# ---- the same frames as transformers ----


@pytest.mark.parametrize("name", FAMILIES)
def test_paper_recipe_equals_transformers(name, library):
    config = library(name)
    waves, lengths = clips(8_000, 3_000, 400)
    backbone = load_backbone(config, PAPER)
    frames, counts = backbone(waves, lengths)
    with torch.no_grad():
        true = checkpoints.reference(Path(config.path), name)(waves).last_hidden_state
    torch.testing.assert_close(frames, true, rtol=0, atol=2e-5)
    assert counts.tolist() == [frame_count(8_000)] * 3
    assert (backbone.padded, backbone.equal_lengths, backbone.width, backbone.states) == (True, False, DIM, 1)
    assert backbone.identity["class"] == FAMILIES[name].stem + "Model"


@pytest.mark.parametrize("name", MASKED)
def test_native_recipe_equals_transformers_with_its_feature_extractor(name, library):
    config = library(name)
    waves, lengths = clips(8_000, 3_123, 400)
    frames, counts = load_backbone(config, NATIVE)(waves, lengths)
    with torch.no_grad():
        inputs = feature_extractor(waves, lengths, mask=True)
        true = checkpoints.reference(Path(config.path), name)(**inputs).last_hidden_state
    assert counts.tolist() == [frame_count(n) for n in (8_000, 3_123, 400)]
    for clip, count, theirs in zip(frames, counts, true, strict=True):
        torch.testing.assert_close(clip[:count], theirs[:count], rtol=0, atol=2e-5)
        assert not clip[count:].any()


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("name", FAMILIES)
def test_clips_of_a_batch_equal_transformers_on_each_alone(name, frozen, library):
    """Whatever padding does to transformers' own, and wherever a clip ends between two frames."""
    config = replace(library(name), frozen=frozen)
    backbone = load_backbone(config, NATIVE).eval()
    assert not backbone.equal_lengths
    waves, lengths = clips(5_000, 3_123, 400, 2_999)
    waves[1, 3_123:] = torch.nan  # whatever lies there
    reference = checkpoints.reference(Path(config.path), name)
    with torch.no_grad():
        frames, counts = backbone(waves, lengths)
        for wave, n, clip, count in zip(waves, lengths, frames, counts.tolist(), strict=True):
            inputs = feature_extractor(wave[None], n[None], mask=False)
            if FAMILIES[name].type.startswith("sew") and count == 1:  # transformers takes two frames at least
                assert not clip.any()
                continue
            true = reference(**inputs).last_hidden_state[0]
            assert count == len(true) == frame_count(int(n))
            torch.testing.assert_close(clip[:count], true, rtol=0, atol=2e-5)
            assert not clip[count:].any()


@pytest.mark.parametrize("name", FAMILIES)
def test_transformers_own_mask_keeps_padding_out_of_some_families_alone(name, library):
    """A clip alone, and with padding and a mask: why the others' convolutions and norms are masked here."""
    model = checkpoints.reference(Path(library(name).path), name)
    waves = torch.zeros(1, 9_000)
    waves[0, :4_240] = torch.randn(4_240) * 0.1
    mask = (torch.arange(9_000) < 4_240).long()[None]
    with torch.no_grad():
        alone = model(waves[:, :4_240]).last_hidden_state
        padded = model(waves, attention_mask=mask).last_hidden_state[:, : alone.shape[1]]
    assert ((padded - alone).abs().max() < 1e-4) == (name in MASKED)


@pytest.mark.parametrize("name", [*FAMILIES, "tiny", "logmel"])
def test_a_clip_alone_equals_the_clip_in_a_batch(name, library):
    config = built_in(name) if name in ("tiny", "logmel") else library(name)
    backbone = load_backbone(config, NATIVE)
    waves, lengths = clips(9_000, 400, 4_321)
    waves[1, 400:] = torch.nan  # whatever lies there
    frames, counts = backbone(waves, lengths)
    for wave, n, clip, count in zip(waves, lengths, frames, counts, strict=True):
        alone, alone_count = backbone(wave[None, :n])
        assert alone_count.tolist() == [count] == [frame_count(int(n))]
        torch.testing.assert_close(clip[:count], alone[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["hubert", "wav2vec2_group"])
def test_padded_windows_are_normalised_over_speech(name, library):
    config = library(name)
    waves, lengths = clips(6_000, 2_500)
    backbone = load_backbone(config, WindowConfig(pad="zeros", normalize="checkpoint"))
    with torch.no_grad():
        inputs = feature_extractor(waves, lengths, mask=True).input_values  # without its mask it counts the padding in
        true = checkpoints.reference(Path(config.path), name)(inputs).last_hidden_state
    torch.testing.assert_close(backbone(waves, lengths)[0], true, rtol=0, atol=2e-5)
    assert torch.isfinite(backbone(torch.zeros(1, 6_000), torch.tensor([0]))[0]).all()


@pytest.mark.parametrize(
    "name",
    ["hubert", "wavlm", "wavlm_group", "unispeech_sat", "data2vec", "conformer_rope", "conformer_rel", "sew", "sew_d"],
)
def test_layers_are_transformers_hidden_states(name, library):
    config = library(name)
    waves, lengths = clips(5_000, 5_000)
    with torch.no_grad():
        true = checkpoints.reference(Path(config.path), name)(waves, output_hidden_states=True).hidden_states
    if name.startswith("sew"):  # inside, a state stands for two frames; a last single one has none
        count = frame_count(5_000)
        true = [torch.nn.functional.pad(s.repeat_interleave(2, 1), (0, 0, 0, 1))[:, :count] for s in true]
    for index in range(LAYERS + 1):
        backbone = load_backbone(replace(config, layer=str(index)), PAPER)
        torch.testing.assert_close(backbone(waves, lengths)[0], true[index], rtol=0, atol=2e-5)
        assert len(backbone.encoder.transformer.layers) == index  # the work above is saved
    backbone = load_backbone(replace(config, layer="weighted"), PAPER)
    assert (backbone.states, backbone.width) == (LAYERS + 1, DIM * (LAYERS + 1))
    for _ in range(2):
        frames, _ = backbone(waves, lengths)
        torch.testing.assert_close(frames.unflatten(2, (LAYERS + 1, DIM)), torch.stack(true, 2), rtol=0, atol=2e-5)
    with pytest.raises(EmoshareError, match=r"backbone\.layer=4: .* has the layers 0 to 3"):
        load_backbone(replace(config, layer="4"), PAPER)


@pytest.mark.parametrize("name", ["hubert", "wavlm", "legacy", "data2vec", "conformer_rope", "conformer_rel"])
def test_half_precision_is_as_near_as_transformers(name, library):
    config = library(name)
    waves, lengths = clips(8_000, 8_000)
    with torch.no_grad():
        true = checkpoints.reference(Path(config.path), name)(waves).last_hidden_state
        half = checkpoints.reference(Path(config.path), name, torch.bfloat16)(waves.bfloat16()).last_hidden_state
    frames, _ = load_backbone(config, PAPER, torch.bfloat16)(waves, lengths)
    assert frames.dtype == torch.bfloat16
    assert (frames.float() - true).square().mean() < 1.3 * (half.float() - true).square().mean()
    logmel = load_backbone(built_in("logmel"), PAPER, torch.bfloat16)
    true = logmel(waves)[0]
    assert true.dtype == torch.float32  # it has no half precision
    torch.testing.assert_close(logmel.bfloat16()(waves)[0], true, rtol=0, atol=0)
    assert logmel(waves.bfloat16())[0].dtype == torch.float32


def test_slow_front_end_gives_the_same(library):
    waves, lengths = clips(8_000, 8_000)
    arguments = (library("hubert"), PAPER, torch.float32, 0, Path("unused"))
    fast, slow = (ssl.load(*arguments, fast=fast)(waves, lengths)[0] for fast in (True, False))
    torch.testing.assert_close(fast, slow, rtol=0, atol=2e-5)


def test_logmel_is_the_log_of_mel_filtered_spectra():
    """From the definition: periodic Hann, |DFT|², triangles on the HTK mel scale, one frame per 20 ms."""
    backbone = load_backbone(built_in("logmel"), PAPER)
    wave = torch.randn(1, 4_000)
    frames, counts = backbone(wave)
    assert frames.shape == (1, frame_count(4_000), 80)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    hertz = np.linspace(0, 8_000, 201)
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8_000 / 700), 82) / 2595) - 1)
    for t in (0, 5, int(counts[0]) - 1):
        power = np.abs(np.fft.rfft(wave[0, t * 320 : t * 320 + 400].double().numpy() * hann)) ** 2
        for band in (0, 17, 79):
            low, peak, high = edges[band : band + 3]
            triangle = np.clip(np.minimum((hertz - low) / (peak - low), (high - hertz) / (high - peak)), 0, None)
            assert triangle.any()
            assert abs(float(frames[0, t, band]) - np.log(triangle @ power + 1e-6)) < 1e-3


@pytest.mark.parametrize(("samples", "frames"), [(400, 1), (512, 1), (719, 1), (720, 2), (88_000, 274), (96_000, 299)])
def test_frame_count(samples, frames):
    assert frame_count(samples) == frames
    if samples < 1_000:
        assert load_backbone(built_in("tiny"), PAPER)(torch.zeros(1, samples))[0].shape[1] == frames
        assert load_backbone(built_in("logmel"), PAPER)(torch.zeros(1, samples))[0].shape[1] == frames


def test_too_short_is_said(library):
    with pytest.raises(ValueError, match="at least 400 samples"):
        load_backbone(library("hubert"), PAPER)(torch.zeros(1, 399))
    with pytest.raises(ValueError, match="at least 400 samples"):
        load_backbone(library("hubert"), NATIVE)(torch.zeros(2, 900), torch.tensor([900, 399]))


# ---- frozen, or not ----


def test_frozen_stays_frozen(library):
    backbone = load_backbone(library("hubert"), PAPER)
    torch.nn.Sequential(backbone).train()
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not any("parametrizations" in name for name, _ in backbone.named_parameters())
    waves, lengths = clips(3_000)
    frames = backbone(waves, lengths)[0]
    assert not frames.requires_grad
    torch.nn.Linear(DIM, 1)(frames).sum().backward()  # a head can learn from them
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(backbone(waves, lengths)[0], frames, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["hubert", "wav2vec2_group", "data2vec", "conformer_rope", "conformer_rel"])
def test_unfrozen_learns_without_specaugment(name, library):
    backbone = load_backbone(replace(library(name), frozen=False), PAPER)
    backbone.train()
    assert backbone.encoder.transformer.training
    for module in backbone.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(module, torch.nn.BatchNorm1d):
            module.momentum = 0.0  # of a conformer; it goes on as it was loaded
        if isinstance(getattr(module, "dropout", None), float):  # that attention hands on as a number
            module.dropout = 0.0  # type: ignore[assignment]
    backbone.encoder.transformer.config.attention_dropout = 0.0
    waves, lengths = clips(6_000)
    frames, again = (backbone(waves, lengths)[0] for _ in range(2))
    torch.testing.assert_close(frames, again, rtol=0, atol=1e-6)  # nothing is masked at random
    frames.square().mean().backward()
    silent = [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert [name for name in silent if "k_proj.bias" not in name] == []  # softmax ignores a key's constant
    with torch.no_grad():
        true = checkpoints.reference(Path(backbone.identity["path"]), name)(waves).last_hidden_state
    torch.testing.assert_close(backbone.eval()(waves, lengths)[0], true, rtol=0, atol=2e-5)


# ---- identity ----


def test_identity_is_json_and_independent_of_precision_and_chance(library):
    state = torch.random.get_rng_state()
    first = load_backbone(library("hubert"), NATIVE)
    assert torch.equal(state, torch.random.get_rng_state())
    assert first.identity == json.loads(json.dumps(first.identity))
    assert load_backbone(library("hubert"), NATIVE, torch.bfloat16, seed=7).identity == first.identity
    assert first.identity["normalize"] is first.identity["mask"] is True
    assert load_backbone(library("hubert"), PAPER).identity["normalize"] is False
    assert {"name", "path", "class", "type", "revision", "weights", "dim", "layers", "parameters", "conv_norm",
            "normalize", "mask", "pretrained", "layer", "window_normalize"} <= set(first.identity)  # fmt: skip


def test_identity_follows_what_frames_depend_on(copied):
    config = copied("unispeech_sat")
    before = load_backbone(replace(config, layer="1"), PAPER).identity["weights"]
    whole = load_backbone(config, PAPER).identity["weights"]
    spoil(config, lambda t: t | {name: tensor + 1 for name, tensor in t.items() if "quantizer" in name})
    spoil(config, lambda t: t | {name: tensor + 1 for name, tensor in t.items() if "encoder.layers.2." in name})
    assert load_backbone(replace(config, layer="1"), PAPER).identity["weights"] == before
    assert load_backbone(config, PAPER).identity["weights"] != whole
    name = "unispeech_sat.encoder.layers.0.attention.q_proj.bias"
    spoil(config, lambda t: t | {name: torch.nextafter(t[name], torch.tensor(9.0))})
    changed = load_backbone(replace(config, layer="1"), PAPER).identity
    assert changed["weights"] != before
    rewrite(config, "config.json", num_attention_heads=8)  # the same tensors, other frames
    assert load_backbone(replace(config, layer="1"), PAPER).identity != changed


def test_random_encoders(library):
    waves, lengths = clips(4_000)
    config = replace(library("hubert"), pretrained=False)
    first, again, other = (load_backbone(config, PAPER, seed=seed) for seed in (0, 0, 1))
    torch.testing.assert_close(first(waves, lengths)[0], again(waves, lengths)[0], rtol=0, atol=0)
    assert first.identity == again.identity
    assert first.identity["weights"] != other.identity["weights"] != load_backbone(config, PAPER).identity["weights"]
    assert first.identity["parameters"] == load_backbone(library("hubert"), PAPER).identity["parameters"]
    tiny = [load_backbone(built_in("tiny"), PAPER, seed=seed).identity for seed in (0, 1)]
    assert tiny[0] == tiny[1]  # a fixture, not an experiment
    assert load_backbone(built_in("tiny", pretrained=False), PAPER, seed=1).identity["weights"] != tiny[0]["weights"]


# ---- the twelve ----


@pytest.mark.parametrize("file", sorted(CONF.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_sizes_of_the_config_files_make_the_published_parameter_counts(file):
    config = backbone(**yaml.safe_load(file.read_text()))
    assert config.name == file.stem or config.type in ("auto", "concat") or config.path == MISSING
    if config.type in FAMILIES_KNOWN and config.path != MISSING:
        assert config.parameters is not None
        assert architecture.parameters_of(config, architecture.describe(config, None)) == config.parameters


# ---- refused ----


@pytest.mark.parametrize(
    ("name", "stranger"), [("wavlm", "wav2vec2"), ("unispeech_sat", "wav2vec2"), ("hubert", "wavlm")]
)
def test_another_class_is_refused(name, stranger, library):
    with pytest.raises(
        EmoshareError, match=rf"model_type is {FAMILIES[name].type}, but backbone\.type={stranger}; set"
    ):
        load_backbone(replace(library(name), type=stranger), PAPER)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"dim": 64}, r"hidden_size is 32, but backbone\.dim=64; set backbone\.dim=32"),
        ({"layers": 2}, r"num_hidden_layers is 3, but backbone\.layers=2"),
        ({"conv_norm": "group"}, r"feat_extract_norm is layer, but backbone\.conv_norm=group"),
        ({"parameters": 1000}, r"parameters, not 1,000; set backbone\.parameters="),
        ({"normalize": False}, r"do_normalize is true, but backbone\.normalize=false"),
    ],
)
def test_what_the_config_says_is_held_against_the_checkpoint(keys, message, library):
    with pytest.raises(EmoshareError, match=message):
        load_backbone(replace(library("hubert"), **keys), PAPER)


@pytest.mark.parametrize(
    ("window", "needed"),
    [
        (PAPER, []),
        (WindowConfig(pad="zeros", normalize="checkpoint"), ["normalize"]),
        (WindowConfig(pad="none", normalize="none"), []),
        (NATIVE, ["normalize"]),
    ],
)
def test_without_a_preprocessor_file_the_config_must_say(window, needed, copied):
    config = copied("hubert")
    (Path(config.path) / "preprocessor_config.json").unlink()
    for key in needed:
        with pytest.raises(EmoshareError, match=rf"no preprocessor_config.json.*set backbone\.{key}=true or false"):
            load_backbone(config, window)
        config = replace(config, **{key: False})
    backbone = load_backbone(config, window)
    assert not backbone.normalize


def test_a_random_encoder_does_not_depend_on_what_is_cached(hub, library):
    """Without a preprocessor file its policy must be told, rather than be the one that another machine finds."""
    config = replace(library("hubert"), path="org/model", pretrained=False)
    with pytest.raises(EmoshareError, match=r"`hf download org/model preprocessor_config\.json`.*backbone\.normalize="):
        load_backbone(config, NATIVE)
    told = [load_backbone(replace(config, path=p, normalize=True), NATIVE) for p in ("org/model", "tiny")]
    assert all((backbone.normalize, backbone.identity["mask"]) == (True, True) for backbone in told)


def test_the_benchmark_needs_no_preprocessor_file(hub, monkeypatch):
    section, seen = built_in("tiny", normalize=None, parameters=None), []
    config = Config(backbone=section, window=NATIVE)
    none = extraction_speed.Candidate("none", torch.float32, problem="not timed")
    monkeypatch.setattr(extraction_speed, "candidates", lambda config, section, *_: seen.append(section) or [none])
    for named in (section, replace(section, path="org/model"), composed_config("backbone=logmel").backbone):
        config.backbone = named
        extraction_speed.extraction_speed(on_cpu(config), 4_000)
        assert load_backbone(replace(seen[-1]), NATIVE).identity["mask"] is True


def test_missing_tensors_are_named(copied):
    config = copied("wavlm")
    spoil(
        config,
        lambda t: {name: v for name, v in t.items() if "rel_attn_embed" not in name and "feed_forward" not in name},
    )
    with pytest.raises(EmoshareError, match=r"is without .* encoder tensors: .*\.layers\.0\..* and \d+ more"):
        load_backbone(config, PAPER)


def test_other_shapes_are_named(copied):
    config = copied("hubert")
    spoil(config, lambda t: t | {"feature_projection.projection.bias": torch.zeros(7)})
    with pytest.raises(
        EmoshareError, match=r"another shape 1 .*feature_projection\.projection\.bias \(\(7,\), not \(32,\)"
    ):
        load_backbone(config, PAPER)


def test_tensors_without_a_place_are_named(copied):
    """WavLM's tensors behind wav2vec 2.0's name: transformers drops the position bias without a word."""
    config = copied("wavlm")
    rewrite(config, "config.json", model_type="wav2vec2")
    with pytest.raises(EmoshareError, match=r"has no place in Wav2Vec2Model for .*gru_rel_pos"):
        load_backbone(replace(config, type="wav2vec2"), PAPER)


def test_heads_of_other_tasks_are_dropped_with_a_line(library, caplog):
    config = library("audeering")
    with caplog.at_level(logging.DEBUG, "emoshare"):
        load_backbone(config, PAPER)
    assert "dropped 3 tensors of other tasks: classifier.dense.bias, classifier.dense.weight" in caplog.text
    assert "masked_spec_embed" not in caplog.text


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", None, r"no config\.json in it"),
        ("config.json", "{", r"config\.json: not readable"),
        ("config.json", "[]", r"config\.json: not readable \(not a JSON object"),
        ("model.safetensors", None, r"weights can't be read"),
        ("model.safetensors", "not tensors", r"weights can't be read"),
        ("preprocessor_config.json", "{", r"preprocessor_config\.json: not readable"),
    ],
)
def test_broken_files_are_one_line(file, content, message, copied):
    config = copied("hubert")
    path = Path(config.path) / file
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(EmoshareError, match=message) as caught:
        load_backbone(config, PAPER)
    assert "\n" not in str(caught.value)


def test_half_a_download_is_refused(copied):
    config = copied("hubert")
    path = Path(config.path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(EmoshareError, match="weights can't be read"):
        load_backbone(config, PAPER)


@pytest.mark.parametrize("path", ["/no/such/folder", "./nowhere", "~/nowhere/else", "a/b/c", "two words", "a/"])
def test_no_such_folder(path, library):
    with pytest.raises(EmoshareError, match=r"no such folder; name a checkpoint's folder or a hub model"):
        load_backbone(replace(library("hubert"), path=path), PAPER)


def test_a_missing_folder_is_not_taken_for_a_hub_name(hub, library, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for pretrained in (True, False):
        with pytest.raises(EmoshareError, match=r"backbone\.path=models/hubert: no such folder; name a checkpoint's"):
            load_backbone(replace(library("hubert"), path="models/hubert", pretrained=pretrained), PAPER)
    with pytest.raises(EmoshareError, match="org/model is no folder, not in the hub cache, and can't be fetched"):
        load_backbone(replace(library("hubert"), path="org/model"), PAPER)


@pytest.mark.parametrize("found", ["mctct", "resnet", "moonshine", "granite_speech", "seamless_m4t_v2", "lasr_ctc"])
def test_another_architecture_says_what_can_be_done(found, copied):
    config = copied("hubert")
    rewrite(config, "config.json", model_type=found)
    taken = "wav2vec2, hubert, wavlm, .*qwen2_audio, voxtral, .*"
    message = rf"config\.json: its model_type is {found}, .* there are {taken}: name a"
    with pytest.raises(EmoshareError, match=message):
        load_backbone(config, PAPER)


# ---- the hub ----


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub's cache of its own, with the network forbidden."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_not_in_the_cache_says_how_to_get_it(hub, library):
    config = replace(library("hubert"), path="facebook/hubert-large-ll60k", revision="v1")
    with pytest.raises(
        EmoshareError, match=r"`hf download facebook/hubert-large-ll60k --revision v1`.*backbone\.path="
    ):
        load_backbone(config, PAPER)
    assert load_backbone(replace(config, pretrained=False), PAPER).identity["commit"] is None


def test_from_the_hub_cache_with_its_commit(hub, library):
    config = library("hubert")
    folder = hub / "models--org--model"
    shutil.copytree(config.path, folder / "snapshots" / COMMIT)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    backbone = load_backbone(replace(config, path="org/model"), PAPER)
    assert backbone.identity["commit"] == COMMIT
    assert backbone.identity["weights"] == load_backbone(config, PAPER).identity["weights"]
    (folder / "snapshots" / COMMIT / "model.safetensors").unlink()
    with pytest.raises(EmoshareError, match="not in the hub cache"):
        load_backbone(replace(config, path="org/model"), PAPER)


@pytest.fixture
def serve(hub, monkeypatch):
    """`serve(folder)`: its files as org/model of a hub on this machine; returns the list of what it is asked for."""
    from huggingface_hub import constants

    servers, asked = [], []

    def start(files: Path) -> list[tuple[str, str]]:
        class Server(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.do_GET(body=False)

            def do_GET(self, body=True):
                file = files / self.path.rsplit("/", 1)[1]
                asked.append((self.command, file.name))
                found = file.is_file()
                content = file.read_bytes() if found else b""
                self.send_response(200 if found else 404)
                for key, value in {
                    "ETag": f'"{file.name}"', "Content-Length": str(len(content)), "X-Repo-Commit": COMMIT,
                    **({} if found else {"X-Error-Code": "EntryNotFound"}),
                }.items():  # fmt: skip
                    self.send_header(key, value)
                self.end_headers()
                if body:
                    self.wfile.write(content)

            def log_message(self, *arguments):
                pass

        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{servers[-1].server_port}"
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        return asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("name", ["hubert", "legacy"])
def test_downloaded_from_a_hub(name, serve, library):
    """The real client against a server on this machine, which has safetensors or only a .bin."""
    config = library(name)
    asked = serve(Path(config.path))
    backbone = load_backbone(replace(config, path="org/model"), NATIVE)
    assert backbone.identity["commit"] == COMMIT
    assert backbone.identity["weights"] == load_backbone(config, NATIVE).identity["weights"]
    asked.clear()
    load_backbone(replace(config, path="org/model"), NATIVE)
    assert asked == []  # what is there is not asked for again


def test_a_hub_name_alone_needs_no_weights_to_be_settled(hub, serve, library, monkeypatch):
    from huggingface_hub import constants

    config = library("audeering")
    asked = serve(Path(config.path))
    by_path = Encoder(path="org/model", type="auto")
    settled = settle(by_path, NATIVE)
    assert settled == replace(config, name="model", path="org/model")
    assert {file for _, file in asked} == {"config.json", "preprocessor_config.json", "adapter_config.json"}
    assert load_backbone(by_path, NATIVE).identity == load_backbone(settled, NATIVE).identity
    asked.clear()
    assert settle(by_path, NATIVE) == settled
    assert asked == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(NotAtHandError, match=r"backbone=other: org/other is no folder, .*`hf download org/other`"):
        settle(Encoder(path="org/other", type="auto"), NATIVE)


def test_emotion2vec_of_a_hub(serve, tmp_path):
    """Which has a config.yaml in place of a config.json, and notes that name the weights."""
    config = emotion2vec.write(tmp_path / "model")
    (tmp_path / "model/model.pt").rename(tmp_path / "model/base.pt")
    (tmp_path / "model/configuration.json").write_text(json.dumps({"file_path_metas": {"init_param": "base.pt"}}))
    asked = serve(tmp_path / "model")
    named = replace(config, path="org/model", type="auto")
    settle(named, NATIVE)
    assert "base.pt" not in {file for _, file in asked}
    identity = load_backbone(named, NATIVE).identity
    assert (identity["commit"], identity["name"]) == (COMMIT, "model")
    assert identity["weights"] == load_backbone(config, NATIVE).identity["weights"]
    asked.clear()
    load_backbone(named, NATIVE)
    assert asked == []


def cached(hub: Path, config: Encoder) -> Encoder:
    """The checkpoint in the hub's cache, as of one who fetched its config and weights alone."""
    folder = hub / "models--org--model"
    shutil.copytree(config.path, folder / "snapshots" / COMMIT)
    (folder / "snapshots" / COMMIT / "preprocessor_config.json").unlink()
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    return replace(config, path="org/model")


def test_a_preprocessor_file_that_nobody_asked_for_is_fetched(hub, serve, library):
    config = library("hubert")
    asked, other = serve(Path(config.path)), cached(hub, config)
    with pytest.raises(EmoshareError, match="do_normalize is true"):
        load_backbone(replace(other, normalize=False), PAPER)
    assert {file for _, file in asked} == {"config.json", "preprocessor_config.json"}
    asked.clear()
    assert load_backbone(other, NATIVE).identity["mask"] is True
    assert asked == []


def test_a_preprocessor_file_that_a_hub_does_not_have_is_asked_for_once(hub, serve, copied):
    config = copied("hubert")
    (Path(config.path) / "preprocessor_config.json").unlink()
    asked, other = serve(Path(config.path)), cached(hub, checkpoints.write(hub.parent / "whole", "hubert"))
    for _ in range(2):
        with pytest.raises(EmoshareError, match=r"run `hf download org/model preprocessor_config\.json` .*, or set"):
            load_backbone(other, NATIVE)
    assert asked.count(("HEAD", "preprocessor_config.json")) == 1


def test_a_cached_checkpoint_needs_no_network(hub, library, monkeypatch):
    from huggingface_hub import constants

    config = cached(hub, library("hubert"))
    load_backbone(config, PAPER)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}")
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it waits to try again"))
    load_backbone(config, PAPER)
    with pytest.raises(EmoshareError, match="hf download org/model"):
        load_backbone(config, NATIVE)


def test_without_a_network_it_fails_at_once(hub, library, monkeypatch):
    """A refused connection, and no retries: the hub's client alone tries for 23 seconds."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}")
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it waits to try again"))
    with pytest.raises(EmoshareError, match="hf download org/model"):
        load_backbone(replace(library("hubert"), path="org/model"), PAPER)


def test_types():
    assert isinstance(load_backbone(built_in("tiny"), PAPER), Backbone)
    assert isinstance(load_backbone(built_in("logmel"), PAPER).encoder, LogMel)
