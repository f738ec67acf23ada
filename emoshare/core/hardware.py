"""A run's device, precision and use of memory."""

from __future__ import annotations

import gc
import importlib.util
import itertools
import logging
import resource
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from emoshare.core.config import TrainerConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.products import fastest_dtype

log = logging.getLogger("emoshare")


def resolve_dtype(compute: str, device: torch.device) -> torch.dtype:
    """The precision that extract.compute stands for on the device; `auto`: half where the device is faster in it.

    Raises EmoshareError for float16 on a CPU, where it is a hundred times slower.
    """
    if compute == "float16" and device.type == "cpu":
        raise EmoshareError("extract.compute=float16: far too slow on a CPU; use auto, bfloat16 or float32")
    if compute != "auto":
        types = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
        if compute not in types:  # in the file of a stranger
            raise EmoshareError(f"extract.compute={compute}: must be one of {', '.join(types)}")
        return types[compute]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return fastest_dtype() if device.type == "cpu" else torch.float32


def free_memory(device: torch.device) -> int:
    """Bytes that this process may still take; of a GPU after PyTorch has given back what it only keeps for later."""
    if device.type != "cuda":
        import psutil

        return psutil.virtual_memory().available
    gc.collect()  # layer=weighted ties an encoder to itself
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    allowed = total * torch.cuda.get_per_process_memory_fraction(device) - torch.cuda.memory_reserved(device)
    return max(min(free, int(allowed)), 0)


def choose_device(trainer: TrainerConfig) -> torch.device:
    """The device that `trainer.accelerator` and `trainer.device` name."""
    accelerator, gpus = trainer.accelerator, torch.cuda.device_count()
    if accelerator == "gpu" and not gpus:
        raise EmoshareError("trainer.accelerator=gpu: PyTorch sees no GPU here; use trainer.accelerator=auto or cpu")
    mps = torch.backends.mps.is_available()
    if accelerator == "mps" and not mps:
        raise EmoshareError("trainer.accelerator=mps: PyTorch sees no Apple GPU; use trainer.accelerator=auto or cpu")
    if accelerator == "mps" or (accelerator == "auto" and mps):
        return torch.device("mps")
    number = trainer.device or 0
    if accelerator != "cpu" and number >= max(gpus, 1):
        none = "sees no GPU here; with 0 or null the run is on the CPU"
        view = f"sees {gpus}: 0 to {gpus - 1}" if gpus else none
        raise EmoshareError(f"trainer.device={number}: no such GPU; PyTorch {view}")
    if accelerator == "cpu" or not gpus:
        return torch.device("cpu")
    return torch.device("cuda", number)


@contextmanager
def claim_gpu(trainer: TrainerConfig) -> Iterator[int]:
    """The GPU of a run: `trainer.device`, or for null the first that no other run on this machine has claimed so.

    Waits for one where all are taken. The claim ends with the block, and with the process.
    """
    fixed = trainer.device
    anyone = fixed is None and trainer.accelerator in ("auto", "gpu")
    gpus = torch.cuda.device_count() if anyone else 0
    names = [torch.cuda.get_device_properties(number).uuid for number in range(gpus)]
    locks = [FileLock(Path(tempfile.gettempdir()) / f"emoshare-{name}.lock", mode=0o666) for name in names]
    if not locks:
        yield fixed or 0
        return
    for turn in itertools.count():
        number = turn % gpus
        try:
            locks[number].acquire(timeout=1 / gpus)
        except Timeout:
            if turn == gpus - 1:
                log.info("all %d GPUs are taken by other runs; waiting for one", gpus)
            continue
        try:
            yield number
        finally:
            locks[number].release()
        return


def choose_precision(trainer: TrainerConfig, device: torch.device) -> str:
    """Lightning's precision; auto: bf16-mixed where the hardware is faster in it, 16-mixed on an older GPU, else 32."""
    precision = trainer.precision
    if device.type == "cpu" and precision in ("16-true", "16-mixed", "16"):
        raise EmoshareError(f"trainer.precision={precision}: too slow on a CPU; use auto, bf16-mixed or 32-true")
    if precision.startswith("transformer-engine") and importlib.util.find_spec("transformer_engine") is None:
        raise EmoshareError(
            f"trainer.precision={precision}: needs NVIDIA's transformer_engine, which is not installed; use auto"
        )
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if device.type == "cpu" and fastest_dtype() == torch.bfloat16 else "32-true"


def loop_dtype(frozen: bool, precision: str) -> torch.dtype:
    """Weights of a backbone in the loop: half precision where it is frozen and the precision allows."""
    if not frozen or precision.startswith(("32", "64")):
        return torch.float32
    return torch.bfloat16 if precision.startswith("bf16") else torch.float16


def reset_peak_memory(device: torch.device) -> None:
    """Reset the peaks of memory, so that a run's are not those of an earlier one in the same process."""
    with suppress(OSError):  # Linux alone has it
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    if device.type == "cuda" and torch.cuda.is_initialized():  # there is no peak yet otherwise, and PyTorch raises
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> dict[str, float | None]:
    """Peak resident memory of the process and allocated memory of the GPU since `reset_peak_memory`, in GB (10⁹ bytes).

    Where the system cannot reset it (it is not Linux), the process's peak is that since its start.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        host = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    except (OSError, StopIteration):
        host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    gpu = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return {"host_peak_gb": host / 1e9, "gpu_peak_gb": gpu / 1e9 if gpu is not None else None}
