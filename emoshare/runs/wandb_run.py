"""A run on W&B: what is compared comes first, and the summary says what the run found, took or why it failed.

W&B makes a section of charts of what stands before the first `/` of a name, and sorts them by it. So the scores and
losses that runs are compared by share the section `devel`, and the charts of single emotions come after it. Imported
only where W&B is the logger.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import wandb
from pytorch_lightning.loggers import WandbLogger

from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.core.files import write_text
from emoshare.models.bootstrap import score_intervals
from emoshare.models.classes import class_intervals
from emoshare.runs.folder import Run
from emoshare.runs.results import Results

CLASSES = ("accuracy", "uar")  # of one-hot labels


def chart(name: str) -> str:
    """A metric's name on W&B: `train/loss` beside the scores of devel, `scc/Anger` in a section of emotions."""
    section, _, rest = name.partition("/")
    if name == "train/loss":
        return "devel/train_loss"
    return name if section in ("devel", "") or not rest else f"emotions {section}/{rest}"


class RunLogger(WandbLogger):
    """Lightning's logger for W&B, under our names of the charts."""

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        super().log_metrics({chart(name): value for name, value in metrics.items()}, step)


@contextmanager
def started(config: Config, run: Run, mode: str, identifier: str) -> Iterator[RunLogger]:
    """The logger of a run on W&B; the run there ends with the block, as failed where that raises."""
    # Lightning would start the run with options that W&B warns of, and leave WANDB_MODE set for the runs to come.
    experiment = wandb.init(
        project=config.logger.project,
        entity=config.logger.entity,
        name=run.name,
        id=identifier,
        group=config.sweep.name,
        tags=[config.backbone.name, f"{config.window.seconds:g}s", config.data.name, *config.logger.tags],
        config=asdict(config),
        dir=run.folder.resolve(),  # W&B's service has a working directory of its own
        mode=mode,  # type: ignore[arg-type]
        resume="allow" if mode == "online" else None,
        settings=wandb.Settings(console="off", silent=True),
    )
    if mode == "online":  # offline there is no page that the report could link to
        write_text(run.wandb_page, f"{experiment.url}\n")
    experiment.define_metric("*", step_metric="epoch")
    if mode == "offline" and run.last.exists():
        for epoch in history(run.folder / "metrics.csv"):  # so that the newest of two offline folders is complete
            experiment.log({chart(name): value for name, value in epoch.items()})
    try:
        yield RunLogger(experiment=experiment, save_dir=run.folder)
    except BaseException as error:
        experiment.summary["failure"] = reason(error)
        experiment.finish(exit_code=1)
        raise
    experiment.finish(exit_code=0)


def reason(error: BaseException) -> str:
    """Why a run failed, in one line."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    first = str(error).strip().partition("\n")[0]
    return first if isinstance(error, EmoshareError) else f"{type(error).__name__}: {first}".rstrip(": ")


def history(metrics: Path) -> Iterator[dict[str, float]]:
    """The epochs that a run has behind it."""
    with metrics.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield {name: float(value) for name, value in row.items() if value}


def summary(
    results: Results,
    predictions: dict[str, np.ndarray],
    truth: dict[str, np.ndarray],
    clusters: dict[str, np.ndarray | None],
) -> dict[str, Any]:
    """What a finished run's summary holds: its scores with 95 % intervals, best epoch, seconds, disk.

    `best/<partition>/targets` is how many targets the means are over.

    predictions, truth: partition → (N, E). clusters: partition → (N,) as of `bootstrap.draw`.
    """
    found: dict[str, Any] = {"best/epoch": results.best["epoch"]}
    for part, metrics in results.metrics.items():
        found |= {f"best/{part}/{name}": values["mean"] for name, values in metrics.items()}
        found[f"best/{part}/targets"] = len(results.targets) - len(results.remarks.get("undefined", {}).get(part, ()))
        found |= {f"best/{part}/{name}": results.classes[part][name] for name in CLASSES if part in results.classes}
        bounds = score_intervals(truth[part], predictions[part], results.targets, clusters[part])
        ends = {name: bound["mean"] for name, bound in bounds.items()}
        if part in results.classes:
            ends |= class_intervals(truth[part], predictions[part], clusters[part])
        for name, (low, high) in ends.items():
            found |= {f"best/{part}/{name}_low": low, f"best/{part}/{name}_high": high}
    found |= {f"cost/{name}": seconds for name, seconds in results.timings.items()}
    return found | {"cost/frames_gb": (results.frames.get("bytes") or 0) / 1e9}


def log_results(
    logger: RunLogger,
    results: Results,
    predictions: dict[str, np.ndarray],
    truth: dict[str, np.ndarray],
    clusters: dict[str, np.ndarray | None],
    figures: list[Path],
) -> None:
    """Put a finished run's summary, its table per emotion and its figures on W&B."""
    metrics = results.metrics
    logger.experiment.summary.update(summary(results, predictions, truth, clusters))
    names = list(metrics["devel"])
    columns: list[str | int] = ["emotion", *(f"{part}/{name}" for part in metrics for name in names)]
    rows = [[t, *(metrics[part][name][t] for part in metrics for name in names)] for t in results.targets]
    images = {f"figures/{path.stem}": wandb.Image(str(path)) for path in figures}
    logger.experiment.log({"tables/emotions": wandb.Table(columns=columns, data=rows), **images})
