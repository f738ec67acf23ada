"""What computes frames: the backbone on PyTorch, or converted to OpenVINO, the faster of the two on a CPU.

Both take the same samples and give the same frames up to the precision that they compute in.

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
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from emoshare.backbone import Backbone, Encoder, frame_count
from emoshare.config import RATE, ExtractConfig
from emoshare.errors import EmoshareError
from emoshare.frontend import FrontEnd

log = logging.getLogger("emoshare")

WORTH_CONVERTING = 20_000_000  # parameters: below, the seconds of the conversion are never won back


class Engine(Protocol):
    name: str  # torch | openvino

    def __call__(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As `Backbone.forward`: (B, N) samples, (B,) samples of speech → frames (B, T, width), frame counts (B,)."""


def matrix_bf16() -> bool:
    """Whether this processor multiplies bfloat16 matrices in hardware (AMX or AVX-512 BF16); without, it is no gain."""
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def resolve_dtype(compute: str, device: torch.device) -> torch.dtype:
    """The precision that extract.compute stands for on the device; `auto`: half where the device gains by it.

    Raises EmoshareError for float16 on a CPU, where it is a hundred times slower.
    """
    if compute == "float16" and device.type == "cpu":
        raise EmoshareError("extract.compute=float16: far too slow on a CPU; use auto, bfloat16 or float32")
    if compute != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[compute]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if device.type == "cpu" and matrix_bf16() else torch.float32


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


def make_engine(backbone: Backbone, config: ExtractConfig, device: torch.device, cache: Path) -> Engine:
    """The engine of the config; where `auto` would convert and the conversion fails, PyTorch with a warning."""
    name = resolve_engine(config.engine, device, backbone.identity)
    if name == "openvino":
        try:
            return OpenVinoEngine(backbone, resolve_dtype(config.compute, device), cache)
        except OSError:  # a full disk or no permission: not the conversion's fault
            raise
        except Exception as error:  # whatever OpenVINO makes of a model
            line = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            if config.engine == "openvino":
                name = backbone.identity["name"]
                raise EmoshareError(f"extract.engine=openvino: can't convert {name} ({line}); use torch") from error
            log.warning("OpenVINO can't convert %s (%s): PyTorch computes its frames", backbone.identity["name"], line)
    return TorchEngine(backbone, device, config.compile)


class TorchEngine:
    """The backbone itself, on the device; its transformer compiled if wanted, block by block: one graph for all."""

    name = "torch"

    def __init__(self, backbone: Backbone, device: torch.device, compile: bool = False) -> None:
        self.backbone, self.device = backbone.to(device), device
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


def converted(backbone: Backbone, cache: Path) -> Path:
    """The model file of the converted backbone, from the cache if it is there."""
    parts = [backbone.identity[key] for key in ("class", "architecture", "layer", "weights")]
    parts.append(str(next(backbone.parameters()).dtype))  # half-precision weights were rounded
    parts += [version(package) for package in ("openvino", "torch", "transformers")]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    folder = cache / "openvino" / key
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        half = Path(tempfile.mkdtemp(prefix=f".{key}-", dir=folder.parent))
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
