"""`emoshare bench`: what this machine does with a backbone and window, side by side in one process.

Random weights of the full architecture stand in for the checkpoint: speed does not depend on them.
Shapes: B clips, N samples, T frames, D features.
"""

from __future__ import annotations

import dataclasses
import logging
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from emoshare import __version__, checkpoint
from emoshare.audio import Window
from emoshare.backbone import frame_count, load_backbone
from emoshare.config import RATE, BackboneConfig, Config
from emoshare.corpus import Corpus, Partition
from emoshare.datamodule import EmotionShareData
from emoshare.device import choose_device, choose_precision
from emoshare.engine import make_engine, matrix_bf16, resolve_dtype
from emoshare.head import Head
from emoshare.loss import ShareLoss
from emoshare.module import EmotionShareModule
from emoshare.runs import write_json
from emoshare.sweep import render

log = logging.getLogger("emoshare")
SIZES = {"float16": 2, "bfloat16": 2, "float32": 4}  # bytes of a stored value
STEPS = 300  # of the head, timed
Engine = Callable[[Tensor, Tensor], Any]


def run(config: Config) -> dict[str, Any]:
    """Measure one config, print the tables, and write outputs/bench/<backbone>-<seconds>s.json."""
    device = choose_device(config)
    if config.bench.gpu_gb and device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(config.bench.gpu_gb * 1e9 / total, device)
    section = dataclasses.replace(config.backbone, pretrained=config.backbone.path in ("tiny", "logmel"))
    waves = torch.randn(config.bench.clips, round(config.window.seconds * RATE)) * 0.1  # (B, N)
    samples = torch.full((len(waves),), waves.shape[1])
    engines, costs = contestants(config, section, device)
    seconds = interleave({k: e for k, e in engines.items()}, waves, samples, config.bench.repeats, device)
    audio = waves.numel() / RATE
    operations = flops(section, waves.shape) if section.type != "logmel" else 0.0
    peaks = {kind: gemm_peak(section, waves.shape, kind, device) for kind in {dtype for dtype, _ in costs.values()}}
    rows = {
        name: {
            "seconds": times,
            "realtime": audio / statistics.median(times),
            "gemm_fraction": operations / statistics.median(times) / peaks[costs[name][0]] if operations else None,
            "gpu_peak_gb": costs[name][1],
        }
        for name, times in seconds.items()
    }
    head = head_speed(config, section, frame_count(waves.shape[1]), device)
    result = {
        "backbone": section.name,
        "window": config.window.seconds,
        "machine": machine(device),
        "batch": {"clips": len(waves), "audio_seconds": audio, "flops": operations},
        "gemm_peak_tflops": {str(kind).removeprefix("torch."): peak / 1e12 for kind, peak in peaks.items()},
        "extraction": rows,
        "head": head,
        "estimate": estimate(config, rows, head, device),
    }
    name = f"{section.name}-{config.window.seconds:g}s.json"
    write_json(Path(config.paths.outputs) / "bench" / name, result)
    print(text(result))
    return result


def contestants(
    config: Config, section: BackboneConfig, device: torch.device
) -> tuple[dict[str, Engine], dict[str, tuple[torch.dtype, float | None]]]:
    """What is timed: transformers' own model in float32 and half precision, and our engines; and their precision."""
    half = torch.bfloat16 if device.type == "cpu" else resolve_dtype("auto", device)
    kinds = [torch.float32] + [half] * (device.type != "cpu" or matrix_bf16())
    engines: dict[str, Engine] = {}
    costs: dict[str, tuple[torch.dtype, float | None]] = {}
    if section.type != "logmel":
        for kind in kinds:
            engines[f"transformers, {str(kind).removeprefix('torch.')}"] = reference(section, kind, device)
            costs[f"transformers, {str(kind).removeprefix('torch.')}"] = (kind, None)
    kind = resolve_dtype(config.extract.compute, device)
    names = ["torch"] + ["openvino"] * (device.type == "cpu" and section.type != "logmel" and has_openvino())
    for name in names:
        extract = dataclasses.replace(config.extract, engine=name)
        backbone = load_backbone(section, config.window, kind)
        label = f"{name} engine, {str(kind).removeprefix('torch.')}"
        engines[label] = make_engine(backbone, extract, device, Path(config.paths.cache))
        costs[label] = (kind, None)
    return engines, costs


def has_openvino() -> bool:
    import importlib.util

    return importlib.util.find_spec("openvino") is not None


def reference(section: BackboneConfig, kind: torch.dtype, device: torch.device) -> Engine:
    """transformers' model of the architecture, as most tools run it."""
    model = checkpoint.build(section, checkpoint.describe(section, None), None, 0).eval().to(device, kind)

    def extract(waves: Tensor, lengths: Tensor) -> Tensor:
        with torch.inference_mode():
            return model(waves.to(kind)).last_hidden_state

    return extract


def interleave(
    engines: dict[str, Engine], waves: Tensor, lengths: Tensor, repeats: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds per batch of every engine, turn by turn after a warm-up, so that all meet the same machine."""
    waves, seconds = waves.to(device), {name: [] for name in engines}  # type: ignore[var-annotated]
    for turn in range(repeats + 1):
        for name, engine in engines.items():
            wait(device)
            start = time.perf_counter()
            engine(waves, lengths)
            wait(device)
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def shapes(section: BackboneConfig, frames: int) -> list[tuple[int, int, int]]:
    """(rows, inner, columns) of a layer's matrix products: four projections and the two of the feed-forward part."""
    dim = section.dim
    return [(frames, dim, dim)] * 4 + [(frames, dim, 4 * dim), (frames, 4 * dim, dim)]


def flops(section: BackboneConfig, shape: torch.Size) -> float:
    """Floating-point operations of a batch (B, N): convolutions, projection, positional convolution, layers."""
    architecture = checkpoint.describe(section, None)
    clips, length = shape
    total, inner = 0.0, 1
    for out, kernel, stride in zip(
        architecture.conv_dim, architecture.conv_kernel, architecture.conv_stride, strict=True
    ):
        length = 1 + (length - kernel) // stride
        total += 2.0 * length * out * inner * kernel
        inner = out
    dim = architecture.hidden_size
    total += 2.0 * length * inner * dim
    total += (
        2.0 * length * dim * dim * architecture.num_conv_pos_embeddings / architecture.num_conv_pos_embedding_groups
    )
    products = sum(2.0 * m * k * n for m, k, n in shapes(section, length))
    return clips * (total + architecture.num_hidden_layers * (products + 4.0 * length**2 * dim))


def gemm_peak(section: BackboneConfig, shape: torch.Size, kind: torch.dtype, device: torch.device) -> float:
    """Operations per second of plain matrix products at the model's own shapes, the best of five rounds."""
    rows = shape[0] * frame_count(shape[1])
    products = [
        (torch.randn(m, k, device=device, dtype=kind), torch.randn(k, n, device=device, dtype=kind))
        for m, k, n in shapes(section, rows)[3:]
    ]
    best = 0.0
    for _ in range(6):
        wait(device)
        start = time.perf_counter()
        for a, b in products:
            a @ b
        wait(device)
        work = sum(2.0 * a.shape[0] * a.shape[1] * b.shape[1] for a, b in products)
        best = max(best, work / (time.perf_counter() - start))
    return best


class Memory:
    """Frames in memory, in place of a store: what is timed is the head, not the disk."""

    def __init__(self, frames: Tensor) -> None:
        self.frames = frames  # (n, T, D)

    def gather(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        batch = self.frames[torch.from_numpy(rows % len(self.frames))]
        return batch, torch.full((len(batch),), batch.shape[1])


def head_speed(config: Config, section: BackboneConfig, frames: int, device: torch.device) -> dict[str, float]:
    """Head steps per second in Lightning's loop and in a bare one, on the same batches, in turn."""
    precision = choose_precision(config, device)
    width, clips = section.dim, STEPS * config.data.batch_size
    kind = {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(config.extract.precision, torch.float32)
    store = Memory(torch.randn(64, frames, width).to(kind))
    shares = np.random.default_rng(0).random((clips, 9), np.float32)
    part = Partition("train", tuple(map(str, range(clips))), shares, np.ones(clips), 0)
    targets = tuple(config.data.targets)[:9] if len(config.data.targets) >= 9 else tuple("abcdefghi")
    corpus = Corpus("bench", Path(), Path(), targets, {"train": part}, "", "", ())
    data = EmotionShareData(corpus, Window.of(config.window), config.data, 0, store)

    def module() -> EmotionShareModule:
        head = Head(width, 1, len(targets), config.head)
        return EmotionShareModule(head, ShareLoss(config.loss), config.optimizer, targets)

    def lightning() -> float:
        clock = Clock()
        trainer = pl.Trainer(
            max_epochs=1, accelerator=device.type, devices=1, precision=precision, logger=False,  # type: ignore[arg-type]
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, callbacks=[clock],
            limit_val_batches=0,
        )  # fmt: skip
        trainer.fit(HeadOnly(module()), data.train_dataloader())
        return clock.rate()

    def bare() -> float:
        return bare_loop(module().to(device), data, precision, device)

    rates = [(lightning(), bare()) for _ in range(config.bench.repeats)]
    fitted, plain = (statistics.median(r) for r in zip(*rates, strict=True))
    return {"lightning_steps_per_second": fitted, "bare_steps_per_second": plain, "overhead": plain / fitted}


class HeadOnly(pl.LightningModule):
    """The module's training step without what a devel partition is needed for."""

    def __init__(self, module: EmotionShareModule) -> None:
        super().__init__()
        self.module = module

    def training_step(self, batch: Any, _: int) -> Tensor:
        loss = self.module.loss(self.module(batch), batch["shares"])
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch["clip"]))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.module.parameters(), lr=1e-3)


class Clock(pl.Callback):
    """Times the steps of an epoch, the first 20 left out."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.times.append(time.perf_counter())

    def rate(self) -> float:
        return (len(self.times) - 21) / (self.times[-1] - self.times[20])


def bare_loop(module: EmotionShareModule, data: EmotionShareData, precision: str, device: torch.device) -> float:
    """The same steps without Lightning, in steps per second."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    kind = torch.bfloat16 if precision.startswith("bf16") else torch.float16
    times = []
    for batch in data.train_dataloader():
        moved = {key: value.to(device) for key, value in batch.items()}
        with torch.autocast(device.type, kind, enabled="mixed" in precision):
            loss = module.loss(module(moved), moved["shares"])  # type: ignore[arg-type]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter())
    wait(device)
    return (len(times) - 21) / (time.perf_counter() - times[20])


def estimate(config: Config, rows: dict[str, Any], head: dict[str, float], device: torch.device) -> dict[str, Any]:
    """Hours of a run of `trainer.epochs` on a corpus of `bench.corpus` clips, with and without the store, and disk.

    Train is 61 % of the clips and devel 19 %, as in ComParE's partition; a window of zero padding costs its full
    length for every clip.
    """
    seconds = (
        min(config.window.seconds, config.bench.clip_seconds) if config.window.pad == "none" else config.window.seconds
    )
    ours = {name: row for name, row in rows.items() if "engine" in name}
    best = max(row["realtime"] for row in ours.values())
    audio, epochs = config.bench.corpus * seconds, config.trainer.epochs
    steps = 0.61 * config.bench.corpus / config.data.batch_size
    heads = epochs * steps * 1.1 / head["lightning_steps_per_second"]  # devel: forward alone, larger batches
    frames = frame_count(round(seconds * RATE))
    states = config.backbone.layers + 1 if config.backbone.layer == "weighted" else 1
    clip = frames * config.backbone.dim * states * SIZES[config.extract.precision]
    extraction = audio / best
    loop = epochs * 0.8 * audio / best + heads
    return {
        "bytes_per_clip": clip,
        "disk_gb": clip * config.bench.corpus / 1e9,
        "extraction_hours": extraction / 3600,
        "head_hours": heads / 3600,
        "store_hours": (extraction + heads) / 3600,
        "loop_hours": loop / 3600,
        "speedup": loop / (extraction + heads),
        "gpu_peak_gb": torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None,
    }


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures were measured on."""
    commit = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "bf16": matrix_bf16() if device.type == "cpu" else torch.cuda.is_bf16_supported(),
        "torch": torch.__version__,
        "emoshare": __version__,
        "commit": commit.stdout.strip() or None,
    }


def processor() -> str:
    """The processor's name, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def text(result: dict[str, Any]) -> str:
    """The tables of one config."""
    from rich.table import Table

    where, head = result["machine"], result["head"]
    grid = Table(box=None, pad_edge=False)
    for name in ("extraction", "s per batch", "× real time", "× float32", "of GEMM peak"):
        grid.add_column(name, justify="left" if name == "extraction" else "right")
    rows = result["extraction"]
    base = next(iter(rows.values()))["realtime"]
    for name, row in rows.items():
        share = "–" if row["gemm_fraction"] is None else f"{100 * row['gemm_fraction']:.0f} %"
        middle = statistics.median(row["seconds"])
        grid.add_row(name, f"{middle:.3f}", f"{row['realtime']:.1f}", f"{row['realtime'] / base:.2f}", share)
    peaks = ", ".join(f"{kind} {peak:.2f}" for kind, peak in result["gemm_peak_tflops"].items())
    bits = "with" if where["bf16"] else "without"
    return (
        f"\n{result['backbone']}, {result['window']:g} s, {result['batch']['clips']} clips a batch on {where['device']} "
        f"({where['threads']} threads, {bits} bf16 instructions, PyTorch {where['torch']}, commit {where['commit']})\n"
        f"{render(grid)}"
        f"GEMM peak, TFLOP/s: {peaks}\n"
        f"head: {head['lightning_steps_per_second']:.0f} steps/s in Lightning, {head['bare_steps_per_second']:.0f} in a "
        f"bare loop ({head['overhead']:.2f}×)\n"
    )


def sweep_estimate(results: list[dict[str, Any]], clips: int) -> str:
    """What a sweep over the measured configs takes, one run each: hours with and without the store, and disk."""
    from rich.table import Table

    grid = Table(box=None, pad_edge=False)
    names = (
        "backbone",
        "window",
        "kB per clip",
        "disk GB",
        "extract h",
        "head h",
        "from the store h",
        "in the loop h",
        "×",
    )
    for name in names:
        grid.add_column(name, justify="left" if name == "backbone" else "right")
    totals = dict.fromkeys(("disk_gb", "extraction_hours", "head_hours", "store_hours", "loop_hours"), 0.0)
    for result in results:
        e = result["estimate"]
        for key in totals:
            totals[key] += e[key]
        numbers = [e["bytes_per_clip"] / 1e3, *(e[key] for key in totals), e["speedup"]]
        grid.add_row(result["backbone"], f"{result['window']:g} s", *(f"{n:.4g}" for n in numbers))
    speedup = totals["loop_hours"] / totals["store_hours"]
    grid.add_row("all", "", "", *(f"{n:.4g}" for n in totals.values()), f"{speedup:.4g}")
    peaks = [r["estimate"]["gpu_peak_gb"] for r in results if r["estimate"]["gpu_peak_gb"] is not None]
    memory = f"GPU memory, peak: {max(peaks):.1f} GB\n" if peaks else "GPU memory: measured on a GPU alone\n"
    return f"\nestimate for {clips} clips, from the rates above\n{render(grid)}{memory}"
