"""What a backbone came to is resolved once, noted, and trusted only where it is the same backbone."""

import gc
import json
import weakref

import numpy as np
import pytest
import torch
from extraction import make_corpus
from sections import backbone

from emoshare.backbones import extractor
from emoshare.backbones.base import load_backbone
from emoshare.backbones.extractor import resolve
from emoshare.backbones.kinds.encoder import Options as Encoder
from emoshare.core import hardware
from emoshare.core.config import Config, ExtractConfig, WindowConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.hardware import resolve_dtype
from emoshare.core.hashing import write_sealed
from emoshare.core.products import matrix_bf16
from emoshare.data.audio import read
from emoshare.data.window import Window
from emoshare.store.clips import Clips
from emoshare.store.extract import frames_of

CPU = torch.device("cpu")
SHORT = WindowConfig(seconds=0.15)
LOGMEL = backbone("logmel")


def tiny(kind="wav2vec2", norm="layer", **changes):
    return Encoder(
        "tiny", "tiny", None, kind, 64, 3, None, norm, normalize=True, **changes
    )  # fmt: skip


def asking(backbone=None, window=SHORT, **extract) -> Config:
    settings = ExtractConfig(**{"compute": "float32", **extract})
    return Config(backbone=backbone or tiny(), window=window, extract=settings)


def store(corpus, config, cache):
    return frames_of(Clips.of_corpus(corpus, Window.of(config.window)), resolve(config.frames, CPU, cache), cache)


@pytest.fixture
def loads(monkeypatch):
    """The backbones that were loaded."""
    loaded, real = [], extractor.load_backbone
    monkeypatch.setattr(extractor, "load_backbone", lambda *a: loaded.append(real(*a)) or loaded[-1])
    return loaded


def test_a_noted_backbone_needs_no_weights(tmp_path, loads):
    first = resolve(asking().frames, CPU, tmp_path)
    again = resolve(asking().frames, CPU, tmp_path)
    assert len(loads) == 1
    for key in ("identity", "compute", "precision", "width", "device"):
        assert getattr(again, key) == getattr(first, key)
    waves, lengths = torch.randn(2, 2_400), torch.tensor([2_400, 2_400])
    torch.testing.assert_close(again(waves, lengths), first(waves, lengths), rtol=0, atol=0)
    assert len(loads) == 2
    assert again.frame_counts(np.array([300, 2_400])).tolist() == [7, 7]  # the padding counts


def test_a_note_belongs_to_what_was_asked_and_to_the_code(tmp_path, loads, monkeypatch):
    configs = [
        asking(), asking(window=WindowConfig(seconds=1)), asking(tiny(layer="1")), asking(compute="bfloat16"),
        asking(window=WindowConfig(seconds=0.15, pad="none")),
    ]  # fmt: skip
    for config in configs:
        resolve(config.frames, CPU, tmp_path)
    resolve(asking(tiny(frozen=False, specaugment=True, lora=4, trainable_layers=1)).frames, CPU, tmp_path)
    assert len(loads) == 4  # the length of the window changes no backbone, nor does how it is fine-tuned
    monkeypatch.setattr(extractor, "VERSION", extractor.VERSION + 1)
    resolve(asking().frames, CPU, tmp_path)
    assert len(loads) == 5


def test_another_backbone_than_the_noted_one_is_refused(tmp_path):
    resolve(asking().frames, CPU, tmp_path)
    [note] = (tmp_path / "identities").iterdir()
    content = json.loads(note.read_text())
    content["identity"]["weights"] = "others"
    write_sealed(note, content)
    with pytest.raises(EmoshareError, match=r"json: notes another tiny than was loaded; delete it and run again"):
        resolve(asking().frames, CPU, tmp_path).frame_counts(np.array([400]))
    for damaged in ("{", '{"identity": {}}'):
        note.write_text(damaged)
        with pytest.raises(EmoshareError, match=f"{note}: not .*; delete it and run the command again"):
            resolve(asking().frames, CPU, tmp_path)


def test_a_finished_recipe_needs_no_weights_and_nothing_holds_them_after_an_extraction(tmp_path, loads):
    """So that the memory they take of a GPU is free for training."""
    corpus = make_corpus(tmp_path / "wav", 4)
    first = store(corpus, asking(tiny(layer="weighted")), tmp_path)
    alive = weakref.ref(loads.pop())
    gc.collect()
    assert first.computed
    assert alive() is None
    assert not store(corpus, asking(tiny(layer="weighted")), tmp_path).computed
    assert loads == []


def test_a_trained_backbone_extracts_as_a_frozen_one(tmp_path):
    """Without dropout, SpecAugment and layerdrop."""
    corpus = make_corpus(tmp_path / "wav", 4)
    trained = tiny(frozen=False, specaugment=True, layerdrop="0.9")
    frames = [store(corpus, asking(c), tmp_path / c.layer / str(c.frozen)) for c in (tiny(), trained)]
    assert frames[0].recipe == frames[1].recipe
    torch.testing.assert_close(*(found.gather(np.arange(4))[0] for found in frames), rtol=0, atol=0)


def test_log_mel_frames_are_those_of_float32_on_every_machine(tmp_path):
    half = resolve(asking(LOGMEL, compute="bfloat16").frames, CPU, tmp_path)
    whole = resolve(asking(LOGMEL).frames, CPU, tmp_path)
    assert half.compute == whole.compute == "float32"
    waves, lengths = torch.randn(1, 2_400), torch.tensor([2_400])
    torch.testing.assert_close(half(waves, lengths)[0], whole(waves, lengths)[0], rtol=0, atol=0)


@pytest.mark.parametrize("pad", ["zeros", "none"])
@pytest.mark.parametrize(
    "backbone",
    [tiny(), tiny(norm="group"), tiny("wavlm", layer="1"), tiny("unispeech-sat", "group", layer="weighted"), LOGMEL],
    ids=lambda c: f"{c.type}-{c.conv_norm}-{c.layer}",
)
def test_stored_frames_are_those_of_the_backbone_alone(tmp_path, backbone, pad):
    """Each clip by itself, without batch or mask, through the backbone: up to float16 what stands in the store."""
    corpus = make_corpus(tmp_path / "wav", 12)
    config = asking(backbone, WindowConfig(seconds=0.15, pad=pad, normalize="checkpoint"), max_batch_seconds="0.5")
    window, alone = Window.of(config.window), load_backbone(backbone, config.window)
    frames, lengths = store(corpus, config, tmp_path).gather(np.arange(12))
    for row, file in enumerate(corpus.files):
        wave = torch.zeros(1, window.samples)
        cut = torch.from_numpy(window.cut(read(corpus.path(file))))
        wave[0, : len(cut)] = cut
        wave = wave if pad == "zeros" else wave[:, : len(cut)]
        wanted, counts = alone(wave, torch.tensor([len(cut)]))
        assert lengths[row] == counts[0] == wanted.shape[1]
        torch.testing.assert_close(frames[row, : lengths[row]].float(), wanted[0], rtol=2e-3, atol=2e-3)


def test_the_identity_of_a_backbone_has_no_new_key(tmp_path):
    """It would move all stored frames: see the pinned hash of a recipe in tests/store."""
    assert set(resolve(asking(LOGMEL).frames, CPU, tmp_path).identity) == {
        "name", "path", "type", "revision", "dim", "layers", "pretrained", "layer", "window_normalize", "class",
        "parameters", "conv_norm", "normalize", "mask", "weights",
    }  # fmt: skip


@pytest.mark.parametrize("wanted", ["0", "-3", "many", "nan"])
def test_bad_batch_seconds(wanted):
    with pytest.raises(EmoshareError, match=f"extract.max_batch_seconds={wanted}"):
        extractor.batch_seconds(wanted, CPU)


def test_a_gpus_free_memory_is_what_pytorch_can_have(monkeypatch):
    """Once it has given back what it keeps, and within the fraction that the process may take."""
    gpu, cached = torch.device("cuda"), [30 * 2**30]
    monkeypatch.setattr(torch.cuda, "empty_cache", cached.clear)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (40 * 2**30 - sum(cached), 80 * 2**30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2**30)
    for fraction, free in ((1.0, 40), (0.25, 19), (0.01, 0)):
        monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device, f=fraction: f)
        assert extractor.free_memory(gpu) == free * 2**30
        assert extractor.batch_seconds("auto", gpu) == min(free * 16, 640)
    assert extractor.batch_seconds("auto", CPU) <= 44


def test_precision(monkeypatch):
    for dtype in (torch.bfloat16, torch.float32):
        monkeypatch.setattr(hardware, "fastest_dtype", lambda dtype=dtype: dtype)
        assert resolve_dtype("auto", CPU) == dtype
    assert resolve_dtype("bfloat16", CPU) == torch.bfloat16
    assert resolve_dtype("float32", torch.device("cuda")) == torch.float32
    assert resolve_dtype("float16", torch.device("cuda")) == torch.float16
    with pytest.raises(EmoshareError, match=r"extract\.compute=float16"):
        resolve_dtype("float16", CPU)
    for bf16 in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True, bf16=bf16: bf16)
        assert resolve_dtype("auto", torch.device("cuda")) == (torch.bfloat16 if bf16 else torch.float16)


def test_matrix_bf16_agrees_with_the_kernel():
    from pathlib import Path

    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if "flags" not in flags:
        pytest.skip("no x86 flags to read")
    assert matrix_bf16() == any(flag in flags for flag in ("amx_tile", "avx512_bf16"))
