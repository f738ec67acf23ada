"""Run folders as the trainer leaves them, made up in milliseconds: labels, predictions of a chosen quality, results.

Metrics are worked out here from the equations, so that the report is held against another program.
"""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.stats import rankdata

from emoshare.core.config import EMOTIONS, BackboneConfig, Config, DataConfig
from emoshare.runs.sweep import Job, enlist

PARAMETERS = {"hubert_large": 315_438_720, "wavlm_large": 315_453_120, "tiny": 300_000, "logmel": 0}


def config(backbone: str = "tiny", seconds: float = 1.0, seed: int = 0, **keys: Any) -> dict[str, Any]:
    """A whole config as a nested dict; `keys` are dotted keys with __ for the dots."""
    full = Config(
        data=DataConfig(name="demo", root="data/demo"),
        backbone=BackboneConfig(backbone, f"models/{backbone}", None, "hubert", len(backbone), 2),
        seed=seed,
    )
    full.window.seconds = seconds
    values = asdict(full)
    for key, value in keys.items():
        *parents, last = key.split("__")
        section = values
        for parent in parents:
            section = section[parent]
        section[last] = value
    return values


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    return pearson(rankdata(x), rankdata(y))


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) and np.ptp(y) else float("nan")


def concordance(x: np.ndarray, y: np.ndarray) -> float:
    covariance = np.mean((x - x.mean()) * (y - y.mean()))
    return float(2 * covariance / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))


def scores(predicted: np.ndarray, true: np.ndarray, targets: tuple[str, ...]) -> dict[str, dict[str, float | None]]:
    found: dict[str, dict[str, float | None]] = {}
    for name, function in (("scc", spearman), ("ccc", concordance), ("pearson", pearson)):
        values = np.array([function(predicted[:, e], true[:, e]) for e in range(len(targets))])
        found[name] = {"mean": values.mean(), **dict(zip(targets, values, strict=True))}
    found["avg"] = {key: (found["scc"][key] + found["ccc"][key]) / 2 for key in found["scc"]}  # type: ignore[operator]
    return {m: {k: None if np.isnan(v) else float(v) for k, v in row.items()} for m, row in found.items()}  # type: ignore[arg-type]


def labels(clips: int, targets: tuple[str, ...], part: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares (N, E), the part of them that no model hears (N, E), seconds (N,): the same on every call."""
    rng = np.random.default_rng([part, clips, len(targets)])
    mixed = rng.normal(size=(clips, len(targets))) @ rng.normal(size=(len(targets), len(targets))) * 0.4
    seconds = rng.uniform(1.2, 7.98, clips)
    return (1 / (1 + np.exp(1 - mixed))).round(3), rng.normal(size=mixed.shape), seconds


def write_table(path: Path, files: list[str], columns: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["filename", *columns])
        writer.writerows(
            [file, *(f"{v:.9g}" for v in row)] for file, *row in zip(files, *columns.values(), strict=True)
        )


def run(
    folder: Path,
    config: dict[str, Any],
    quality: float = 0.5,
    clips: int = 200,
    targets: tuple[str, ...] = EMOTIONS,
    test: bool = True,
    constant: str | None = None,
    diverged: bool = False,
    noise: int = 0,
    finished: str = "2026-01-01T00:00:00",
    fingerprint: str = "f" * 64,
) -> Path:
    """A finished run.

    Args:
        quality: share of the labels in the predictions, 0 to 1.
        constant: a target that is predicted as a constant (its SCC is NaN).
        diverged: all predictions are NaN.
        noise: seed of the run's own error, beside the run's seed.
    """
    parts = ("devel", "test")
    rng = np.random.default_rng([config["seed"], noise])
    metrics = {}
    for number, part in enumerate(parts):
        true, unheard, seconds = labels(clips, targets, number)
        error = 0.2 * unheard + 0.06 * rng.normal(size=true.shape)
        predicted = np.clip(0.3 + quality * (true - 0.3) + (1 - quality) * error, 0, 1)
        if constant:
            predicted[:, targets.index(constant)] = 0.25
        if diverged:
            predicted[:] = np.nan
        files = [f"{part}_{n:05d}.wav" for n in range(clips)]
        columns = dict(zip(targets, predicted.T, strict=True))
        write_table(folder / "predictions" / f"{part}.csv", files, columns)
        if part == "devel" or test:
            known = {**dict(zip(targets, true.T, strict=True)), "seconds": seconds}
            write_table(folder / "reference" / f"{part}.csv", files, known)
            metrics[part] = scores(predicted, true, targets)
    write_config(folder, config)
    results = document(folder, config, targets, metrics, clips) | {"finished": finished}
    results["corpus"]["fingerprint"] = fingerprint
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def document(
    folder: Path, config: dict[str, Any], targets: tuple[str, ...], metrics: dict[str, Any], clips: int
) -> dict[str, Any]:
    name, seconds = config["backbone"]["name"], config["window"]["seconds"]
    kept = {
        k: v for k, v in config.items() if k not in ("seed", "paths", "logger", "sweep", "cache", "resume", "force")
    }
    cell = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]
    return {
        "format": 1, "run": folder.name, "sweep": config["sweep"]["name"], "cell": cell, "seed": config["seed"],
        "config": config, "targets": list(targets), "best": {"epoch": 12, "avg": metrics["devel"]["avg"]["mean"]},
        "metrics": metrics,
        "corpus": {"name": config["data"]["name"], "fingerprint": "",
                   "clips": {"train": 600, "devel": clips, "test": clips},
                   "hours": {"train": 0.5, "devel": 0.17, "test": 0.17}},
        "backbone": {"name": name, "parameters": PARAMETERS.get(name, 94_371_712)},
        "frames": {"source": "store", "recipe": hashlib.sha256(f"{name}{seconds}".encode()).hexdigest()[:16],
                   "engine": "openvino", "reused": config["seed"] > 0, "bytes": int(6e6 * seconds),
                   "audio_seconds": 900 * seconds, "seconds": 30 * seconds, "realtime": 30.0},
        "epochs": 30, "timings": {"total_seconds": 70.0, "extract_seconds": 30.0, "fit_seconds": 40.0},
        "memory": {"host_peak_gb": 1.5, "gpu_peak_gb": None},
        "versions": {"emoshare": "0.1.0", "torch": "2.13.0"},
    }  # fmt: skip


def write_config(folder: Path, config: dict[str, Any]) -> Path:
    """A run that was started: its resolved config and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def failed(folder: Path, config: dict[str, Any], error: str = "CUDA out of memory") -> Path:
    """A run that ended without results."""
    write_config(folder, config)
    command = f"emoshare train backbone={config['backbone']['name']} window.seconds={config['window']['seconds']}"
    failure = {"error": error, "traceback": "Traceback …", "command": command}
    (folder / "failure.json").write_text(json.dumps(failure))
    return folder


def listed(root: Path, configs: dict[str, dict[str, Any]]) -> Path:
    """Runs that a sweep was asked for: config by name of the folder."""
    enlist(root, [Job(name, "", [], config) for name, config in configs.items()])
    return root


def sweep(root: Path, backbones: dict[str, float], windows: list[float], seeds: int = 1, **keys: Any) -> Path:
    """A grid of runs; a backbone's quality is reached at long windows, as in the paper's Table IV."""
    for name, quality in backbones.items():
        for seconds in windows:
            for seed in range(seeds):
                reached = quality * (1 - np.exp(-seconds / 0.9)) + 0.004 * np.random.default_rng([seed]).normal()
                noise = int(hashlib.sha256(f"{name}{seconds}".encode()).hexdigest()[:6], 16)
                folder = root / f"{name}-{seconds:g}s-seed{seed}"
                run(folder, config(name, seconds, seed), quality=reached, noise=noise, **keys)
    return root
