"""Estimates from measured rates: hours, disk and memory of a run, and of a sweep."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from emoshare.core.config import RATE, Config, hidden_states
from emoshare.core.text import console_table
from emoshare.data.window import frame_count
from emoshare.store.tensors import DTYPES

TRAIN, DEVEL = 0.61, 0.19  # of a corpus, as ComParE 2023 divides its own (31,745, 9,925 and 10,143 clips)
HOURS = ("extract_hours", "head_hours", "store_hours", "loop_hours")


def durations(mean: float, clips: int = 2000) -> np.ndarray:
    """Seconds of `clips` clips, (N,), spread as ComParE 2023's are: log-normal, from 1.2 to 7.98 s at a mean of 2.9."""
    places = (np.arange(clips) + 0.5) / clips
    spread = np.array([statistics.NormalDist().inv_cdf(place) for place in places.tolist()])
    seconds = np.clip(2.65 * np.exp(0.45 * spread), 1.2, 7.98)
    return seconds * mean / seconds.mean()


def clip_seconds(config: Config) -> float:
    """Seconds of audio per clip that the backbone goes through; without padding, the mean of what the window keeps."""
    seconds = config.window.seconds
    if config.window.pad == "zeros":
        return seconds
    return float(np.minimum(durations(config.bench.clip_seconds), seconds).mean())


def new_parts(windows: Sequence[float], mean: float) -> list[tuple[float, float]]:
    """Shares of the clips and of their audio yet to compute per window, in ascending order, without padding.

    A clip that is shorter than two windows has the same frames in both.
    """
    clips, parts, before = durations(mean), [], 0.0
    for window in windows:
        seconds, new = np.minimum(clips, window), clips > before
        parts.append((float(new.mean()), float(seconds[new].sum() / seconds.sum())))
        before = window
    return parts


def hours(config: Config, rates: dict[str, Any], recipe: str) -> dict[str, Any]:
    """Hours of one run of `trainer.epochs` on `bench.corpus` clips, and the disk that its frames take.

        extract = clips · seconds / (× real time)
        head    = passes · steps / (steps per second in Lightning)
        store   = extract + head
        loop    = passes · seconds / (× real time) + head

    A pass is a clip of train or devel in an epoch, and of devel or test when predictions are written. One without
    gradients is counted as long as one with, and frames are taken as read from memory. NaN follows where the
    backbone could not run. A run whose frames can't be stored extracts nothing: store = loop.

    recipe: equal for configs that train from the same stored frames.
    """
    seconds, clips = clip_seconds(config), config.bench.corpus
    states = hidden_states(config.backbone.layer, config.backbone.layers)
    realtime = rates["extraction"][rates["ours"]]["realtime"] or math.nan
    passes = clips * (config.trainer.epochs * (TRAIN + DEVEL) + 1 - TRAIN)
    head = passes / config.data.batch_size / rates["head"]["lightning_steps_per_second"] / 3600
    loop = passes * seconds / realtime / 3600 + head
    frames = frame_count(round(seconds * RATE))
    size = frames * states * config.backbone.dim * DTYPES[config.extract.precision].itemsize
    extract = clips * seconds / realtime / 3600
    if config.in_loop:
        size, extract = 0, 0.0
    store = extract + head if size else loop
    return {
        "recipe": recipe,
        "window": config.window.seconds,
        "clip_seconds": config.bench.clip_seconds,
        "clips": clips,
        "epochs": config.trainer.epochs,
        "bytes_per_clip": size,
        "disk_gb": size * clips / 1e9,
        "extract_hours": extract,
        "head_hours": head,
        "store_hours": store,
        "loop_hours": loop,
        "speedup": loop / store,
    }


def memory(config: Config, rates: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The GPU memory that extraction takes, the limit, and whether it fits; on a CPU what the weights take at least."""
    row = rates["extraction"][rates["ours"]]
    limit = torch.cuda.get_device_properties(device).total_memory / 1e9 if device.type == "cuda" else None
    if limit is not None and config.bench.gpu_gb:
        limit = min(limit, config.bench.gpu_gb)
    return {
        "peak_gb": row["gpu_peak_gb"],
        "limit_gb": limit,
        "fits": None if limit is None else row["problem"] is None,
        "weights_gb": (config.backbone.parameters or 0) * 2 / 1e9,  # in half precision
    }


def total(results: list[dict[str, Any]], beside: int = 1) -> dict[str, Any]:
    """Sums over the runs of a sweep; frames that several runs share are extracted and stored once.

    beside: heads that are trained at the same time. `beside_hours` counts extraction as one at a time, as on a CPU,
    where it takes all cores, and heads as if none slowed another down.
    """
    runs = [result["estimate"] for result in results]
    known = [run for run in runs if not math.isnan(run["store_hours"] + run["loop_hours"])]
    extracted = list(extractions([run for run in runs if run["bytes_per_clip"]]))
    sums = {
        "runs": len(runs),
        "unknown": len(runs) - len(known),
        "clips_asked": sum(run["clips"] for run in runs if run["bytes_per_clip"]),
        "clips_computed": round(math.fsum(run["clips"] * clips for run, clips, _ in extracted)),
        "disk_gb": math.fsum(run["disk_gb"] * audio for run, _, audio in extracted),
        "extract_hours": math.fsum(run["extract_hours"] * audio for run, _, audio in extracted if run in known),
        "head_hours": math.fsum(run["head_hours"] for run in known),
        "loop_hours": math.fsum(run["loop_hours"] for run in known),
    }
    shared = math.fsum(run["store_hours"] - run["extract_hours"] for run in known)
    sums["store_hours"] = sums["extract_hours"] + shared
    sums["beside"], sums["beside_hours"] = beside, sums["extract_hours"] + shared / beside
    sums["speedup"] = sums["loop_hours"] / sums["store_hours"] if known else math.nan
    return sums


def extractions(runs: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], float, float]]:
    """A run of each recipe and window, and the parts of its clips and of their audio that no other one computes."""
    recipes: dict[str, dict[float, dict[str, Any]]] = {}
    for run in runs:
        recipes.setdefault(run["recipe"], {}).setdefault(run["window"], run)
    for windows in recipes.values():
        ascending = sorted(windows)
        parts = new_parts(ascending, windows[ascending[0]]["clip_seconds"])
        yield from ((windows[window], *part) for window, part in zip(ascending, parts, strict=True))


# Tables


def speed_text(result: dict[str, Any]) -> str:
    """The tables of one config."""
    where, head, batch = result["machine"], result["head"], result["batch"]
    titles = ("extraction", "s per batch", "× real time", "× first", "of GEMM peak", "GPU GB")
    rows, cells = result["extraction"], []
    base = next(iter(rows.values()))["realtime"]
    for name, row in rows.items():
        if row["problem"]:
            continue
        numbers = (
            f"{statistics.median(row['seconds']):.3g}",
            f"{row['realtime']:.1f}",
            f"{row['realtime'] / base:.2f}" if base else "–",
            f"{100 * row['gemm_fraction']:.0f} %" if row["gemm_fraction"] else "–",
            f"{row['gpu_peak_gb']:.1f}" if row["gpu_peak_gb"] else "–",
        )
        cells.append((f"{name}{' (taken)' if name == result['ours'] else ''}", *numbers))
    notes = "".join(f"not run: {name}: {row['problem']}\n" for name, row in rows.items() if row["problem"])
    peaks = ", ".join(f"{kind} {1000 * peak:.0f}" for kind, peak in result["gemm_peak_tflops"].items())
    operations = next(iter(rows.values()))["flops"]
    work = f" ({operations / 1e9:.0f} GFLOP a batch)" if peaks and operations else ""
    return (
        f"\n{result['backbone']}, {result['window']:g} s, {batch['clips']} clips in a batch "
        f"({batch['audio_seconds']:g} s of audio)\n{machine_line(where)}\n\n{console_table(titles, cells)}{notes}"
        + (f"GEMM peak at the model's shapes, GFLOP/s: {peaks}{work}\n" if peaks else "")
        + f"head: {head['lightning_steps_per_second']:.0f} steps/s in Lightning, {head['bare_steps_per_second']:.0f} "
        f"in a bare loop (overhead {head['overhead']:.2f}×), {head['precision']}\n" + verify_text(result)
    )


def verify_text(result: dict[str, Any]) -> str:
    """The cost of the stored frames' checksums for a process, once; nothing where none are stored."""
    rate, size = result["head"].get("verified_bytes_per_second"), 1e9 * result["estimate"]["disk_gb"]
    if not size or not rate:
        return ""
    return f"checksums of stored frames: {rate / 1e9:.2g} GB/s, {size / rate:.1f} s for all, once a process and core\n"


def machine_line(where: dict[str, Any]) -> str:
    """A machine in one line."""
    bits = "with" if where["bf16"] else "without"
    return (
        f"{where['device']}, {where['threads']} thread{'s' * (where['threads'] > 1)}, {bits} bfloat16 instructions,"
        f" {where['memory_gb']:.0f} GB; PyTorch {where['torch']}, emoshare {where['commit']}"
    )


def sweep_text(results: list[dict[str, Any]], beside: int = 1) -> str:
    """The estimate of a whole sweep, a line for each cell of backbone and window.

    beside: heads that are trained at the same time.
    """
    sums, first = total(results, beside), results[0]["estimate"]
    titles = (
        "backbone", "window", "runs", "kB a clip", "disk GB", "extract h", "head h", "store h", "loop h", "×",
    )  # fmt: skip
    rows = []
    cells: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for result in results:
        cells.setdefault((result["backbone"], result["window"]), []).append(result)
    for (backbone, window), members in cells.items():
        size = f"{members[0]['estimate']['bytes_per_clip'] / 1e3:.0f}"
        rows.append((backbone, f"{window:g} s", str(len(members)), size, *sum_cells(total(members))))
    if len(cells) > 1:
        rows.append(("all", "", str(len(results)), "", *sum_cells(sums)))
    return (
        f"\nestimate for {first['clips']} clips and {first['epochs']} epochs, from the rates above: frames extracted "
        f"once and heads trained from the store, or the backbone in the loop\n\n{console_table(titles, rows)}"
        + f"frames of {sums['clips_computed']:,} clips are computed for {sums['clips_asked']:,} that the runs ask for\n"
        + (f"with {beside} heads side by side: {sums['beside_hours']:.3g} h\n" if beside > 1 else "")
        + (f"{sums['unknown']} runs that could not be measured are left out\n" if sums["unknown"] else "")
        + "".join({memory_line(result): None for result in results})
    )


def sum_cells(sums: dict[str, Any]) -> list[str]:
    values = [sums[key] for key in ("disk_gb", *HOURS, "speedup")]
    return [f"{value:.0f}" if value >= 100 else f"{value:.3g}" for value in values]


def memory_line(result: dict[str, Any]) -> str:
    """Whether a config fits the GPU, in one line."""
    gpu, name = result["memory"], f"{result['backbone']}, {result['window']:g} s"
    if gpu["limit_gb"] is None:
        least = f"; its weights alone take {gpu['weights_gb']:.1f} GB in half precision" if gpu["weights_gb"] else ""
        return f"GPU memory of {result['backbone']}: not measured on a CPU{least}\n"
    if not gpu["fits"]:
        return f"GPU memory of {name}: more than {gpu['limit_gb']:.0f} GB at this batch\n"
    return f"GPU memory of {name}: {gpu['peak_gb']:.1f} GB at most, of {gpu['limit_gb']:.0f} GB\n"
