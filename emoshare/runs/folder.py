"""A run's folder: its name, which is the run's identity, its files and its state.

`outputs/<sweep>/<backbone>-<seconds>s-seed<n>-<8 hex>` (`<backbone>-svr-…` for an SVR, `…-fold<i>-…` for a fold), the
hex a hash of the run's identity (identity.py). What can change no number is not in the name: `whole` replaces
the seconds where the window holds every clip, and a seed that does not count is left out. So configs of one identity
are one run with one folder. A run is finished when its results.json exists, which is written last, by rename; nothing
that happens later changes that.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.core.files import read_json
from emoshare.core.hashing import read_sealed
from emoshare.core.typed import fill
from emoshare.runs.identity import (
    identify,
    short_hash,
    without_seed,
)
from emoshare.runs.results import REMEDY, Results

log = logging.getLogger("emoshare")

ABSENT = "not at hand"  # the state of a run that failed as a checkpoint or package is missing


@dataclass(frozen=True)
class Failure:
    """The reason why a run ended without results."""

    error: str  # one line
    traceback: str
    command: str  # that repeats the run; "" where the note of it cannot be read
    not_at_hand: bool = False  # a checkpoint or package is missing; the error says how to fetch it


@dataclass(frozen=True)
class Run:
    """One run on disk: its folder and the files in it. Creating the object creates nothing on disk."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def results_path(self) -> Path:
        return self.folder / "results.json"

    @property
    def failure_path(self) -> Path:
        return self.folder / "failure.json"

    @property
    def config_path(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def sources_path(self) -> Path:
        """The file with the corpus's fingerprint, the checkpoint, and the folder that the run was started in."""
        return self.folder / "sources.json"

    @property
    def last(self) -> Path:
        """The checkpoint of the last epoch."""
        return self.folder / "checkpoints" / "last.ckpt"

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch."""
        return self.folder / "checkpoints" / "best.ckpt"

    @property
    def average(self) -> Path:
        """The mean of the best epochs' weights."""
        return self.folder / "checkpoints" / "average.ckpt"

    @property
    def refit(self) -> Path:
        """The weights that were trained on train + devel."""
        return self.folder / "checkpoints" / "refit.ckpt"

    @property
    def page(self) -> Path:
        """The address of the run's page, where it was logged online."""
        return self.folder / "page.txt"

    def is_finished(self) -> bool:
        return self.results_path.exists()

    def results(self) -> Results | None:
        """The results of a finished run; None for another.

        Raises:
            EmoshareError: results.json cannot be read.
        """
        return Results.read(self.results_path) if self.is_finished() else None

    def config(self) -> Config | None:
        """The typed config that the run was started with; None where it was not.

        Raises:
            EmoshareError: config.yaml cannot be read.
        """
        return Config.load(self.config_path) if self.config_path.exists() else None

    def failure(self) -> Failure | None:
        """The failure of the last attempt; None where it did not fail. A note that cannot be read stops nothing."""
        if not self.failure_path.exists():
            return None
        try:
            content = read_json(self.failure_path, "the next attempt trains the run again")
        except EmoshareError as damage:
            return Failure(str(damage), "", "")
        error, traceback, command = (str(content.get(name, "")) for name in ("error", "traceback", "command"))
        return Failure(error, traceback, command, bool(content.get("not_at_hand")))

    def state(self) -> str:
        """done | running | failed | not at hand | interrupted | waiting (never started), by the files there are."""
        if self.is_finished():
            return "done"
        if is_locked(self.folder):
            return "running"
        failure = self.failure()
        if failure:
            return ABSENT if failure.not_at_hand else "failed"
        return "interrupted" if self.config_path.exists() else "waiting"

    def identity(self, results: Results | None = None) -> dict[str, Any] | None:
        """The run's identity, computed from its files by today's rules; None for a run that was never started.

        results: its own, where they are read already.

        Raises:
            EmoshareError: a file of it cannot be read.
        """
        results = results or self.results()
        config = fill(Config, results.config, str(self.results_path)) if results else self.config()
        if config is None:
            return None
        sources: dict[str, Any] = {
            "corpus": "", "checkpoint": {"name": config.backbone.path, "revision": config.backbone.revision},
        }  # fmt: skip
        sources |= self.sources()
        if results:
            sources["corpus"] = results.corpus.fingerprint
        return identify(config, sources["corpus"], sources["checkpoint"], sources.get("longest"), sources.get("code"))

    def cell(self, results: Results | None = None) -> str:
        """A key that runs share which differ in the seed alone; the run's own name where it was never started."""
        identity = self.identity(results)
        return self.name if identity is None else short_hash(without_seed(identity))

    def sources(self) -> dict[str, Any]:
        """The content of sources.json; empty where there is no such file. EmoshareError where it cannot be read."""
        return read_sealed(self.sources_path, REMEDY) if self.sources_path.exists() else {}

    def clear_failure(self) -> None:
        """Remove the record of a restart that failed: the earlier results remain valid."""
        with suppress(OSError):  # the folder may be read-only
            self.failure_path.unlink(missing_ok=True)


def lock(folder: Path) -> Any:
    """The lock that a run's process holds; the operating system releases it when the process dies."""
    from filelock import FileLock

    path = lock_path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)


def lock_path(folder: Path) -> Path:
    return folder.parent / ".locks" / folder.name


def is_locked(folder: Path) -> bool:
    """Whether a living process holds the run; False, too, where the file system is read-only."""
    from filelock import FileLock, Timeout

    if not lock_path(folder).exists():
        return False
    try:
        with FileLock(lock_path(folder)).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False
