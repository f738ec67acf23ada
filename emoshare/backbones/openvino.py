"""A backbone converted to OpenVINO, the faster engine on a CPU; conversions are kept under the cache.

Shapes: B clips, N samples, T frames.
"""

from __future__ import annotations

import copy
import errno
import functools
import os
import shutil
import sys
import tempfile
import threading
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor

from emoshare.backbones.base import Backbone
from emoshare.backbones.frontend import FrontEnd
from emoshare.backbones.masked import MaskedBackbone
from emoshare.core.hashing import check_digests, digest, write_digests


class OpenVinoEngine:
    """The backbone converted to OpenVINO for any number and length of clips; the conversion is kept in `cache`.

    `dtype`: bfloat16 lets OpenVINO compute in it, float32 doesn't. Frames are float32 either way.
    """

    name = "openvino"

    def __init__(self, backbone: Backbone, dtype: torch.dtype, cache: Path) -> None:
        assert isinstance(backbone, MaskedBackbone)
        self.backbone = backbone
        hints = {
            "INFERENCE_PRECISION_HINT": "bf16" if dtype == torch.bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",  # one batch at a time on all threads
        }
        self.model = core().compile_model(converted(backbone, cache), "CPU", hints)
        self.lock = threading.Lock()  # a compiled model computes for one thread at a time

    def __call__(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        waves, mask, counts = self.backbone.prepare(waves, lengths)
        speech = self.backbone.everywhere(waves) if mask is None else mask
        with self.lock:
            frames = self.model([waves.contiguous().numpy(), speech.numpy()])[0]  # (B, T, width)
        return self.backbone.finish(torch.from_numpy(frames), mask), counts


def openvino() -> Any:
    """The package, without its telemetry, which would call its makers on import."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


@functools.cache
def core() -> Any:
    """OpenVINO's runtime, one for the whole process, which is never given back.

    A runtime gives the thread a stack for signal handlers, and puts back the one before when it ends. Of two that end
    in the order they began, the second puts back one that is gone: the next signal (Ctrl-C, or the end of a process
    that loads clips) kills this process without a word.
    """
    return openvino().Core()


def conversion(identity: dict[str, Any], dtype: torch.dtype, cache: Path) -> Path:
    """The folder of a model that is converted from weights of this precision: half-precision ones were rounded."""
    parts = [identity.get(key) for key in ("class", "architecture", "layer", "weights")]
    parts += [str(dtype), *(version(package) for package in ("openvino", "torch", "transformers"))]
    return cache / "openvino" / digest(parts)


def converted(backbone: MaskedBackbone, cache: Path) -> Path:
    """The model file of the converted backbone, from the cache if it is there; of two processes the second waits."""
    folder = conversion(backbone.identity, next(backbone.parameters()).dtype, cache)
    if folder.exists():  # also in a cache that can't be written
        check_digests(folder, f"delete {folder}, and the backbone is converted again")
        return folder / "model.xml"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            for stale in folder.parent.glob(f".{folder.name}-*"):  # of a process that was killed
                shutil.rmtree(stale, ignore_errors=True)
            unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
            try:
                save_model(convert(backbone), unfinished / "model.xml")
                write_digests(unfinished)
                os.replace(unfinished, folder)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return folder / "model.xml"


def save_model(model: Any, path: Path) -> None:
    """Write a model's .xml and .bin. OSError where the disk is full."""
    try:
        openvino().save_model(model, path, compress_to_fp16=False)
    except RuntimeError as error:
        if "iostream" not in str(error):
            raise
        full = errno.ENOSPC  # or another limit: C++'s streams do not say which
        raise OSError(full, os.strerror(full), str(path)) from error


def convert(backbone: MaskedBackbone) -> Any:
    """The encoder as an OpenVINO model: samples (B, N) and frames of speech (B, T) → frames (B, T, width).

    For an encoder of mel features, these and the mask that belongs to them.

    From float32 weights and ordinary convolutions, for which OpenVINO has kernels of its own. The mask is an input also
    where nothing is masked: without it, OpenVINO 2026.4 computes every window wrongly whose model first saw one of a
    single frame.
    """
    encoder = copy.deepcopy(backbone.encoder).float()
    if isinstance(encoder.features, FrontEnd):
        encoder.features = encoder.features.original
    example, mask = backbone.example()  # with a mask, so that tracing takes the way of one
    shape = tuple(-1 if axis in backbone.varying() else size for axis, size in enumerate(example.shape))
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # of tracing, about shapes that the tests vary
        return openvino().convert_model(encoder, example_input=(example, mask), input=[shape, (-1, -1)])
