"""`emoshare bench`: what this machine does with a backbone and a window, and what a sweep of them would take."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import torch

from emoshare.bench import estimate
from emoshare.bench.extraction_speed import extraction_speed
from emoshare.bench.memory import memory_text, training_memory
from emoshare.bench.training_speed import training_speed
from emoshare.core.config import RATE, Config
from emoshare.core.files import write_json
from emoshare.core.products import matrix_bf16, processor
from emoshare.core.version import __version__
from emoshare.data.window import frame_count
from emoshare.runs.identity import identify, short_hash, without_seed
from emoshare.runs.resolved import ResolvedRun

log = logging.getLogger("emoshare")
KNOWN: dict[str, dict[str, Any]] = {}  # what was measured for an earlier config of the same command


def run(asked: ResolvedRun, recipe: str) -> dict[str, Any]:
    """Measure one config, print its table, write outputs/bench/<backbone>-<seconds>s-<8 hex>.json.

    recipe: equal for configs that train from the same stored frames, as those do that differ in the seed alone. What an
    earlier config of the process has measured is not measured again.
    """
    config, device = asked.config, asked.device
    if config.bench.gpu_gb and device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(config.bench.gpu_gb * 1e9 / total, 1.0), device)
    measured = dict(KNOWN)
    samples = round(estimate.clip_seconds(config) * RATE)
    engines = (config.backbone, config.window, config.extract, config.bench)
    speed = measure_once(extraction_speed, asked, samples, engines)
    parts = (config.backbone, config.head, config.loss, config.optimizer, config.trainer, config.data, config.extract)
    head = measure_once(training_speed, asked, frame_count(samples), parts)
    rates = {**speed, "head": head}
    result = {
        "backbone": config.backbone.name,
        "window": config.window.seconds,
        "seed": config.seed,
        "machine": machine(device),
        **rates,
        "estimate": estimate.hours(config, rates, recipe),
        "memory": estimate.memory(config, rates, device),
    }
    write_json(path_of(config), result)
    if measured != KNOWN:
        print(estimate.speed_text(result))
    return result


def print_estimated_memory(config: Config) -> None:
    """Print the GPU memory of a backbone that is trained, and write it as `run` does; nothing is measured.

    Raises:
        EmoshareError: it is of a family that cannot be counted.
    """
    memory = training_memory(config)
    print(memory_text(config, memory))
    result = {"backbone": config.backbone.name, "window": config.window.seconds, "training_memory": asdict(memory)}
    write_json(path_of(config), result | {"total_bytes": memory.total})


def path_of(config: Config) -> Path:
    """The file of a config's figures."""
    identity = identify(config, "", {"name": config.backbone.path})
    name = f"{config.backbone.name}-{config.window.seconds:g}s-{short_hash(without_seed(identity))}.json"
    return Path(config.paths.outputs) / "bench" / name


def write_total(results: list[dict[str, Any]], outputs: Path, beside: int = 1) -> None:
    """Write outputs/bench/estimate.json: the estimate for all measured configs together; beside: as of `total`."""
    runs = [{key: r[key] for key in ("backbone", "window", "seed", "estimate", "memory")} for r in results]
    write_json(outputs / "bench" / "estimate.json", {"total": estimate.total(results, beside), "runs": runs})


def measure_once(measure: Callable[..., Any], asked: ResolvedRun, size: int, parts: tuple[Any, ...]) -> Any:
    """The result of `measure` for a run; it depends on the size and on some parts of its config alone."""
    key = repr((measure.__name__, str(asked.device), size, parts))
    if key not in KNOWN:
        config = asked.config
        log.info("measuring %s, %g s: %s", config.backbone.name, config.window.seconds, measure.__name__)
        KNOWN[key] = measure(asked, size)
    return KNOWN[key]


def machine(device: torch.device) -> dict[str, Any]:
    """The machine that the figures were measured on."""
    gpu = device.type == "cuda"
    size = torch.cuda.get_device_properties(device).total_memory if gpu else psutil.virtual_memory().total
    return {
        "device": torch.cuda.get_device_name(device) if gpu else processor(),
        "threads": torch.get_num_threads(),
        "bf16": torch.cuda.is_bf16_supported(including_emulation=False) if gpu else matrix_bf16(),
        "memory_gb": size / 1e9,
        "torch": torch.__version__,
        "emoshare": __version__,
        "commit": commit(),
    }


def commit() -> str:
    """The commit of a checkout, `-dirty` if it was changed since; else the version."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return __version__
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or __version__
