"""The benchmark's counts and sums by independent reckoning; its clock is never judged."""

from __future__ import annotations

import dataclasses
import json
import math
from types import SimpleNamespace

import checkpoints
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import transformers
from composed import on_cpu
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from emoshare.backbones.base import load_backbone
from emoshare.backbones.extractor import precision_name
from emoshare.backbones.families import FAMILIES
from emoshare.backbones.kinds.encoder import Options as Encoder
from emoshare.bench import estimate, extraction_speed, measure, training_speed
from emoshare.bench.extraction_speed import Candidate
from emoshare.bench.flops import flops
from emoshare.core.config import Config, WindowConfig
from emoshare.core.hardware import resolve_dtype

CPU = torch.device("cpu")
DURATIONS = estimate.durations(2.9).tolist()
MADE_UP = {
    "extraction": {
        "transformers float32": {"realtime": 5.0, "problem": None, "gpu_peak_gb": None},
        "emoshare bfloat16": {"realtime": 40.0, "problem": None, "gpu_peak_gb": 3.0},
    },
    "ours": "emoshare bfloat16",
    "head": {"lightning_steps_per_second": 100.0},
}


@pytest.fixture
def config() -> Config:
    config = Config()
    config.backbone = Encoder("large", "large", type="hubert", dim=1024, layers=24, parameters=315_438_720)
    return config


@pytest.fixture(autouse=True)
def forget(monkeypatch) -> None:
    monkeypatch.setattr(measure, "KNOWN", {})


# The command


def test_a_sweep_is_measured_and_summed(emoshare, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(training_speed, "STEPS", 41)
    sweep = ["backbone=tiny,logmel", "window.seconds=0.5", "seed=0,1", "bench.repeats=1", "extract.max_batch_seconds=2"]
    run = emoshare("bench", "-m", *sweep)
    assert run.status == 0, run.err
    folder = tmp_path / "outputs/bench"
    measured = {path.name.split("-")[0]: json.loads(path.read_text()) for path in folder.glob("*-*.json")}
    assert measured.keys() == {"tiny", "logmel"}
    tiny = measured["tiny"]
    assert tiny["batch"] == {"clips": 4, "audio_seconds": 2.0}  # what extraction takes
    assert list(tiny["extraction"])[:2] == ["transformers float32", "transformers bfloat16"]
    assert set(list(tiny["extraction"])[2:]) == {"emoshare float32", "emoshare bfloat16"}
    assert tiny["ours"] == list(tiny["extraction"])[3]  # what `auto` takes is last
    assert tiny["ours"] == f"emoshare {precision_name(resolve_dtype('auto', torch.device('cpu')))}"
    assert f"{tiny['ours']} (taken)" in run.out
    assert tiny["machine"]["threads"] == torch.get_num_threads()
    for row in tiny["extraction"].values():
        if not row["problem"]:
            assert row["realtime"] == pytest.approx(2.0 / row["seconds"][0])
            assert row["gemm_fraction"] > 0
            assert row["gpu_peak_gb"] is None
    assert tiny["memory"]["fits"] is None
    head = tiny["head"]
    rates = head["bare_steps_per_second"], head["lightning_steps_per_second"]
    assert head["overhead"] == pytest.approx(rates[0] / rates[1])
    assert list(measured["logmel"]["extraction"]) == ["emoshare float32"]
    assert measured["logmel"]["extraction"]["emoshare float32"]["gemm_fraction"] is None
    summed = json.loads((folder / "estimate.json").read_text())
    assert [(r["backbone"], r["seed"]) for r in summed["runs"]] == [
        ("tiny", 0), ("tiny", 1), ("logmel", 0), ("logmel", 1)
    ]  # fmt: skip
    once = [measured[name]["estimate"] for name in ("tiny", "logmel")]
    assert summed["total"]["extract_hours"] == pytest.approx(sum(e["extract_hours"] for e in once))
    assert summed["total"]["disk_gb"] == pytest.approx(sum(e["disk_gb"] for e in once))
    for key in ("head_hours", "loop_hours"):
        assert summed["total"][key] == pytest.approx(2 * sum(e[key] for e in once))
    assert "not measured on a CPU" in run.out
    assert run.out.count("steps/s in Lightning") == 2  # a table for each backbone, not for each seed


def test_what_is_not_measured_is_said(emoshare, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(extraction_speed, "matrix_bf16", lambda: False)
    monkeypatch.setattr(extraction_speed.psutil, "virtual_memory", lambda: SimpleNamespace(available=1000, total=2000))
    monkeypatch.setattr(measure, "training_speed", lambda *_: {**MADE_UP["head"], "bare_steps_per_second": 1.0,
                                                         "overhead": 1.0, "precision": "32-true"})  # fmt: skip
    run = emoshare("bench", "backbone=tiny", "window.seconds=0.5", "bench.clips=1", "bench.repeats=1")
    assert run.status == 0, run.err
    assert "not run: transformers float32: needs" in run.out
    assert "not run: transformers bfloat16: no bfloat16 instructions" in run.out
    assert "1 runs that could not be measured are left out" in run.out
    [path] = (tmp_path / "outputs/bench").glob("tiny*.json")
    assert json.loads(path.read_text())["estimate"]["store_hours"] is None


def test_mistakes_are_one_line(emoshare) -> None:
    for override, text in {
        "bench.clips=0": "bench.clips=0: must be at least 1",
        "bench.gpu_gb=-1": "bench.gpu_gb=-1",
    }.items():
        run = emoshare("bench", "backbone=tiny", override)
        assert run.status == 1
        assert text in run.err
        assert run.err.count("\n") == 1


# Floating-point operations


@pytest.mark.parametrize("family", ["wav2vec2_group", "wav2vec2_layer", "hubert", "unispeech_sat", "wavlm"])
@pytest.mark.parametrize("kernel", [16, 15])
def test_operations_are_those_that_pytorch_counts(family, kernel) -> None:
    about = checkpoints.FAMILIES[family]
    sizes = checkpoints.SIZES | {"num_conv_pos_embeddings": kernel, "feat_extract_norm": about.norm}
    architecture = getattr(transformers, about.stem + "Config")(**sizes, attn_implementation="eager")
    model = getattr(transformers, about.stem + "Model")(architecture).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.randn(2, 8000))
    frames, heads = 1 + (8000 - 400) // 320, sizes["num_attention_heads"]
    gates = 0
    if family == "wavlm":  # a Linear from a head's features to 8, for every head and frame of every layer
        gates = 2 * 2 * frames * heads * (checkpoints.DIM // heads) * 8 * checkpoints.LAYERS
    assert flops(architecture, checkpoints.LAYERS, 2, 8000) + gates == counter.get_total_flops()


def test_operations_of_hubert_large_are_those_of_the_plan() -> None:
    """8 × 5.5 s are about 1.6 TFLOP without the convolutions."""
    section = Encoder("hubert_large", "hubert_large", type="hubert", dim=1024, layers=24, conv_norm="layer")
    architecture = extraction_speed.encoders.describe(section, None)
    layers = flops(architecture, 24, 8, 88_000) - flops(architecture, 0, 8, 88_000)
    assert layers == 8 * 24 * (24 * 274 * 1024**2 + 4 * 274**2 * 1024)


def small(kind: str) -> tuple[Encoder, WindowConfig]:
    """A small random encoder of a family."""
    norm = FAMILIES[kind].conv_norm or ("layer" if FAMILIES[kind].samples else None)
    sizes = {"max_length": 256} if kind == "audio-spectrogram-transformer" else {}
    sizes |= {"downsample_hidden_size": 64} if kind == "qwen3_asr_encoder" else {}
    sizes |= {"subsampling_conv_channels": 32} if kind == "parakeet_encoder" else {}
    section = Encoder(
        kind, "random", type=kind, dim=128, layers=2, conv_norm=norm, pretrained=False, architecture=sizes
    )
    return section, WindowConfig(seconds=1, pad="none", normalize="checkpoint")


@pytest.mark.parametrize("kind", FAMILIES)
def test_operations_of_every_family_are_those_of_its_forward_pass(kind) -> None:
    """Counted by PyTorch while our own encoder, with numbers, computes two clips."""
    section, window = small(kind)
    section, architecture = extraction_speed.without_weights(section)
    expected = extraction_speed.count_operations(section, architecture, window, (2, 16_000), theirs=False)
    backbone = load_backbone(section, window)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        backbone(torch.randn(2, 16_000))
    assert expected == pytest.approx(counter.get_total_flops(), rel=0.03)


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_is_timed(kind) -> None:
    section, window = small(kind)
    section, architecture = extraction_speed.without_weights(section)
    batch = torch.randn(2, 16_000), torch.tensor([16_000, 16_000])
    ready, whole = (
        extraction_speed.reference(section, architecture, torch.float32, CPU, samples).extract(*batch)  # type: ignore[misc]
        for samples in (False, True)
    )
    assert ready.shape == whole.shape
    frames, _ = extraction_speed.our_candidate(window, section, torch.float32, CPU).extract(*batch)  # type: ignore[misc]
    assert frames.shape[2] == whole.shape[-1] == 128


# Extraction speed


def test_engines_take_turns_and_the_first_does_not_count(monkeypatch) -> None:
    order: list[str] = []
    candidates = [Candidate(n, torch.float32, extract=lambda *_, n=n: order.append(n)) for n in ("a", "b")]
    monkeypatch.setattr(extraction_speed, "gemm", lambda *_: order.append("gemm") or float(len(order)))
    peaks = extraction_speed.time_batches(candidates, (2, 800), 2, object(), CPU)
    assert order == ["a", "b", "gemm"] * 3
    assert [len(r.seconds) for r in candidates] == [2, 2]
    assert peaks == {torch.float32: 9.0}  # the best


def test_an_engine_without_memory_leaves_the_others_running() -> None:
    def hungry(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    def broken(*_):
        raise RuntimeError("shapes do not match")

    candidates = [
        Candidate("hungry", torch.float32, extract=hungry),
        Candidate("modest", torch.float32, extract=lambda *_: None),
    ]
    extraction_speed.time_batches(candidates, (1, 800), 1, None, CPU)
    assert candidates[0].problem == "out of memory"
    assert len(candidates[1].seconds) == 1
    with pytest.raises(RuntimeError, match="shapes"):
        extraction_speed.time_batches([Candidate("broken", torch.float32, extract=broken)], (1, 800), 1, None, CPU)


# The estimate


def test_hours_follow_from_rates(config) -> None:
    config.data.batch_size = 8
    found = estimate.hours(config, MADE_UP, "r")
    clips, seconds, epochs = 51_881, 5.5, 30
    extraction = clips * seconds / 40 / 3600
    passes = clips * (0.61 + 0.19) * epochs + clips * (0.19 + 0.20)
    head = passes / 8 / 100 / 3600
    assert found["extract_hours"] == pytest.approx(extraction)
    assert found["head_hours"] == pytest.approx(head)
    assert found["store_hours"] == pytest.approx(extraction + head)
    assert found["loop_hours"] == pytest.approx(passes * seconds / 40 / 3600 + head)
    assert found["speedup"] == pytest.approx(found["loop_hours"] / found["store_hours"])
    assert found["bytes_per_clip"] == 274 * 1024 * 2
    assert found["disk_gb"] == pytest.approx(274 * 1024 * 2 * clips / 1e9)


def test_hours_of_other_recipes(config) -> None:
    config.backbone.layer, config.extract.precision = "weighted", "float32"
    assert estimate.hours(config, MADE_UP, "r")["bytes_per_clip"] == 274 * 25 * 1024 * 4
    config.window.pad = "none"  # 2.85 s are 142 frames: of a mean of 2.9 s, what clips above 5.5 s have more is cut
    assert estimate.clip_seconds(config) == pytest.approx(2.85, abs=0.01)
    assert estimate.hours(config, MADE_UP, "r")["bytes_per_clip"] == 142 * 25 * 1024 * 4
    hours = 51_881 * estimate.clip_seconds(config) / 40 / 3600
    assert estimate.hours(config, MADE_UP, "r")["extract_hours"] == pytest.approx(hours)
    config.window.seconds = 1.0
    assert estimate.clip_seconds(config) == 1.0
    config.window.crop = "random"  # no store
    found = estimate.hours(config, MADE_UP, "r")
    assert (found["disk_gb"], found["extract_hours"], found["speedup"]) == (0, 0, 1)


def test_shared_frames_are_extracted_once_and_the_unknown_left_out(config) -> None:
    rates = [MADE_UP, MADE_UP, json.loads(json.dumps(MADE_UP))]
    rates[2]["extraction"]["emoshare bfloat16"]["realtime"] = None
    hours = [estimate.hours(config, r, name) for r, name in zip(rates, ("x", "x", "y"), strict=True)]
    assert math.isnan(hours[2]["store_hours"])
    found = estimate.total([{"estimate": h} for h in hours])
    assert (found["runs"], found["unknown"]) == (3, 1)
    assert found["extract_hours"] == pytest.approx(hours[0]["extract_hours"])
    assert found["store_hours"] == pytest.approx(hours[0]["extract_hours"] + 2 * hours[0]["head_hours"])
    assert found["loop_hours"] == pytest.approx(2 * hours[0]["loop_hours"])
    assert found["disk_gb"] == pytest.approx(2 * hours[0]["disk_gb"])
    assert (found["clips_asked"], found["clips_computed"]) == (3 * 51_881, 2 * 51_881)


def test_durations_are_those_of_the_corpus() -> None:
    clips = estimate.durations(2.9)
    assert clips.mean() == pytest.approx(2.9)
    assert (clips.min(), clips.max()) == (pytest.approx(1.2, abs=0.03), pytest.approx(7.98, abs=0.15))


def test_windows_without_padding_share_the_clips_that_fit(config) -> None:
    """Counted clip by clip: a cut is a clip and what is kept of it."""
    windows = (0.5, 2.0, 4.0, 4.5, 5.0, 5.5, 6.0)
    config.window.pad = "none"
    runs = []
    for window in (*windows, *windows[::-1]):  # of two seeds
        config.window.seconds = window
        runs.append({"estimate": estimate.hours(config, MADE_UP, "r")})
    cuts = {(clip, min(seconds, window)) for window in windows for clip, seconds in enumerate(DURATIONS)}
    found = estimate.total(runs)
    assert found["clips_asked"] == 14 * 51_881
    assert found["clips_computed"] == pytest.approx(51_881 * len(cuts) / len(DURATIONS), rel=1e-4)
    audio = sum(seconds for _, seconds in cuts) / len(DURATIONS)
    assert found["extract_hours"] == pytest.approx(51_881 * audio / 40 / 3600)
    alone = sum(run["estimate"]["disk_gb"] for run in runs[: len(windows)])
    whole = sum(estimate.clip_seconds(config) for config.window.seconds in windows)
    assert found["disk_gb"] == pytest.approx(alone * audio / whole, rel=0.01)


def test_whether_it_fits_is_judged_against_the_cap(config, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=139e9))
    rates = MADE_UP
    config.bench.gpu_gb = 24
    gpu = estimate.memory(config, rates, torch.device("cuda", 0))
    assert gpu == {"peak_gb": 3.0, "limit_gb": 24, "fits": True, "weights_gb": pytest.approx(0.63, abs=0.01)}
    lost = {
        "ours": "emoshare bfloat16",
        "extraction": {"emoshare bfloat16": {"gpu_peak_gb": 3, "problem": "out of memory"}},
    }
    assert estimate.memory(config, lost, torch.device("cuda", 0))["fits"] is False
    assert estimate.memory(config, rates, CPU)["fits"] is None


# Training speed


def test_the_clock_takes_the_middle_stretch() -> None:
    clock = training_speed.Clock(CPU)
    clock.times = [0.0, 100.0, 100.5, 101.5, 121.5]  # a slow start, and a stretch that another process disturbed
    assert clock.rate() == pytest.approx(training_speed.STRIDE / 1.0)


@pytest.mark.parametrize(("precision", "schedule"), [("float16", "plateau"), ("bfloat16", "cosine")])
def test_both_loops_train_on_the_frames_of_a_store(config, precision, schedule, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(training_speed, "STEPS", 12)
    monkeypatch.setattr(training_speed, "STRIDE", 3)
    config.backbone.dim, config.extract.precision, config.trainer.accelerator = 16, precision, "cpu"
    config.optimizer.schedule = schedule
    data = training_speed.make_data(config, tmp_path / "store", 20)
    batches = list(data.train_dataloader())
    assert len(batches) == 12
    assert batches[0]["frames"].shape == (8, 20, 16)
    assert batches[0]["frames"].dtype == getattr(torch, precision)
    run = on_cpu(config)
    assert training_speed.bare(run, data) > 0
    assert training_speed.lightning(run, data, tmp_path) > 0


def test_the_epochs_loss_is_the_mean_of_its_batches(config, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(training_speed, "STEPS", 12)
    config.backbone.dim = 16
    seen: list[float] = []
    module = training_speed.make_module(config)
    step = module.training_step
    monkeypatch.setattr(module, "training_step", lambda *a: seen.append(step(*a)) or seen[-1])
    trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
                         enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0)  # fmt: skip
    trainer.fit(module, training_speed.make_data(config, tmp_path / "store", 20))
    assert len(seen) == 24
    mean = np.mean([float(loss) for loss in seen[12:]])
    assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(mean, rel=1e-5)


def test_a_measurement_serves_all_configs_that_share_what_it_depends_on(config) -> None:
    calls: list[int] = []

    def timed(run, size):
        calls.append(size)
        return {"size": size}

    other = dataclasses.replace(config, seed=1)
    for c, size in ((config, 1), (other, 1), (other, 2)):
        assert measure.measure_once(timed, on_cpu(c), size, (c.backbone,)) == {"size": size}
    assert calls == [1, 2]
