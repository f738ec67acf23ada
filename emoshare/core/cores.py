"""Usable processor cores, and the number of runs of a sweep that go in parallel on them. No PyTorch."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from emoshare.core.config import Config

WORKER_GB = 0.9  # host memory of a process that trains a head: libraries, and the batches in flight
GPU_RUNS = 4  # runs that share a GPU: an assumption, not measured
GPU_RUN_GB = 4.0  # memory of the GPU for each of them: context, resident frames, a batch
SHARE = 0.8  # of the free host memory, for all of them


def usable_cores() -> int:
    """Processor cores that this process may use: by its affinity, its container's quota, and OMP_NUM_THREADS."""
    limits = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    if quota := cgroup_quota(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")):
        limits.append(max(round(quota), 1))
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads):
        limits.append(int(threads))
    return min(limits)


def cgroup_quota(root: Path, groups: Path) -> float | None:
    """Cores' worth of time that the process's control group allows, the least of it and those above; None: no limit.

    Version 2 writes `quota period` into cpu.max; version 1 has two files, with -1 for no limit. Times in microseconds.
    """
    quotas = []
    try:
        lines = [line.split(":", 2) for line in groups.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return None
    for _, controllers, path in lines:
        base = root if not controllers else root / "cpu"
        if controllers and "cpu" not in controllers.split(","):
            continue
        inner = Path(path.lstrip("/"))
        for folder in {base / part for part in (inner, *inner.parents)}:
            with suppress(OSError, ValueError):
                if controllers:
                    quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
                else:
                    quota, period = (folder / "cpu.max").read_text().split()
                if float(quota) > 0:  # ValueError for "max"
                    quotas.append(float(quota) / float(period))
    return min(quotas, default=None)


@dataclass(frozen=True)
class SideBySide:
    """The number of runs of a sweep that go on at once on this machine."""

    runs: int
    computing: int  # at most this number of them compute frames, or have the backbone in the training loop
    ahead: bool = False  # frames of later runs come before heads of earlier ones: a GPU computes them beside the heads


def side_by_side(configs: Sequence[Config]) -> SideBySide:
    """Resolve `sweep.parallel` for these runs. `auto` picks the largest number that speeds them up.

    A head on stored frames has use for `trainer.threads` cores, by default one, so there are as many runs as cores,
    memory allowing. A backbone at work has use for all cores, or for a GPU. Where GPUs are used,
    `trainer.device=null` gives each run one of its own; else GPU_RUNS share one, which was not measured. An Apple GPU
    gets one run.
    """
    if not configs:
        return SideBySide(1, 1)
    first = configs[0]
    gpus = _gpus() if first.trainer.accelerator in ("auto", "gpu") else 0
    computing = gpus if gpus and first.trainer.device is None else 1
    if first.sweep.parallel != "auto":
        return SideBySide(min(int(first.sweep.parallel), len(configs)), computing, gpus > 0)
    heads = len([config for config in configs if not config.in_loop])
    limits = [len(configs), max(heads, computing), usable_cores() // (first.trainer.threads or 1), _runs_in_memory()]
    if gpus:
        limits.append(gpus if first.trainer.device is None else _runs_on_gpu(first.trainer.device))
    elif first.trainer.accelerator in ("auto", "mps") and (sys.platform, platform.machine()) == ("darwin", "arm64"):
        limits.append(1)
    return SideBySide(max(min(limits), 1), computing, gpus > 0)


def _runs_in_memory() -> int:
    """Runs that fit into the free host memory."""
    import psutil

    return int(psutil.virtual_memory().available * SHARE / (WORKER_GB * 1e9))


def gpu_driver() -> bool:
    """Whether this machine has the driver of a GPU."""
    return any(Path(path).exists() for path in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))


def _gpus() -> int:
    """GPUs that PyTorch sees; it takes seconds to import, and is not asked where no driver is there."""
    if not gpu_driver():
        return 0
    import torch

    return torch.cuda.device_count()


def _runs_on_gpu(number: int) -> int:
    """Runs that share one GPU."""
    import torch

    memory = torch.cuda.get_device_properties(min(number, torch.cuda.device_count() - 1)).total_memory
    return max(min(GPU_RUNS, int(memory / 1e9 / GPU_RUN_GB)), 1)
