"""A trained model as one ONNX file: samples at 16 kHz → shares.

Input: `samples` (B, N) float32. Where clips differ in length, an ONNX file takes `lengths` (B,) int64, too, which may
be left out; for OpenVINO, NaN follows the end of a shorter clip. Output: `shares` (B, E) float32.

Before anything is written, the file is run by its own engine on clips of several lengths and compared with PyTorch.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emoshare.core.config import RATE, SHORTEST
from emoshare.core.errors import EmoshareError, brief, limit_errno
from emoshare.core.files import replacing
from emoshare.core.version import __version__
from emoshare.inference.bundle import Bundle
from emoshare.inference.export.check import Engine, float32_model, largest_error
from emoshare.inference.export.graph import ModelGraph, SamplesAlone, part_graph
from emoshare.inference.model import Model

OPSET = 17  # with LayerNormalization; 2022, read by every onnxruntime since 1.12
LARGEST = 2**31 - 2**20  # bytes of a protobuf file


def export_onnx(bundle: Bundle, out: Path, cache: Path | None = None) -> float:
    """Write a model as an ONNX file, whole or not at all. Returns the largest difference of a share from PyTorch's.

    Raises:
        EmoshareError: there is no model, its backbone is not computed by PyTorch, it is too large for one file, a
            package is missing, or the file's shares differ by more than TOLERANCE.
    """
    require("onnx", ["onnx", "onnxruntime"])
    model = float32_model(bundle, cache)
    graph = graph_of(bundle, model)
    with replacing(out) as temporary:
        write_onnx(graph, temporary, metadata(model))
        return largest_error(model, run_onnx(temporary), bundle.results.run, "ONNX file")


def require(extra: str, packages: Sequence[str]) -> None:
    """Raise EmoshareError where a package is missing, with the command that installs it."""
    from importlib.util import find_spec

    if missing := [name for name in packages if find_spec(name) is None]:
        raise EmoshareError(f"export: {' and '.join(missing)} not installed; run `pip install 'emoshare[{extra}]'`")


def graph_of(bundle: Bundle, model: Model) -> ModelGraph:
    """The model as one module. EmoshareError where a backbone cannot be exported."""
    leaves = [leaf for leaf, _ in bundle.leaves()]
    parts = [part_graph(leaf, part) for leaf, (part, _) in zip(leaves, model.parts, strict=True)]
    return ModelGraph(parts, [weight for _, weight in model.parts], bundle.results.range).eval()


def write_onnx(graph: ModelGraph, path: Path, facts: dict[str, str], samples_alone: bool = False) -> None:
    """Trace the graph into a file, with an input for lengths that may be left out, or with none.

    Raises:
        EmoshareError: it is larger than an ONNX file can be.
    """
    import onnx

    size = sum(tensor.numel() * tensor.element_size() for tensor in graph.state_dict().values())
    if size > LARGEST:
        raise EmoshareError(
            f"export: {size / 1e9:.1f} GB of weights; an ONNX file holds 2 GB at most: export the members of a fusion "
            "one by one, or use --to hub"
        )
    samples = torch.randn(2, min(graph.longest, 2 * RATE) + RATE // 4) * 0.1
    lengths = torch.tensor([samples.shape[1], max(samples.shape[1] // 2, SHORTEST)])
    inputs = {"samples": samples} if samples_alone else {"samples": samples, "lengths": lengths}
    axes = {"samples": {0: "clips", 1: "samples"}, "lengths": {0: "clips"}, "shares": {0: "clips"}}
    try:
        with torch.no_grad(), silent():  # by tracing, as for OpenVINO's engine; the newer exporter needs onnxscript
            torch.onnx.export(
                SamplesAlone(graph).eval() if samples_alone else graph, tuple(inputs.values()), str(path),
                input_names=list(inputs), output_names=["shares"], opset_version=OPSET, dynamo=False,
                dynamic_axes={name: axes[name] for name in (*inputs, "shares")},
            )  # fmt: skip
    except Exception as error:  # whatever the exporter makes of an operation that ONNX has not
        if limit_errno(error):
            raise
        raise EmoshareError(f"export: ONNX cannot express this model ({brief(error)}); use --to hub") from error
    made = onnx.load(path)
    made.producer_name, made.producer_version = "emoshare", __version__
    onnx.helper.set_model_props(made, facts)
    if not samples_alone:  # an input with a value of its own may be left out: every clip then has all N samples.
        # onnxruntime warns of it; of an input of the type optional it does not, but other engines cannot read that
        made.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2**40], np.int64), "lengths"))
    onnx.checker.check_model(made)
    onnx.save(made, path)


@contextmanager
def silent() -> Iterator[None]:
    """Without what tracing has to say of shapes: whether they are right is what the check afterwards finds out."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.onnx._internal")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def metadata(model: Model) -> dict[str, str]:
    """The metadata of a file; JSON where it is more than a word."""
    first = model.parts[0][0]
    facts: dict[str, Any] = {
        "targets": list(model.targets),
        "rate": RATE,
        "window": [
            {
                "seconds": part.window.seconds,
                "pad": part.window.pad,
                "crop": "start" if part.window.crop == "start" else "center",
            }
            for part, _ in model.parts
        ],
        "normalisation": [bool(part.extractor.identity.get("normalize")) for part, _ in model.parts],
        "run": model.results.run,
        "system": model.results.system,
        "backbones": [part.extractor.identity["name"] for part, _ in model.parts],
        "output": getattr(first.config.head, "output", "linear"),
        "devel_error": dict(model.devel_error),
        "emoshare": __version__,
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}


def run_onnx(path: Path) -> Engine:
    """A file in onnxruntime, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(torch.get_num_threads(), 1)
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    return lambda samples, lengths: session.run(["shares"], {"samples": samples, "lengths": lengths})[0]
