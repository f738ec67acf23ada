"""Where a run is watched: W&B (offline unless the user says otherwise), TensorBoard, or nowhere.

metrics.csv is written for every run by train.py's History; W&B is imported only where it is used.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from pytorch_lightning.loggers import Logger

from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.core.schema import declared_keys
from emoshare.core.text import near
from emoshare.runs.folder import Run
from emoshare.runs.results import Results

OTHER_NAMES = {"dryrun": "offline", "run": "online"}  # that W&B has for its modes


def check_logger(config: Config) -> None:
    """Raise EmoshareError where the logger cannot start, before anything expensive."""
    if config.logger.name == "wandb":
        wandb_mode(config.logger.mode)
    if config.logger.name == "tensorboard" and not any(map(importlib.util.find_spec, ("tensorboard", "tensorboardX"))):
        raise EmoshareError('logger=tensorboard: it is not installed; run `pip install "emoshare[tensorboard]"`')


def wandb_mode(wanted: str | None) -> str:
    """offline | online | disabled: the wanted one, else WANDB_MODE, else offline.

    Raises:
        EmoshareError: another mode, or online without a key, where W&B would stop to ask for one.
    """
    mode = wanted or os.environ.get("WANDB_MODE") or "offline"
    mode = OTHER_NAMES.get(mode, mode)
    modes = list(declared_keys(Config)["logger.mode"].key.choices)
    if mode not in modes:
        raise EmoshareError(f"WANDB_MODE={mode}: must be one of {', '.join(modes)}{near(mode, modes)}")
    if mode == "online" and not _wandb_key():
        raise EmoshareError("W&B online: no key here; run `wandb login`, or set WANDB_API_KEY")
    if mode == "offline":
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # telemetry: the one thing that W&B sends offline, too
    return mode


def wandb_id(name: str) -> str:
    """The name without what no W&B id may hold."""
    return re.sub(r"[/\\#?%:]", "-", name)[-64:]


def _wandb_key() -> str | None:
    import requests.utils

    if key := os.environ.get("WANDB_API_KEY"):
        return key
    login = requests.utils.get_netrc_auth(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"))
    return login[1] if login else None


@contextmanager
def logging_to(config: Config, run: Run) -> Iterator[list[Logger]]:
    """The run's loggers; what they hold open is closed at the end, also when the run fails or is interrupted."""
    if config.logger.name == "tensorboard":
        from pytorch_lightning.loggers import TensorBoardLogger

        yield [TensorBoardLogger(run.folder, name="tensorboard", version="")]
    elif config.logger.name == "wandb" and (mode := wandb_mode(config.logger.mode)) != "disabled":
        yield from _wandb(config, run, mode)
    else:
        yield []


def _wandb(config: Config, run: Run, mode: str) -> Iterator[list[Logger]]:
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    name = run.folder.name
    # Lightning would start the run with options that W&B warns of, and leave WANDB_MODE set for the runs to come.
    experiment = wandb.init(
        project=config.logger.project,
        entity=config.logger.entity,
        name=name,
        id=wandb_id(f"{config.sweep.name}-{name}"),
        group=config.sweep.name,
        tags=[config.backbone.name, f"{config.window.seconds:g}s", config.data.name, *config.logger.tags],
        config=asdict(config),
        dir=run.folder.resolve(),  # W&B's service has a working directory of its own
        mode=mode,  # type: ignore[arg-type]
        resume="allow" if mode == "online" else None,
        settings=wandb.Settings(console="off", silent=True),
    )
    experiment.define_metric("*", step_metric="epoch")
    if mode == "offline" and run.last.exists():
        for epoch in history(run.folder / "metrics.csv"):  # so that the newest of two offline folders is complete
            experiment.log(epoch)
    try:
        yield [WandbLogger(experiment=experiment, save_dir=run.folder)]
    except BaseException:
        experiment.finish(exit_code=1)
        raise
    experiment.finish(exit_code=0)


def history(metrics: Path) -> Iterator[dict[str, float]]:
    """The epochs that a run has behind it."""
    with metrics.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield {name: float(value) for name, value in row.items() if value}


def log_results(loggers: list[Logger], results: Results, figures: list[Path]) -> None:
    """Put a finished run's best metrics, its table per emotion and its figures on W&B."""
    from pytorch_lightning.loggers import WandbLogger

    for logger in loggers:
        if not isinstance(logger, WandbLogger):
            continue
        import wandb

        metrics = results.metrics
        summary = {f"best/{part}/{name}": v["mean"] for part, m in metrics.items() for name, v in m.items()}
        logger.experiment.summary.update({**summary, "best/epoch": results.best["epoch"]})
        names = list(metrics["devel"])
        columns: list[str | int] = ["emotion", *(f"{part}/{name}" for part in metrics for name in names)]
        rows = [[t, *(metrics[part][name][t] for part in metrics for name in names)] for t in results.targets]
        images = {f"figures/{path.stem}": wandb.Image(str(path)) for path in figures}
        logger.experiment.log({"emotions": wandb.Table(columns=columns, data=rows), **images})
