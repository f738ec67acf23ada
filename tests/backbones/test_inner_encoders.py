"""Encoders inside audio language models: frames are held against those of transformers' whole models, clip by clip."""

import json
from dataclasses import replace
from pathlib import Path

import inner
import numpy as np
import peak
import pytest
import torch
from encoders import check_batch, ragged
from inner import DIM, LAYERS, MODELS

from emoshare.backbones.auto import settle
from emoshare.backbones.base import load_backbone
from emoshare.backbones.kinds.encoder import Options as Encoder
from emoshare.core.config import WindowConfig
from emoshare.core.errors import EmoshareError

NATIVE = WindowConfig(pad="none", normalize="checkpoint")
POOLED = ("qwen2_audio", "audioflamingo3")
SECOND = {"qwen2_audio": 25, "audioflamingo3": 25, "qwen3_asr": 13}  # frames of it, where they are not 50


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    root, configs = tmp_path_factory.mktemp("library"), {}

    def get(kind: str) -> Encoder:
        if kind not in configs:
            configs[kind] = inner.write(root / kind, kind)
        return replace(configs[kind])

    return get


def clips(*samples: int) -> list[torch.Tensor]:
    noise = torch.Generator().manual_seed(0)
    return [torch.randn(n, generator=noise) * 0.1 + 0.01 for n in samples]


@pytest.mark.parametrize("kind", MODELS)
def test_clips_of_a_batch_equal_transformers_on_each_alone(kind, library):
    config = library(kind)
    backbone = load_backbone(config, NATIVE)
    waves = clips(16_000, 5_200, 720, 9_600)
    lengths = torch.tensor([len(wave) for wave in waves])
    full = torch.full((4, 16_000), torch.nan)
    for row, wave in zip(full, waves, strict=True):
        row[: len(wave)] = wave
    frames, counts = backbone(full, lengths)
    assert counts.tolist() == backbone.frame_counts(lengths.numpy()).tolist()
    assert (backbone.width, backbone.equal_lengths) == (DIM, False)
    for wave, clip, count in zip(waves, frames, counts.tolist(), strict=True):
        alone = backbone(wave[None])[0][0]
        torch.testing.assert_close(clip[:count], alone, rtol=0, atol=1e-5)
        assert not clip[count:].any()
        if len(wave) // 160 % 2 == 0:  # transformers' model takes pairs of mel frames alone
            true = inner.reference(Path(config.path), kind, wave).last_hidden_state[0]
            assert count == len(true)
            torch.testing.assert_close(alone, true, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_layers_are_transformers_hidden_states(kind, library):
    config, [wave] = library(kind), clips(9_600)
    true = list(inner.reference(Path(config.path), kind, wave).hidden_states)
    if kind in POOLED:
        true[:-1] = [state.unflatten(1, (-1, 2)).mean(2) for state in true[:-1]]  # as the last one is made of pairs
    for index in range(LAYERS + 1):
        found = load_backbone(replace(config, layer=str(index)), NATIVE)(wave[None])[0]
        if index < LAYERS or kind not in POOLED:
            torch.testing.assert_close(found, true[index], rtol=0, atol=1e-5)
    found = load_backbone(replace(config, layer="weighted"), NATIVE)(wave[None])[0]
    torch.testing.assert_close(found, torch.stack(true, 2).flatten(2), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_what_is_read_of_it_and_noted(kind, library):
    config = settle(library(kind), NATIVE)
    assert (config.type, config.dim, config.layers) == (f"{kind}_encoder", DIM, LAYERS)
    identity = load_backbone(config, NATIVE).identity
    assert identity["class"] == MODELS[kind][0] + "Encoder"
    assert identity.get("frames_per_second") == SECOND.get(kind)
    random = load_backbone(replace(config, pretrained=False), NATIVE).identity
    assert random["weights"] != identity["weights"]


@pytest.mark.parametrize("kind", MODELS)
def test_half_precision_and_the_shortest_clip(kind, library):
    [wave] = clips(9_600)
    true, half = (
        load_backbone(library(kind), NATIVE, dtype)(wave[None])[0] for dtype in (torch.float32, torch.bfloat16)
    )
    assert half.dtype == torch.bfloat16
    assert (half.float() - true).square().mean().sqrt() < 0.03 * true.square().mean().sqrt()
    frames, counts = load_backbone(library(kind), NATIVE)(clips(400)[0][None])
    count = 7 if kind == "qwen3_asr" else 1  # 0.5 s with silence, which counts in transformers, too
    assert frames.shape == (1, count, DIM)
    assert counts.tolist() == load_backbone(library(kind), NATIVE).frame_counts(np.array([400])).tolist() == [count]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the peak is read where Linux writes it")
def test_the_language_model_is_not_read(tmp_path):
    """Peak memory of a process of its own: that of the encoder, not of the language model of 90 MB beside it."""
    peak.write(tmp_path, 90, shard="30MB")
    assert len(list((tmp_path / "large").glob("*.safetensors"))) > 2
    assert sum(path.stat().st_size for path in (tmp_path / "large").iterdir()) > 130e6
    taken, encoder = peak.measure(tmp_path)
    assert 40 < encoder < 50
    assert encoder / 2 < taken < encoder + 50


def test_a_config_without_its_encoder_is_refused(tmp_path):
    config, path = inner.write(tmp_path, "voxtral"), tmp_path / "config.json"
    values = json.loads(path.read_text())
    for part in (None, [], {"model_type": "llama"}):
        path.write_text(json.dumps(values | {"audio_config": part}))
        with pytest.raises(
            EmoshareError, match=r"model_type is (voxtral, but it has no audio_config|llama, which can't)"
        ):
            load_backbone(config.settle_from(NATIVE), NATIVE)


def test_positions_end_after_30_seconds_but_for_rotary_ones(library):
    long = replace(NATIVE, seconds=31)
    with pytest.raises(EmoshareError, match=r"window\.seconds=31: qwen2_audio hears 30 s at most"):
        load_backbone(library("qwen2_audio"), long)
    assert load_backbone(library("glmasr"), long)(torch.zeros(1, 496_000))[0].shape[1] == 1550


def test_chunks_and_stretches_of_qwen3_asr(library, tmp_path):
    config = library("qwen3_asr")
    waves, lengths = ragged(52_345, 48_000, 16_160, 8_000, 3_000)  # attention ends after 2 s, convolutions after 1 s
    counts = check_batch(
        load_backbone(config, NATIVE),
        waves,
        lengths,
        lambda wave: inner.reference(Path(config.path), "qwen3_asr", wave).last_hidden_state[0],
    )
    assert counts.tolist() == [43, 39, 14, 7, 7]
    window = WindowConfig(seconds=3, pad="zeros")
    padded = load_backbone(config, window)(torch.cat([waves[2, :16_160], torch.zeros(31_840)])[None])[0]
    alone = load_backbone(config, NATIVE)(torch.cat([waves[2, :16_160], torch.zeros(31_840)])[None])[0]
    torch.testing.assert_close(padded, alone, rtol=0, atol=1e-5)
    with pytest.raises(EmoshareError, match="its chunks of 50 mel frames, 200 together, are not those of Qwen3-ASR"):
        load_backbone(inner.write(tmp_path, "qwen3_asr", n_window=25), NATIVE)


@pytest.mark.parametrize("kind", MODELS)
def test_training_leaves_layers_out(kind, library):
    backbone = load_backbone(replace(library(kind), frozen=False), NATIVE).train()
    backbone(clips(9_600)[0][None])[0].square().mean().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())
    dropping = load_backbone(replace(library(kind), frozen=False, layerdrop="0.999"), NATIVE).train()
    dropping(clips(9_600)[0][None])[0].square().mean().backward()
    assert all(parameter.grad is None for parameter in dropping.blocks[0].parameters())
