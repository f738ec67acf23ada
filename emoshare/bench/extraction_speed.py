"""Extraction engines timed turn by turn against transformers' own models, and against plain matrix products.

Random weights of the full architecture stand in for the checkpoint: speed does not depend on them.

Shapes: B clips, N samples, T frames, D features, L layers.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from emoshare.backbones import checkpoint
from emoshare.backbones.base import Backbone, load_backbone
from emoshare.backbones.engine import SECOND_BYTES, TorchEngine, batch_seconds, make_engine, resolve_engine
from emoshare.bench.flops import flops, gemm, wait
from emoshare.core.config import RATE, BackboneConfig, Config
from emoshare.core.errors import EmoshareError, out_of_memory
from emoshare.core.hardware import matrix_bf16, resolve_dtype
from emoshare.data.window import frame_count

Extract = Callable[[Tensor, Tensor], Any]  # (B, N) samples, (B,) samples of speech → frames


@dataclass
class Racer:
    """Something that computes frames, or the reason why it does not."""

    name: str
    kind: torch.dtype  # that it computes in
    module: nn.Module = field(default_factory=nn.Identity)  # on a GPU during its own turns alone
    extract: Extract | None = None
    problem: str | None = None
    seconds: list[float] = field(default_factory=list)  # of a batch, one per turn
    gpu_peak_gb: float | None = None


def extraction(config: Config, device: torch.device, samples: int) -> dict[str, Any]:
    """Seconds per batch of every engine for windows of so many samples, and what follows from them.

    Returns the batch, the GEMM peak of each precision, a row per engine (a `problem` in place of figures where it could
    not run) and the name of the engine that extraction would take.
    """
    section = dataclasses.replace(config.backbone, pretrained=False)
    folder = None if section.type == "logmel" else checkpoint.locate(section)
    if folder is None or not (folder / checkpoint.PREPROCESSOR).is_file():  # nothing depends on what it would say
        normalize, mask = section.normalize is not False, section.mask is not False
        section = dataclasses.replace(section, normalize=normalize, mask=mask)
    architecture = None if section.type == "logmel" else checkpoint.describe(section, folder)
    clips = config.bench.clips or batch_clips(config, device, samples)
    racers, chosen = line_up(config, section, architecture, device)
    peaks = race(racers, (clips, samples), config.bench.repeats, architecture, device)
    rows = {}
    for racer in racers:
        middle = None if racer.problem else statistics.median(racer.seconds)
        whole = racer.name.startswith("transformers") or not section.layer.isdigit()
        work = flops(architecture, section.layers if whole else int(section.layer), clips, samples)
        rows[racer.name] = {
            "problem": racer.problem,
            "seconds": racer.seconds,
            "flops": work,
            "realtime": clips * samples / RATE / middle if middle else None,
            "gemm_fraction": work / middle / peaks[racer.kind] if middle and work else None,
            "gpu_peak_gb": racer.gpu_peak_gb,
        }
    return {
        "batch": {"clips": clips, "audio_seconds": clips * samples / RATE},
        "gemm_peak_tflops": {word(kind): peak / 1e12 for kind, peak in peaks.items()},
        "extraction": rows,
        "engine": chosen,
    }


def batch_clips(config: Config, device: torch.device, samples: int) -> int:
    """As many as extraction takes at a time."""
    seconds = batch_seconds(config.extract.max_batch_seconds, device)
    if config.bench.gpu_gb and device.type == "cuda":
        seconds = min(seconds, config.bench.gpu_gb * 1e9 / SECOND_BYTES)
    return max(int(seconds * RATE / samples), 1)


def word(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")


# Who takes part


def line_up(
    config: Config, section: BackboneConfig, architecture: Any, device: torch.device
) -> tuple[list[Racer], str]:
    """transformers in float32 and half precision, then our engines; and the name of the one that extraction takes."""
    kind = resolve_dtype(config.extract.compute, device) if architecture else torch.float32
    half = torch.bfloat16 if device.type == "cpu" else resolve_dtype("auto", device)
    racers = [reference(section, architecture, k, device) for k in (torch.float32, half)] if architecture else []
    ours = Racer(f"torch {word(kind)}", kind, problem=short_of(weights(section, kind)))
    racers.append(ours)
    if ours.problem:
        return racers, ours.name
    ours.module = backbone = load_backbone(section, config.window, kind)
    theirs = None
    if device.type == "cpu" and architecture and importlib.util.find_spec("openvino"):
        theirs = openvino(config, backbone, kind)
        racers.append(theirs)
    ours.extract = TorchEngine(backbone, device, config.extract.compile)
    wanted = resolve_engine(config.extract.engine, device, backbone.identity)
    return racers, theirs.name if theirs and not theirs.problem and wanted == "openvino" else ours.name


def reference(section: BackboneConfig, architecture: Any, kind: torch.dtype, device: torch.device) -> Racer:
    """transformers' own model of the architecture."""
    racer = Racer(f"transformers {word(kind)}", kind)
    racer.problem = short_of(weights(section, kind))
    if kind == torch.bfloat16 and device.type == "cpu" and not matrix_bf16():
        racer.problem = "no bfloat16 instructions in this processor"
    if racer.problem is None:
        with torch.random.fork_rng(devices=[]):
            model = checkpoint.build(section, architecture, None, 0).eval().to(kind)

        def extract(waves: Tensor, lengths: Tensor) -> Tensor:
            with torch.inference_mode():
                return model(waves.to(kind)).last_hidden_state

        racer.module, racer.extract = model, extract
    return racer


def openvino(config: Config, backbone: Backbone, kind: torch.dtype) -> Racer:
    """The backbone converted, in memory for a float32 copy, its conversion and the compiled model."""
    racer = Racer(f"openvino {word(kind)}", kind, problem=short_of(backbone.identity["parameters"] * 16))
    if racer.problem is None:
        try:
            wanted = dataclasses.replace(config.extract, engine="openvino")
            racer.extract = make_engine(backbone, wanted, torch.device("cpu"), Path(scratch().name))
        except EmoshareError as error:
            racer.problem = str(error)
    return racer


@functools.cache
def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder for converted models, gone with the process: nobody wants those of random weights later."""
    return tempfile.TemporaryDirectory(prefix="emoshare-bench-")


def weights(section: BackboneConfig, kind: torch.dtype) -> int:
    """Bytes that a model's weights take: they are made in float32 and then rounded."""
    return (section.parameters or 0) * (4 if kind == torch.float32 else 4 + kind.itemsize)


def short_of(size: int) -> str | None:
    """Why so many bytes are not asked for; None where they are free."""
    free = psutil.virtual_memory().available
    return f"needs {size / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free" if size > free else None


# The race


def race(
    racers: list[Racer], shape: tuple[int, int], repeats: int, architecture: Any, device: torch.device
) -> dict[torch.dtype, float]:
    """Time a batch of (B, N) on each, turn by turn, so that all meet the same machine; the first turn is a warm-up.

    Returns the GEMM peak of each precision, the best of the same turns.
    """
    waves = (torch.randn(shape) * 0.1).to(device)  # (B, N)
    lengths = torch.full(shape[:1], shape[1])
    peaks: dict[torch.dtype, float] = {}
    for racer in racers:
        racer.module.cpu()
    for turn in range(repeats + 1):
        for racer in racers:
            if racer.problem is None:
                attempt(racer, waves, lengths, device)
                racer.seconds = racer.seconds[1:] if turn == 0 else racer.seconds
        for kind in {racer.kind for racer in racers if racer.problem is None and architecture}:
            found = gemm(architecture, shape[0] * frame_count(shape[1]), kind, device)
            peaks[kind] = max(found, peaks.get(kind, 0.0))
    return peaks


def attempt(racer: Racer, waves: Tensor, lengths: Tensor, device: torch.device) -> None:
    """One timed batch, or `out of memory` as the racer's problem."""
    assert racer.extract is not None
    try:
        with visiting(racer.module, device):
            if device.type != "cpu":  # memory is laid out anew in every turn
                racer.extract(waves, lengths)
            wait(device)
            start = time.perf_counter()
            racer.extract(waves, lengths)
            wait(device)
            racer.seconds.append(time.perf_counter() - start)
            if device.type == "cuda":
                racer.gpu_peak_gb = torch.cuda.max_memory_allocated(device) / 1e9
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        racer.problem, racer.seconds = "out of memory", []


@contextmanager
def visiting(module: nn.Module, device: torch.device) -> Iterator[None]:
    """The module on the device, alone, so that the peak of its memory is its own."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        module.to(device)
        yield
    finally:
        module.cpu()
