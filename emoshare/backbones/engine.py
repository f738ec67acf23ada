"""What computes frames: the backbone on PyTorch, or converted to OpenVINO, the faster of the two on a CPU.

Both take the same samples and give the same frames up to the precision that they compute in. How many samples at a time
depends on the memory that is free.

Shapes: B clips, N samples, T frames.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import torch
from filelock import FileLock
from torch import Tensor

from emoshare.backbones.base import Backbone, Encoder
from emoshare.backbones.frontend import FrontEnd
from emoshare.core.config import RATE, ExtractConfig
from emoshare.core.errors import EmoshareError, out_of_memory
from emoshare.core.files import write_text
from emoshare.core.hardware import free_memory, resolve_dtype
from emoshare.data.window import frame_count

log = logging.getLogger("emoshare")

WORTH_CONVERTING = 20_000_000  # parameters: below, the seconds of the conversion are never won back
SECOND_BYTES = 64 * 2**20  # rough memory that one second of audio takes on its way through a large backbone
CPU_SECONDS = 44.0  # 8 × 5.5 s keep two cores busy; more only takes memory
GPU_SECONDS = 640.0


class Engine(Protocol):
    name: str  # torch | openvino

    def __call__(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As `Backbone.forward`: (B, N) samples, (B,) samples of speech → frames (B, T, width), frame counts (B,)."""


def batch_seconds(wanted: str, device: torch.device) -> float:
    """Audio seconds in a batch: as wanted, or what memory holds and compute has use for."""
    if wanted == "auto":
        share, most = (1, GPU_SECONDS) if device.type == "cuda" else (4, CPU_SECONDS)
        return min(free_memory(device) / share / SECOND_BYTES, most)
    try:
        seconds = float(wanted)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise EmoshareError(f"extract.max_batch_seconds={wanted}: must be auto or seconds of audio greater than 0")
    return seconds


def resolve_engine(engine: str, device: torch.device, identity: dict[str, Any]) -> str:
    """The engine that extract.engine stands for with a backbone of this identity.

    Raises EmoshareError for openvino without the package, on a GPU, or for a backbone without a network.
    """
    installed = importlib.util.find_spec("openvino") is not None
    if engine == "auto":
        large = identity["parameters"] >= WORTH_CONVERTING
        return "openvino" if installed and device.type == "cpu" and large else "torch"
    if engine == "openvino":
        if identity["type"] == "logmel":
            raise EmoshareError("extract.engine=openvino: logmel has no network to convert; use auto or torch")
        if device.type != "cpu":
            raise EmoshareError(f"extract.engine=openvino: for a CPU, not {device.type}; use auto or torch")
        if not installed:
            raise EmoshareError("extract.engine=openvino: not installed; pip install openvino, or use auto or torch")
    return engine


def settle_engine(config: ExtractConfig, device: torch.device, identity: dict[str, Any], cache: Path) -> ExtractConfig:
    """The config with torch in place of an `auto` that has failed to convert this model before; a warning each time."""
    if config.engine == "auto" and resolve_engine("auto", device, identity) == "openvino":
        failure = failure_of(identity, resolve_dtype(config.compute, device), cache)
        if failure.exists():
            said = (identity["name"], failure.read_text(encoding="utf-8").strip(), failure)
            log.warning("OpenVINO can't convert %s (%s): PyTorch computes its frames; delete %s to try again", *said)
            return replace(config, engine="torch")
    return config


def make_engine(backbone: Backbone, config: ExtractConfig, device: torch.device, cache: Path) -> Engine:
    """The engine of the config; where `auto` would convert and the conversion fails, PyTorch with a warning.

    The failure is remembered for `settle_engine`, unless memory did not suffice, as it may the next time.
    """
    if resolve_engine(config.engine, device, backbone.identity) == "openvino":
        name = backbone.identity["name"]
        failure = failure_of(backbone.identity, next(backbone.parameters()).dtype, cache)
        try:
            engine = OpenVinoEngine(backbone, resolve_dtype(config.compute, device), cache)
        except OSError:  # a full disk or no permission: not the conversion's fault
            raise
        except Exception as error:  # whatever OpenVINO makes of a model
            line = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            if config.engine == "openvino":
                raise EmoshareError(f"extract.engine=openvino: can't convert {name} ({line}); use torch") from error
            log.warning("OpenVINO can't convert %s (%s): PyTorch computes its frames", name, line)
            if not out_of_memory(error):
                write_text(failure, line + "\n")
        else:
            failure.unlink(missing_ok=True)
            return engine
    return TorchEngine(backbone, device, config.compile)


class TorchEngine:
    """The backbone itself, on the device; its transformer compiled if wanted, block by block: one graph for all."""

    name = "torch"

    def __init__(self, backbone: Backbone, device: torch.device, compile: bool = False) -> None:
        # Nothing learns here. But for weights without this flag, PyTorch multiplies WavLM's transposed inputs clip by
        # clip instead of all at once, at a third of the speed.
        self.backbone, self.device = backbone.to(device).requires_grad_(True), device
        if compile and isinstance(backbone.encoder, Encoder):
            for block in backbone.encoder.transformer.layers:
                block.forward = torch.compile(block.forward, dynamic=True)

    def __call__(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return self.backbone(waves.to(self.device), lengths)


class OpenVinoEngine:
    """The backbone converted to OpenVINO for any number and length of clips; the conversion is kept in `cache`.

    `dtype`: bfloat16 lets OpenVINO compute in it, float32 doesn't. Frames are float32 either way.
    """

    name = "openvino"

    def __init__(self, backbone: Backbone, dtype: torch.dtype, cache: Path) -> None:
        self.backbone = backbone
        hints = {
            "INFERENCE_PRECISION_HINT": "bf16" if dtype == torch.bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",  # one batch at a time on all threads
        }
        self.model = openvino().Core().compile_model(converted(backbone, cache), "CPU", hints)

    def __call__(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        waves, mask, counts = self.backbone.prepare(waves, lengths)
        speech = torch.ones(len(waves), frame_count(waves.shape[1]), dtype=torch.bool) if mask is None else mask
        frames = self.model([waves.contiguous().numpy(), speech.numpy()])[0]  # (B, T, width)
        return self.backbone.finish(torch.from_numpy(frames), mask), counts


def openvino() -> Any:
    """The package, without its telemetry, which would call its makers on import."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def conversion(identity: dict[str, Any], dtype: torch.dtype, cache: Path) -> Path:
    """The folder of a model that is converted from weights of this precision: half-precision ones were rounded."""
    parts = [identity.get(key) for key in ("class", "architecture", "layer", "weights")]
    parts += [str(dtype), *(version(package) for package in ("openvino", "torch", "transformers"))]
    return cache / "openvino" / hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def failure_of(identity: dict[str, Any], dtype: torch.dtype, cache: Path) -> Path:
    """The file that says why the model could not be converted."""
    return conversion(identity, dtype, cache).with_suffix(".failed")


def converted(backbone: Backbone, cache: Path) -> Path:
    """The model file of the converted backbone, from the cache if it is there; of two processes the second waits."""
    folder = conversion(backbone.identity, next(backbone.parameters()).dtype, cache)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            for stale in folder.parent.glob(f".{folder.name}-*"):  # of a process that was killed
                shutil.rmtree(stale, ignore_errors=True)
            half = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
            try:
                openvino().save_model(convert(backbone), half / "model.xml", compress_to_fp16=False)
                os.replace(half, folder)
            finally:
                shutil.rmtree(half, ignore_errors=True)
    return folder / "model.xml"


def convert(backbone: Backbone) -> Any:
    """The encoder as an OpenVINO model: samples (B, N) and frames of speech (B, T) → frames (B, T, width).

    From float32 weights and ordinary convolutions, for which OpenVINO has kernels of its own. The mask is an input also
    where nothing is masked: without it, OpenVINO 2026.4 computes every window wrongly whose model first saw one of a
    single frame.
    """
    encoder = copy.deepcopy(backbone.encoder).float()
    if isinstance(encoder.features, FrontEnd):
        encoder.features = encoder.features.original
    mask = torch.ones(2, frame_count(RATE), dtype=torch.bool)
    mask[1, 20:] = False  # so that tracing takes the way of a mask
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # of tracing, about shapes that the tests vary
        return openvino().convert_model(encoder, example_input=(torch.zeros(2, RATE), mask), input=[(-1, -1)] * 2)
