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

from emoshare.backbones.kinds.encoder import Options as Encoder
from emoshare.core.config import EMOTIONS, Config, DataConfig
from emoshare.core.hashing import write_sealed
from emoshare.runs.results import FORMAT
from emoshare.runs.sweep import ListedRun, enlist

HUME = {"train": 31_745, "devel": 9_925, "test": 10_143}  # clips of the paper's corpus
PARAMETERS = {"hubert_large": 315_438_720, "wavlm_large": 315_453_120, "tiny": 300_000, "logmel": 0}


def config(backbone: str = "tiny", seconds: float = 1.0, seed: int = 0, **keys: Any) -> dict[str, Any]:
    """A whole config as a nested dict; `keys` are dotted keys with __ for the dots."""
    full = Config(
        data=DataConfig(name="demo", root="data/demo"),
        backbone=Encoder(backbone, f"models/{backbone}", None, "hubert", len(backbone), 2),
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
    """Of predictions x and labels y: 0 where the former are constant, NaN where the latter are."""
    if not np.ptp(y):
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) else 0.0


def concordance(x: np.ndarray, y: np.ndarray) -> float:
    if not np.ptp(y):
        return float("nan")
    covariance = np.mean((x - x.mean()) * (y - y.mean()))
    return float(2 * covariance / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))


def mean(values: np.ndarray) -> float:
    """Over the targets that have a score."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def scores(predicted: np.ndarray, true: np.ndarray, targets: tuple[str, ...]) -> dict[str, dict[str, float | None]]:
    found: dict[str, dict[str, float | None]] = {}
    for name, function in (("scc", spearman), ("ccc", concordance), ("pcc", pearson)):
        values = np.array([function(predicted[:, e], true[:, e]) for e in range(len(targets))])
        found[name] = {"mean": mean(values), **dict(zip(targets, values, strict=True))}
    found["avg"] = {key: (found["scc"][key] + found["ccc"][key]) / 2 for key in found["scc"]}
    return {m: {k: None if np.isnan(v) else float(v) for k, v in row.items()} for m, row in found.items()}


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
    one_hot: bool = False,
    epochs: int = 0,
    sizes: dict[str, int] | None = None,
    **fields: Any,
) -> Path:
    """A finished run.

    Args:
        quality: share of the labels in the predictions, 0 to 1.
        one_hot: every clip has one target with the whole share.
        epochs: of a metrics.csv; 0 for none.
        sizes: clips by partition that results.json tells of.
        fields: of results.json, in place of the usual.
        constant: a target that is predicted as a constant (its SCC is 0).
        diverged: all predictions are NaN.
        noise: seed of the run's own error, beside the run's seed.
    """
    parts = ("devel", "test")
    rng = np.random.default_rng([config["seed"], noise])
    metrics = {}
    for number, part in enumerate(parts):
        true, unheard, seconds = labels(clips, targets, number)
        if one_hot:
            true = np.eye(len(targets))[true.argmax(axis=1)]
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
    if epochs:
        write_epochs(folder, epochs)
    corpus = {
        "name": config["data"]["name"], "fingerprint": fingerprint,
        "clips": sizes or {"train": 600, "devel": clips, "test": clips},
        "hours": {"train": 0.5, "devel": 0.17, "test": 0.17},
    }  # fmt: skip
    usual = document(folder, config, targets, metrics) | {"finished": finished, "corpus": corpus}
    write_sealed(folder / "results.json", {"format": FORMAT, **usual, **fields})
    return folder


def document(folder: Path, config: dict[str, Any], targets: tuple[str, ...], metrics: dict[str, Any]) -> dict[str, Any]:
    """The fields of results.json, less what is known of the corpus."""
    name, seconds = config["backbone"]["name"], config["window"]["seconds"]
    return {
        "run": folder.name, "sweep": config["sweep"]["name"], "seed": config["seed"],
        "system": config["head"].get("name", "mlp"),
        "config": config, "targets": list(targets), "best": {"epoch": 12, "score": metrics["devel"]["avg"]["mean"]},
        "metrics": metrics,
        "backbone": {"name": name, "parameters": PARAMETERS.get(name, 94_371_712)},
        "frames": {"source": "store", "recipe": hashlib.sha256(f"{name}{seconds}".encode()).hexdigest()[:16],
                   "reused": config["seed"] > 0, "bytes": int(6e6 * seconds),
                   "audio_seconds": 900 * seconds, "seconds": 30 * seconds, "realtime": 30.0},
        "resolved": {"device": "cpu", "precision": "32-true", "compute": "float32"},
        "epochs": 30, "timings": {"total_seconds": 70.0, "extract_seconds": 30.0, "fit_seconds": 40.0},
        "memory": {"host_peak_gb": 1.5, "gpu_peak_gb": None},
        "versions": {"emoshare": "0.1.0", "torch": "2.13.0"},
    }  # fmt: skip


def write_epochs(folder: Path, epochs: int) -> None:
    """A metrics.csv with curves that rise and fall."""
    names = ["epoch", "train/loss", "devel/loss", "devel/scc", "devel/ccc", "devel/avg"]
    with (folder / "metrics.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(names)
        for epoch in range(epochs):
            level = 0.5 * (1 - np.exp(-(epoch + 1) / 5))
            writer.writerow([epoch, 1 - 1.5 * level, 1.05 - 1.4 * level, level, level - 0.02, level - 0.01])


def fusion(folder: Path, members: list[Path], quality: float = 0.6, **keys: Any) -> Path:
    """A run made of the runs in other folders."""
    first = json.loads((members[0] / "results.json").read_text())
    made = [{"run": member.name, "weight": 1 / len(members), "seconds": 70.0} for member in members]
    gain = {"devel": {"avg": {"difference": 0.02, "low": 0.01, "high": 0.03}}}
    best = {"epoch": None, "score": 0.5, "member": members[0].name, "gain": gain}
    fields = {"system": "fusion", "members": made, "best": best, "frames": {"source": "members"}, "epochs": None}
    fields |= {"timings": {"total_seconds": 0.5}, "backbone": {"name": "tiny+logmel", "type": "fusion"}}
    own = config("tiny+logmel", head__name="fusion")
    own["data"] = first["config"]["data"]
    return run(folder, own, quality, noise=99, **fields, **keys)


def write_config(folder: Path, config: dict[str, Any]) -> Path:
    """A run that was started: its resolved config and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def failed(folder: Path, config: dict[str, Any], error: str = "CUDA out of memory", missing: bool = False) -> Path:
    """A run that ended without results."""
    write_config(folder, config)
    command = f"emoshare train backbone={config['backbone']['name']} window.seconds={config['window']['seconds']}"
    failure = {"error": error, "traceback": "Traceback …", "command": command, "not_at_hand": missing}
    (folder / "failure.json").write_text(json.dumps(failure))
    return folder


def listed(root: Path, configs: dict[str, dict[str, Any]], overrides: dict[str, list[str]] | None = None) -> Path:
    """Runs that a sweep was asked for: config by name of the folder, and the overrides that made it."""
    enlist(root, [ListedRun(name, "", (overrides or {}).get(name, []), config) for name, config in configs.items()])
    return root


def sweep(
    root: Path,
    backbones: dict[str, float],
    windows: list[float],
    seeds: int = 1,
    keys: dict[str, Any] | None = None,
    **options: Any,
) -> Path:
    """A grid of runs; a backbone's quality is reached at long windows, as in the paper's Table IV.

    Args:
        keys: of every config, as in `config`.
        options: of `run`.
    """
    for name, quality in backbones.items():
        for seconds in windows:
            for seed in range(seeds):
                reached = quality * (1 - np.exp(-seconds / 0.9)) + 0.004 * np.random.default_rng([seed]).normal()
                noise = int(hashlib.sha256(f"{name}{seconds}".encode()).hexdigest()[:6], 16)
                folder = root / f"{name}-{seconds:g}s-seed{seed}"
                run(folder, config(name, seconds, seed, **(keys or {})), quality=reached, noise=noise, **options)
    return root
