"""A trained model as OpenVINO's model.xml and model.bin, converted from an ONNX file that is not kept."""

from __future__ import annotations

import errno
import functools
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from emoshare.core.files import with_path
from emoshare.core.leftovers import temporary_folder
from emoshare.inference.bundle import Bundle
from emoshare.inference.export.check import Engine, float32_model, largest_error
from emoshare.inference.export.graph import ModelGraph
from emoshare.inference.export.onnx import graph_of, metadata, require, write_onnx
from emoshare.inference.model import Model


def export_openvino(bundle: Bundle, out: Path, cache: Path | None = None) -> float:
    """Export as `export_onnx` does, for OpenVINO: `out` is the .xml file, and the weights lie beside it as .bin."""
    require("onnx,openvino", ["onnx", "openvino"])
    model = float32_model(bundle, cache)
    graph = graph_of(bundle, model)
    with temporary_folder(out) as place:
        try:
            error = write_openvino(graph, model, place / out.name)
            os.replace((place / out.name).with_suffix(".bin"), out.with_suffix(".bin"))
            os.replace(place / out.name, out)
        except Exception as problem:
            raise with_path(problem, out, place)  # noqa: B904 (it is the error itself, or has it as its cause)
    return error


def write_openvino(graph: ModelGraph, model: Model, path: Path) -> float:
    """Write OpenVINO's two files, and more beside them; as `export_openvino`. OSError where the disk is full."""
    passing = path.with_name("model.onnx")
    write_onnx(graph, passing, {}, samples_alone=True)
    converted = openvino().convert_model(passing)
    for key, value in metadata(model).items():
        converted.set_rt_info(value, ["emoshare", key])
    try:
        openvino().save_model(converted, path, compress_to_fp16=False)
    except RuntimeError as error:
        if "iostream" not in str(error):
            raise
        full = errno.ENOSPC  # or another limit: C++'s streams do not say which
        raise OSError(full, os.strerror(full), str(path)) from error
    return largest_error(model, run_openvino(path), model.results.run, "OpenVINO model")


def run_openvino(path: Path) -> Engine:
    """A file in OpenVINO, on the CPU, in float32 whatever the processor likes better."""
    compiled = core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def engine(samples: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        after = np.arange(samples.shape[1]) >= lengths[:, None]
        return compiled(np.where(after, np.float32(np.nan), samples))[0]

    return engine


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
