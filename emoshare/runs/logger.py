"""Where a run is watched: W&B (offline unless the user says otherwise), TensorBoard, or nowhere.

metrics.csv is written for every run by train.py's History; W&B is imported only where it is used.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.core.schema import declared_keys
from emoshare.core.text import near
from emoshare.data.corpus import Corpus
from emoshare.runs.folder import Run
from emoshare.runs.results import Results

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

log = logging.getLogger("emoshare")
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
    os.environ.setdefault("WANDB_SILENT", "true")  # whose key it found, what it already has: nothing to act on
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
    if config.logger.name != "none":
        import emoshare.core.lightning  # noqa: F401  (else its loggers are silent where RANK is above 0)
    if config.logger.name == "tensorboard":
        from pytorch_lightning.loggers import TensorBoardLogger

        yield [TensorBoardLogger(run.folder, name="tensorboard", version="")]
    elif config.logger.name == "wandb" and (mode := wandb_mode(config.logger.mode)) != "disabled":
        from pytorch_lightning.loggers import WandbLogger

        from emoshare.runs import wandb_run

        with wandb_run.started(config, run, mode, wandb_id(f"{config.sweep.name}-{run.name}")) as experiment:
            yield [WandbLogger(experiment=experiment, save_dir=run.folder)]
    else:
        yield []


def log_results(
    loggers: Sequence[Any], results: Results, predictions: dict[str, np.ndarray], corpus: Corpus, figures: list[Path]
) -> None:
    """Put what a finished run found where it is watched; where that fails, it is a warning.

    predictions: partition → (N, E) shares in the order of the corpus's clips.
    """
    truth = {name: part.shares for name, part in corpus.partitions.items() if part.shares is not None}
    clusters = {name: corpus.clusters_of(name) for name in truth}
    try:
        for logger in loggers:
            if results.config["logger"]["name"] == "wandb":
                from emoshare.runs import wandb_run

                wandb_run.log_results(logger.experiment, results, predictions, truth, clusters, figures)
            else:
                known = {name: value for name, value in results.best_scores().items() if value is not None}
                logger.log_metrics(known, results.epochs or 0)
                logger.experiment.flush()
    except Exception as error:
        log.warning("%s: its results are written, but not logged: %s", results.run, error)
