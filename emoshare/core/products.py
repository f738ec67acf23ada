"""Matrix products on a CPU: weights packed once, and the precision in which this processor multiplies fastest.

Instructions do not tell which that is: on some processors with AVX-512 BF16 PyTorch multiplies bfloat16 at 0.6 times
the speed of float32, on others with AMX at four times. So both are measured once and remembered by processor.

Shapes: T frames, D features.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import platform
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor, nn

from emoshare.core.files import write_json

log = logging.getLogger("emoshare")
GAIN = 1.1  # bfloat16 has to be this much faster: float32 is the more exact
SHAPE = (512, 1024, 4096)  # frames, features in and out: a layer of a large encoder, 4.3 GFLOP
SECONDS = 0.1  # of measuring, in each precision


class PackedLinear(nn.Module):
    """A linear layer (…, D) → (…, D'), or a convolution of kernel 1 over its rows, with the activation after it."""

    def __init__(self, layer: nn.Linear | nn.Conv1d, activation: str = "none") -> None:
        """activation: oneDNN's name of it: none, gelu or swish."""
        super().__init__()
        self.activation, self.bias = activation, layer.bias
        self.packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach().flatten(1), None)

    def forward(self, rows: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(rows, self.packed, self.bias, self.activation, [], "none")


def packable(dtype: torch.dtype) -> bool:
    """Whether this processor and this build of PyTorch multiply packed weights of the precision."""
    if platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def matrix_bf16() -> bool:
    """Whether this processor has instructions for products of bfloat16 matrices (AMX or AVX-512 BF16)."""
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def fastest_dtype() -> torch.dtype:
    """The precision, float32 or bfloat16, that this CPU multiplies fastest in; the reason goes to each run's log."""
    if not matrix_bf16():
        return torch.float32
    rates = known_rates()
    faster = rates["bfloat16"] > GAIN * rates["float32"]
    log.debug(  # standard output may be a table
        "auto: %s on this CPU, as its matrix products reach %.0f GFLOP/s in bfloat16 and %.0f in float32",
        "bfloat16" if faster else "float32", rates["bfloat16"], rates["float32"],
    )  # fmt: skip
    return torch.bfloat16 if faster else torch.float32


@functools.cache
def known_rates() -> dict[str, float]:
    """`load_rates`, once in a process."""
    return load_rates()


def load_rates() -> dict[str, float]:
    """Precision → GFLOP/s of this processor with this PyTorch, as remembered, or as measured and remembered now.

    They are remembered for the user, not for a project: a precision that changed from one command to the next would
    have all frames computed again. Of processes that start together one measures: on a busy machine two may disagree.
    """
    try:
        path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "emoshare" / "products.json"
    except RuntimeError:  # a user without a home
        return measure_rates()
    model, stepping = _cpu_fact("model\t"), _cpu_fact("stepping")  # a cloud's processors share one name
    machine = f"{processor()} {model}.{stepping}, PyTorch {torch.__version__}"
    with ExitStack() as stack:
        if remembered := _read_rates(path).get(machine):
            return remembered
        with suppress(OSError, NotImplementedError):  # then it is measured again next time
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(path.with_suffix(".lock")))
        known = _read_rates(path)
        if machine not in known:
            known[machine] = measure_rates()
            with suppress(OSError):
                write_json(path, known)
        return known[machine]


def _read_rates(path: Path) -> dict[str, dict[str, float]]:
    """Machine → rates, as far as the file has whole ones."""
    try:
        known = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
    whole: dict[str, dict[str, float]] = {}
    for machine, rates in known.items():
        with suppress(ValueError, TypeError, KeyError):
            whole[machine] = {name: float(rates[name]) for name in ("bfloat16", "float32")}
    return whole


def measure_rates() -> dict[str, float]:
    """Precision → GFLOP/s of a large encoder's product, the best of turns, so that all meet the same machine."""
    rows, width, columns = SHAPE
    layers: dict[str, tuple[nn.Module, Tensor]] = {}
    best: dict[str, float] = {}
    for dtype in (torch.bfloat16, torch.float32):
        layer: nn.Module = nn.Linear(width, columns, dtype=dtype).requires_grad_(False)
        layer = PackedLinear(layer) if packable(dtype) else layer  # type: ignore[arg-type]
        layers[str(dtype).removeprefix("torch.")] = layer, torch.randn(rows, width, dtype=dtype)
    end = time.perf_counter() + SECONDS * len(layers)
    while len(best) < len(layers) or time.perf_counter() < end:
        for name, (layer, frames) in layers.items():
            best[name] = max(best.get(name, 0.0), rate(layer, frames, 2) / 1e9)
    return best


def rate(layer: nn.Module, frames: Tensor, rounds: int) -> float:
    """Operations per second of a linear layer without a bias, (T, D) → (T, D'), over `rounds` calls."""
    work = 2.0 * rounds * frames.numel() * layer(frames).shape[1]
    wait(frames.device)
    start = time.perf_counter()
    for _ in range(rounds):
        layer(frames)
    wait(frames.device)
    return work / (time.perf_counter() - start)


def wait(device: torch.device) -> None:
    """Wait until the device has done its work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def processor() -> str:
    """The processor's name, where Linux tells it."""
    return _cpu_fact("model name") or platform.processor() or platform.machine()


def _cpu_fact(name: str) -> str:
    """A line of Linux's description of the first core; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
