"""logger=wandb: W&B, offline unless the user says otherwise. W&B is imported only where it is used."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from emoshare.core.bases import TrackerOptions
from emoshare.core.errors import EmoshareError
from emoshare.core.schema import key
from emoshare.core.text import near

if TYPE_CHECKING:
    from emoshare.core.config import Config
    from emoshare.runs.logger import Finished
    from emoshare.runs.resolved import ResolvedRun
    from emoshare.runs.results import Results

FOLDER = "wandb"  # its package, and where it puts its own files in the folder that it is given
MODES = ("offline", "online", "disabled")
OTHER_NAMES = {"dryrun": "offline", "run": "online"}  # that W&B has for its modes


@dataclass
class Options(TrackerOptions):
    """The options of W&B."""

    mode: str | None = key(None, "W&B's mode; null: WANDB_MODE, else offline", choices=MODES)
    project: str = key("emoshare", "W&B project")
    entity: str | None = key(None, "W&B user or team; null: the account's default")
    tags: list[str] = key([], "W&B tags beside backbone, window and corpus")

    label: ClassVar[str] = "W&B"

    def check(self, config: Config) -> None:
        wandb_mode(self.mode)

    @contextmanager
    def open(self, resolved: ResolvedRun) -> Iterator[list[Any]]:
        if (mode := wandb_mode(self.mode)) == "disabled":
            yield []
            return
        from pytorch_lightning.loggers import WandbLogger

        from emoshare.runs import wandb_run

        run = resolved.run
        identifier = wandb_id(f"{resolved.config.sweep.name}-{run.name}")
        account = {"project": self.project, "entity": self.entity, "id": identifier}
        with one_line_errors(), wandb_run.start_run(resolved, mode, self.tags, **account) as experiment:
            yield [WandbLogger(experiment=experiment, save_dir=run.folder)]

    def log_results(self, loggers: Sequence[Any], results: Results, more: Finished) -> None:
        from emoshare.runs import wandb_run

        for logger in loggers:
            wandb_run.log_results(logger.experiment, results, more)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Name the remedy where W&B raises."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] != FOLDER:
            raise
        raise EmoshareError(
            f"W&B: {str(error).strip().partition(chr(10))[0]}; logger.mode=offline keeps the run on this machine, "
            "logger=none goes without"
        ) from error


def wandb_mode(option: str | None) -> str:
    """offline | online | disabled: the option, else WANDB_MODE, else offline.

    Raises:
        EmoshareError: another mode, or online without a key, where W&B would stop to ask for one.
    """
    mode = option or os.environ.get("WANDB_MODE") or "offline"
    mode = OTHER_NAMES.get(mode, mode)
    if mode not in MODES:
        raise EmoshareError(f"WANDB_MODE={mode}: must be one of {', '.join(MODES)}{near(mode, list(MODES))}")
    if mode == "online" and not wandb_key():
        raise EmoshareError("W&B online: no key here; run `wandb login`, or set WANDB_API_KEY")
    os.environ.setdefault("WANDB_SILENT", "true")  # lines about the key in use and earlier files: nothing to act on
    if mode == "offline":
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # telemetry: the one thing that W&B sends offline, too
    return mode


def wandb_id(name: str) -> str:
    """The name without characters that no W&B id may hold."""
    return re.sub(r"[/\\#?%:]", "-", name)[-64:]


def wandb_key() -> str | None:
    """W&B's key in the environment or in a netrc file."""
    import requests.utils

    if key := os.environ.get("WANDB_API_KEY"):
        return key
    login = requests.utils.get_netrc_auth(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"))
    return login[1] if login else None
