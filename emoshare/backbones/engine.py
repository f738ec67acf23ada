"""What computes frames: the backbone on PyTorch, or converted to OpenVINO, the faster of the two on a CPU.

Both take the same samples and give the same frames up to the precision that they compute in. How many samples at a time
depends on the memory that is free.

Shapes: B clips, N samples, T frames.
"""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from emoshare.backbones.base import Backbone
from emoshare.backbones.compiled import CompiledEncoder
from emoshare.backbones.layers import LayeredEncoder
from emoshare.backbones.masked import MaskedBackbone
from emoshare.backbones.packed import pack, packable
from emoshare.core.errors import EmoshareError, out_of_memory
from emoshare.core.hardware import free_memory

log = logging.getLogger("emoshare")

WORTH_CONVERTING = 20_000_000  # parameters: below, the seconds of the conversion are never won back
SECOND_BYTES = 64 * 2**20  # rough memory that one second of audio takes on its way through a large backbone
CPU_SECONDS = 44.0  # 8 × 5.5 s keep two cores busy; more only takes memory
GPU_SECONDS = 640.0


class Engine(Protocol):
    name: str  # torch | openvino

    def __call__(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As `Backbone.forward`: (B, N) samples, (B,) samples of speech → frames (B, T, width), frame counts (B,)."""


class TorchEngine:
    """The backbone itself, on the device. It takes the backbone over: on a CPU the weights of its encoder are packed.

    compile: the encoder is compiled at its first batch of whole windows, for batches of that shape, and not packed.
    """

    name = "torch"

    def __init__(self, backbone: Backbone, device: torch.device, compile: bool = False) -> None:
        # Nothing is trained here. But for weights without this flag, PyTorch multiplies WavLM's transposed inputs clip
        # by clip instead of all at once, at a third of the speed.
        self.backbone, self.device = backbone.to(device).requires_grad_(True), device
        self.compile = compile and backbone.convertible
        self.samples: int = getattr(backbone, "window_samples", 0)  # of a whole window
        self.compiled: CompiledEncoder | None = None
        layered = isinstance(backbone.encoder, LayeredEncoder) and device.type == "cpu"
        if layered and not self.compile and packable(next(backbone.encoder.parameters()).dtype):
            pack(backbone.encoder)

    def __call__(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        waves, whole = waves.to(self.device), waves.shape[1] == self.samples
        if not self.compile or not whole:
            with torch.no_grad():
                return self.backbone(waves, lengths)
        assert isinstance(self.backbone, MaskedBackbone)
        with torch.no_grad(), torch.autocast(waves.device.type, enabled=False):
            inputs, mask, counts = self.backbone.prepare(waves, lengths)
            return self.backbone.finish(self.frames(inputs, mask), mask), counts

    def frames(self, inputs: Tensor, mask: Tensor | None) -> Tensor:
        """What the encoder takes → its frames (B, T, width), compiled where that is possible."""
        encoder, name = self.backbone.encoder, self.backbone.identity["name"]
        try:
            self.compiled = self.compiled or CompiledEncoder(encoder, inputs, mask)
            if self.compiled.takes(inputs, mask):
                return self.compiled(inputs, mask)
        except Exception as error:  # no C++ compiler, no memory, a model that the compiler can't take
            reason = f"{type(error).__name__}: {error}".split("\n")[0][:200]
            log.warning("%s can't be compiled (%s): it is computed as it is", name, reason)
            self.compile, self.compiled = False, None
        frames: Tensor = encoder(inputs, mask)
        return frames


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


def installed() -> bool:
    return importlib.util.find_spec("openvino") is not None


def check_engine(wanted: str, device: torch.device) -> None:
    """Raise EmoshareError where this machine can't have extract.engine=openvino."""
    if wanted == "openvino" and device.type != "cpu":
        raise EmoshareError(f"extract.engine=openvino: for a CPU, not {device.type}; use auto or torch")
    if wanted == "openvino" and not installed():
        raise EmoshareError("extract.engine=openvino: not installed; pip install openvino, or use auto or torch")


def check_convertible(wanted: str, convertible: bool, name: str) -> None:
    """Raise EmoshareError where extract.engine=openvino is asked for and a backbone has no network to convert."""
    if wanted == "openvino" and not convertible:
        raise EmoshareError(f"extract.engine=openvino: {name} has no network to convert; use auto or torch")


def choose_engine(wanted: str, device: torch.device, backbone: Backbone) -> str:
    """The engine that extract.engine stands for with a backbone: `auto` converts large ones for a CPU.

    Raises EmoshareError for openvino without the package, on a GPU, or for a backbone that it can't convert.
    """
    check_engine(wanted, device)
    check_convertible(wanted, backbone.convertible, backbone.identity["name"])
    if wanted == "auto":
        large = backbone.convertible and (backbone.identity.get("parameters") or 0) >= WORTH_CONVERTING
        return "openvino" if large and device.type == "cpu" and installed() else "torch"
    return wanted


def make_engine(
    backbone: Backbone, name: str, device: torch.device, dtype: torch.dtype, cache: Path, compile: bool = False
) -> Engine:
    """The engine of a name, as `choose_engine` gives it.

    `dtype`: what it may compute in. Raises ConversionError where OpenVINO can't convert the backbone.
    """
    if name == "torch":
        return TorchEngine(backbone, device, compile)
    from emoshare.backbones.openvino import OpenVinoEngine

    try:
        return OpenVinoEngine(backbone, dtype, cache)
    except (OSError, EmoshareError):  # a full disk, no permission, a damaged file: not the conversion's fault
        raise
    except Exception as error:  # whatever OpenVINO makes of a model
        raise ConversionError(backbone.identity["name"], error) from error


class ConversionError(EmoshareError):
    """OpenVINO can't convert a model. `lasting`: not for want of memory, of which there may be more the next time."""

    def __init__(self, name: str, error: Exception) -> None:
        self.name, self.lasting = name, not out_of_memory(error)
        self.reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        super().__init__(f"extract.engine=openvino: can't convert {name} ({self.reason}); use torch")
