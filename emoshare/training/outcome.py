"""What a run leaves behind: predictions of its best epoch, scores, figures, and the words of results.json."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from emoshare import __version__
from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.core.text import render
from emoshare.data.corpus import Corpus
from emoshare.models.metrics import table
from emoshare.models.module import EmotionShareModule
from emoshare.runs.folder import Run, write_shares
from emoshare.store.extract import TensorStore
from emoshare.training.datamodule import EmotionShareData

PACKAGES = ("torch", "transformers", "pytorch-lightning", "torchmetrics", "torchaudio", "hydra-core", "numpy", "scipy")


def evaluate(run: Run, trainer: pl.Trainer, module: EmotionShareModule, data: EmotionShareData) -> dict[str, Any]:
    """Predict devel and test with the best epoch, write the tables, and score what has labels."""
    with readable(run.best):
        checkpoint = torch.load(run.best, map_location="cpu", weights_only=True)
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"])
    metrics: dict[str, Any] = {}
    for name, partition in data.corpus.partitions.items():
        if name == "train":
            continue
        outputs = trainer.predict(module, data.loader(name))
        assert outputs is not None
        shares = np.empty((len(partition.files), len(data.corpus.targets)), np.float32)
        for clips, values in outputs:
            shares[clips.cpu().numpy()] = values.cpu().numpy()
        columns = dict(zip(data.corpus.targets, shares.T, strict=True))
        write_shares(run.folder / "predictions" / f"{name}.csv", partition.files, columns)
        if partition.shares is not None:
            metrics[name] = table(shares, partition.shares, data.corpus.targets)
            columns = dict(zip(data.corpus.targets, partition.shares.T, strict=True))
            reference = run.folder / "reference" / f"{name}.csv"
            write_shares(reference, partition.files, {**columns, "seconds": partition.seconds})
    best = {"epoch": checkpoint["epoch"], "avg": metrics["devel"]["avg"]["mean"]}
    return {"best": best, "metrics": metrics, "epochs": trainer.current_epoch}


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Name the checkpoint that cannot be read, and the way out."""
    try:
        yield
    except Exception as error:  # zip's, pickle's and torch's own
        reason = str(error).partition("\n")[0]
        raise EmoshareError(f"{path}: not readable ({reason}); resume=false trains the run from its start") from error


def draw(run: Run) -> list[Path]:
    """The run's figures: its learning curve and predicted against true shares on devel."""
    folder = run.folder / "figures"
    from emoshare.runs import run_plots as figures

    curve, shares = folder / "learning_curve.png", folder / "shares.png"
    figures.learning_curve(run.folder / "metrics.csv", curve)
    figures.predicted_true(run.folder / "predictions/devel.csv", run.folder / "reference/devel.csv", shares)
    return [curve, shares]


def describe(
    config: Config, run: Run, corpus: Corpus, identity: dict[str, Any], store: TensorStore | None
) -> dict[str, Any]:
    """What results.json says of a run beside its scores."""
    partitions = corpus.partitions.items()
    return {
        "format": 1,
        "run": run.folder.name,
        "sweep": config.sweep.name,
        "cell": run.cell,
        "seed": config.seed,
        "config": asdict(config),
        "targets": list(corpus.targets),
        "corpus": {
            "name": corpus.name,
            "fingerprint": corpus.fingerprint,
            "clips": {name: len(p.files) for name, p in partitions},
            "hours": {name: float(p.seconds.sum()) / 3600 for name, p in partitions},
        },
        "backbone": identity,
        "frames": {"source": "store", **store.cost} if store else {"source": "backbone"},
        "versions": {
            "emoshare": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES},
        },
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def summary(results: dict[str, Any], run: Run) -> str:
    """The table at the end of a run: SCC and CCC per emotion, on devel and where labels are known on test."""
    from rich.table import Table

    metrics = results["metrics"]
    grid = Table(box=None, pad_edge=False)
    grid.add_column("emotion")
    for part in metrics:
        for name in ("SCC", "CCC"):
            grid.add_column(f"{part} {name}", justify="right")
    for target in [*results["targets"], "mean"]:
        values = [metrics[part][name][target] for part in metrics for name in ("scc", "ccc")]
        grid.add_row(target, *("–" if v is None or np.isnan(v) else f"{v:.4f}" for v in values))
    best = results["best"]
    title = f"{run.folder.name}: devel Avg {best['avg']:.4f} in epoch {best['epoch'] + 1} of {results['epochs']}"
    return f"\n{title}\n{render(grid)}"
