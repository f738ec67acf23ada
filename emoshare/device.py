"""What a run computes on and in which precision, and how much memory it took."""

from __future__ import annotations

import resource

import torch

from emoshare.config import Config
from emoshare.engine import matrix_bf16
from emoshare.errors import EmoshareError


def choose_device(config: Config) -> torch.device:
    """The device that `trainer.accelerator` and `trainer.device` name."""
    wanted, gpus = config.trainer.accelerator, torch.cuda.device_count()
    if wanted == "gpu" and not gpus:
        raise EmoshareError("trainer.accelerator=gpu: PyTorch sees no GPU here; use trainer.accelerator=auto or cpu")
    mps = torch.backends.mps.is_available()
    if wanted == "mps" and not mps:
        raise EmoshareError("trainer.accelerator=mps: PyTorch sees no Apple GPU; use trainer.accelerator=auto or cpu")
    if wanted == "mps" or (wanted == "auto" and mps):
        return torch.device("mps")
    if wanted == "cpu" or not gpus:
        return torch.device("cpu")
    number = config.trainer.device or 0
    if not 0 <= number < gpus:
        raise EmoshareError(f"trainer.device={number}: this machine has GPUs 0 to {gpus - 1}")
    return torch.device("cuda", number)


def turn(job: int) -> int:
    """Which GPU a sweep's job takes when each takes the next one."""
    return job % max(torch.cuda.device_count(), 1)


def choose_precision(config: Config, device: torch.device) -> str:
    """Lightning's precision; auto: bf16-mixed where the hardware has it, 16-mixed on an older GPU, else 32-true."""
    wanted = config.trainer.precision
    if device.type == "cpu" and wanted in ("16-true", "16-mixed", "16"):
        raise EmoshareError(f"trainer.precision={wanted}: too slow on a CPU; use auto, bf16-mixed or 32-true")
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if device.type == "cpu" and matrix_bf16() else "32-true"


def loop_dtype(config: Config, precision: str) -> torch.dtype:
    """Weights of a backbone in the loop: half precision where it is frozen and the precision allows."""
    if not config.backbone.frozen or precision.startswith(("32", "64")):
        return torch.float32
    return torch.bfloat16 if precision.startswith("bf16") else torch.float16


def peak_memory(device: torch.device) -> dict[str, float | None]:
    """Peak resident memory of the process and peak allocated memory of the GPU, in GB (10⁹ bytes)."""
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    gpu = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return {"host_peak_gb": host / 1e9, "gpu_peak_gb": gpu / 1e9 if gpu is not None else None}
