"""Whisper and w2v-BERT: their features and frames are held against transformers' own, clip by clip."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import checkpoints
import numpy as np
import pytest
import torch
from checkpoints import DIM, LAYERS, MELS
from composed import on_cpu

from emoshare.backbones.auto import settle
from emoshare.backbones.base import load_backbone
from emoshare.backbones.kinds.encoder import Options as Encoder
from emoshare.backbones.spectrum import KaldiSpectrum, WhisperSpectrum
from emoshare.bench.extraction_speed import extraction_speed
from emoshare.core.config import BenchConfig, Config, WindowConfig
from emoshare.core.errors import EmoshareError

PAPER = WindowConfig(seconds=0.5, pad="zeros", normalize="none")
NATIVE = WindowConfig(pad="none", normalize="checkpoint")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """`library(name)`: its config, the checkpoint written once; read only."""
    root, configs = tmp_path_factory.mktemp("library"), {}

    def get(name: str) -> Encoder:
        if name not in configs:
            configs[name] = checkpoints.write_mel(root / name, name)
        return replace(configs[name])

    return get


@pytest.fixture
def copied(library, tmp_path):
    def copy(name: str) -> Encoder:
        config = library(name)
        shutil.copytree(config.path, tmp_path / "model")
        return replace(config, path=str(tmp_path / "model"))

    return copy


def voice(samples: int, seed: int = 0) -> torch.Tensor:
    """Low-pass noise of changing loudness, (N,)."""
    noise = torch.randn(samples, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.avg_pool1d(noise[None], 9, 1, 4)[0]
    return 0.3 * smooth * (1 + torch.sin(torch.arange(samples) / 2_000)) + 0.01


def batch(*waves: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips with garbage after each end, and their lengths."""
    lengths = torch.tensor([len(wave) for wave in waves])
    full = torch.full((len(waves), int(lengths.max())), torch.nan)
    for row, wave in zip(full, waves, strict=True):
        row[: len(wave)] = wave
    return full, lengths


def spoil(config: Encoder, file: str, **keys) -> None:
    path = Path(config.path) / file
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


# ---- features ----


@pytest.mark.parametrize("bands", [80, 128])
def test_whispers_features_are_transformers_own(bands):
    from transformers import WhisperFeatureExtractor

    own = WhisperFeatureExtractor(feature_size=bands)
    waves = [voice(16_000), voice(9_123, 1), torch.zeros(720), voice(400, 2)]
    features, counts = WhisperSpectrum(bands)(*[x.nan_to_num() for x in batch(*waves)])
    for wave, found, frames in zip(waves, features, counts.tolist(), strict=True):
        true = own(wave.numpy(), sampling_rate=16_000, padding="longest", return_tensors="pt").input_features[0]
        assert frames == true.shape[1] == len(wave) // 160
        torch.testing.assert_close(found[:, :frames], true, rtol=0, atol=1e-5)
        assert not found[:, frames:].any()


@pytest.mark.parametrize("bands", [80, 20])
def test_w2v_berts_features_are_transformers_own(bands):
    from transformers import SeamlessM4TFeatureExtractor

    own = SeamlessM4TFeatureExtractor(feature_size=bands, num_mel_bins=bands, padding_value=1)
    waves = [voice(16_000), voice(9_123, 1), voice(720, 3), voice(560, 2)]
    features, counts = KaldiSpectrum(bands)(*[x.nan_to_num() for x in batch(*waves)])
    for wave, found, frames in zip(waves, features, counts.tolist(), strict=True):
        true = own(wave.numpy(), sampling_rate=16_000, return_tensors="pt")
        assert frames == int(true.attention_mask.sum())
        torch.testing.assert_close(found[:frames], true.input_features[0, :frames].float(), rtol=0, atol=1e-4)
        assert not found[frames:].any()


# ---- frames ----


@pytest.mark.parametrize("name", MELS)
def test_clips_of_a_batch_equal_transformers_on_each_alone(name, library):
    config = library(name)
    backbone = load_backbone(config, NATIVE)
    waves = [voice(16_080), voice(5_200, 1), voice(720, 2)]  # 400 + k · 320, as the window cuts them
    frames, counts = backbone(*batch(*waves))
    assert counts.tolist() == backbone.frame_counts(np.array([len(wave) for wave in waves])).tolist()
    assert (backbone.width, backbone.equal_lengths, backbone.padded) == (DIM, False, False)
    for wave, clip, count in zip(waves, frames, counts, strict=True):
        true = checkpoints.mel_reference(Path(config.path), name, wave).last_hidden_state[0]
        torch.testing.assert_close(clip[:count], true[:count], rtol=0, atol=1e-4)
        assert not clip[count:].any()
        alone, alone_count = backbone(wave[None])
        assert alone_count.tolist() == [count]
        torch.testing.assert_close(alone[0], clip[:count], rtol=0, atol=5e-5)


@pytest.mark.parametrize("name", ["whisper", "w2v_bert"])
def test_a_padded_window_is_a_clip_with_zeros_at_its_end(name, library):
    config = library(name)
    backbone = load_backbone(config, PAPER)
    waves = torch.zeros(2, 8_000)
    waves[0], waves[1, :3_000] = voice(8_000), voice(3_000, 1)
    frames, counts = backbone(waves, torch.tensor([8_000, 3_000]))
    assert counts.tolist() == backbone.frame_counts(np.array([8_000, 3_000])).tolist() == [frames.shape[1]] * 2
    assert (backbone.padded, backbone.equal_lengths, backbone.identity["mask"]) == (True, False, False)
    for wave, clip in zip(waves, frames, strict=True):
        true = checkpoints.mel_reference(Path(config.path), name, wave).last_hidden_state[0]
        torch.testing.assert_close(clip, true[: len(clip)], rtol=0, atol=5e-4)


@pytest.mark.parametrize("name", ["whisper", "w2v_bert", "w2v_bert_rope"])
def test_layers_are_transformers_hidden_states(name, library):
    config, wave = library(name), voice(9_040)
    true = checkpoints.mel_reference(Path(config.path), name, wave, output_hidden_states=True).hidden_states
    for index in range(LAYERS + 1):
        backbone = load_backbone(replace(config, layer=str(index)), NATIVE)
        found = backbone(wave[None])[0]
        torch.testing.assert_close(found, true[index][:, : found.shape[1]], rtol=0, atol=1e-4)
        assert len(backbone.encoder.transformer.layers) == index
    backbone = load_backbone(replace(config, layer="weighted"), NATIVE)
    for _ in range(2):
        found = backbone(wave[None])[0]
        wanted = torch.stack(true, 2)[:, : found.shape[1]].flatten(2)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["whisper", "w2v_bert", "w2v_bert_rope"])
def test_half_precision_is_as_near_as_transformers(name, library):
    config, wave = library(name), voice(9_040)
    true = load_backbone(config, NATIVE)(wave[None])[0]
    half = load_backbone(config, NATIVE, torch.bfloat16)
    found = half(wave[None])[0]
    assert found.dtype == torch.bfloat16
    assert half.spectrum.filters.dtype != torch.bfloat16
    assert (found.float() - true).square().mean().sqrt() < 0.02 * true.square().mean().sqrt()


@pytest.mark.parametrize(
    ("name", "samples", "count"), [("whisper", 400, 1), ("w2v_bert", 400, 1), ("w2v_bert", 720, 1)]
)
def test_the_shortest_clips(name, samples, count, library):
    for window in (NATIVE, replace(PAPER, seconds=samples / 16_000)):
        backbone = load_backbone(library(name), window)
        frames, counts = backbone(voice(samples)[None])
        assert frames.shape == (1, count, DIM)
        assert counts.tolist() == backbone.frame_counts(np.array([samples])).tolist() == [count]
        assert frames.isfinite().all()
    with pytest.raises(ValueError, match="at least 400 samples"):
        backbone(torch.zeros(1, 399))


@pytest.mark.parametrize("name", ["whisper", "w2v_bert"])
def test_silence_is_finite(name, library):
    assert load_backbone(library(name), NATIVE)(torch.zeros(2, 4_000))[0].isfinite().all()


def test_what_30_seconds_of_padding_change(library):
    """Not the features, but for the last two, where silence follows instead of the mirrored clip; all frames, as they
    attend to the silence."""
    from transformers import WhisperFeatureExtractor
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    config, wave = library("whisper"), voice(16_080)
    own = WhisperFeatureExtractor.from_pretrained(config.path)
    padded = own(wave.numpy(), sampling_rate=16_000, return_tensors="pt").input_features  # (1, M, 3000)
    features, _ = WhisperSpectrum(20)(wave[None], torch.tensor([len(wave)]))
    torch.testing.assert_close(features[..., :-2], padded[..., : features.shape[2] - 2], rtol=0, atol=1e-5)
    tensors = checkpoints.load(Path(config.path))
    tensors = {k.removeprefix("model.encoder."): t for k, t in tensors.items() if k.startswith("model.encoder.")}
    model = WhisperEncoder(checkpoints.whisper_config(Path(config.path))).eval()
    model.load_state_dict(tensors)
    with torch.no_grad():
        theirs = model(padded).last_hidden_state
    frames, [count] = load_backbone(config, NATIVE)(wave[None])
    assert (frames - theirs[:, :count]).abs().max() > 0.1
    whole, _ = load_backbone(config, replace(PAPER, seconds=30))(
        torch.nn.functional.pad(wave, (0, 480_000 - 16_080))[None]
    )
    torch.testing.assert_close(whole, theirs, rtol=0, atol=1e-4)  # a window of 30 s is what transformers computes


@pytest.mark.parametrize("name", ["whisper", "w2v_bert"])
def test_the_benchmark_times_it(name, library):
    section = replace(library(name), parameters=None)
    config = Config(backbone=section, window=PAPER, bench=BenchConfig(repeats=1, clips=2))
    found = extraction_speed(on_cpu(config), 8_000)
    rows = found["extraction"]
    assert rows["transformers float32"]["seconds"]
    assert rows["transformers float32, from samples"]["seconds"]
    assert next(row for key, row in rows.items() if key.startswith("emoshare"))["seconds"]
    assert all(row["flops"] > 0 and (row["problem"] or row["gemm_fraction"]) for row in rows.values())


# ---- training ----


@pytest.mark.parametrize("name", ["whisper", "w2v_bert"])
@pytest.mark.parametrize("augmented", [False, True])
def test_it_can_be_trained(name, augmented, library):
    config = replace(library(name), frozen=False, specaugment=augmented, layerdrop="0.0")
    backbone = load_backbone(config, NATIVE).train()
    for module in backbone.modules():
        for key in ("dropout", "activation_dropout", "attention_dropout"):
            if isinstance(getattr(module, key, None), float):
                setattr(module, key, 0.0)
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    wave = voice(9_040)[None]
    torch.manual_seed(1)
    frames, again = (backbone(wave)[0] for _ in range(2))
    assert torch.equal(frames, again) is not augmented
    frames.square().mean().backward()
    silent = [key for key, p in backbone.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert [key for key in silent if not key.endswith(("linear_k.bias", "masked_spec_embed"))] == []
    plain = load_backbone(library(name), NATIVE)(wave)[0]
    torch.testing.assert_close(backbone.eval()(wave)[0], plain, rtol=0, atol=1e-5)


def test_layerdrop_leaves_layers_out(library):
    backbone = load_backbone(replace(library("whisper"), frozen=False, layerdrop="0.999"), NATIVE)
    states = load_backbone(replace(library("whisper"), layer="weighted"), NATIVE)(voice(4_000)[None])[0]
    for module in backbone.train().modules():
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0  # type: ignore[assignment]
    found = backbone(voice(4_000)[None])[0]
    torch.testing.assert_close(
        found, backbone.encoder.transformer.layer_norm(states[..., :DIM]), rtol=0, atol=1e-5
    )  # fmt: skip


# ---- checkpoints as they lie on disk ----


@pytest.mark.parametrize("name", MELS)
def test_by_path_alone(name, library):
    whole = library(name)
    settled = settle(Encoder(path=whole.path, type="auto"), NATIVE)
    assert settled == replace(whole, name=Path(whole.path).name)


@pytest.mark.parametrize("name", ["whisper", "w2v_bert"])
def test_without_a_preprocessor_file_nothing_is_missing(name, copied):
    config = copied(name)
    before = load_backbone(config, NATIVE).identity
    (Path(config.path) / "preprocessor_config.json").unlink()
    assert load_backbone(config, NATIVE).identity == before


def test_half_precision_weights_sharded_weights_and_a_bin_file(copied, tmp_path, monkeypatch):
    from transformers import WhisperForConditionalGeneration

    config = copied("whisper")
    folder = Path(config.path)
    model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float16)
    whole = load_backbone(config, NATIVE)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="30KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    shards = load_backbone(config, NATIVE)
    for file in folder.glob("model*"):
        file.unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    pickled = load_backbone(config, NATIVE)
    assert shards.identity == pickled.identity
    wave = voice(8_080)[None]
    frames = shards(wave)[0]
    assert frames.dtype == torch.float32
    torch.testing.assert_close(frames, whole(wave)[0], rtol=0, atol=0.05)
    assert not torch.equal(frames, whole(wave)[0])


def test_the_decoder_is_left_where_it_is(library, caplog):
    with caplog.at_level(logging.DEBUG, "emoshare"):
        backbone = load_backbone(library("whisper"), NATIVE)
    assert "dropped 52 tensors of other tasks: model.decoder" in caplog.text
    assert len(caplog.text) < 400
    assert not any("decoder" in key for key, _ in backbone.named_parameters())


@pytest.mark.parametrize(("name", "part"), [("whisper", "layers.1.fc1.weight"), ("w2v_bert_ctc", "layers.1.ffn1")])
def test_missing_and_strange_tensors_are_named(name, part, copied):
    config = copied(name)
    folder = Path(config.path)
    tensors = checkpoints.load(folder)
    key = next(key for key in tensors if f"encoder.{part}" in key)
    checkpoints.edit(folder, lambda t: {k: v for k, v in t.items() if k != key})
    with pytest.raises(EmoshareError, match=rf"is without 1 encoder tensors: .*{part}"):
        load_backbone(config, NATIVE)
    checkpoints.edit(folder, lambda t: t | {key: tensors[key], key + "2": torch.zeros(2)})
    with pytest.raises(EmoshareError, match=r"has no place in \w+ for 1 encoder tensors"):
        load_backbone(config, NATIVE)


def test_windows_longer_than_whispers_positions_are_refused(library):
    with pytest.raises(EmoshareError, match=r"window\.seconds=31: whisper hears 30 s at most; set it to that"):
        load_backbone(library("whisper"), replace(NATIVE, seconds=31))
    assert load_backbone(library("whisper"), replace(PAPER, seconds=30))(voice(480_000)[None])[0].shape[1] == 1500


@pytest.mark.parametrize(("name", "keys"), [("whisper", {"feature_size": 80}), ("w2v_bert", {"stride": 4})])
def test_features_of_another_kind_are_refused(name, keys, copied):
    config = copied(name)
    spoil(config, "preprocessor_config.json", **keys)
    [(key, value)] = keys.items()
    with pytest.raises(EmoshareError, match=rf"its preprocessor file is of other features \({key} is {value}\)"):
        load_backbone(config, NATIVE)
