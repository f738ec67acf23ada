"""A run's folder is its identity: where it lives, what it holds, when it is finished.

`outputs/<sweep>/<readable name>-<8 hex>`, the hex a hash of the whole resolved config without EXCLUDED. A run is
finished when its results.json exists, which is written last, by rename.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.core.files import read_json, write_json, write_text

# What changes no number of a run: where things lie, who watches, on what and how often it is run.
EXCLUDED = (
    "paths", "logger", "sweep", "cache", "bench", "resume", "force", "data.workers", "data.max_mb",
    "trainer.device", "trainer.progress", "extract.max_batch_seconds",
)  # fmt: skip
ANEW = "force=true trains the run anew"


def digest(config: Config, *more: str) -> str:
    """8 hex of the resolved config without EXCLUDED and the dotted keys in `more`."""
    values = asdict(config)
    for key in (*EXCLUDED, *more):
        *parents, last = key.split(".")
        section = values
        for parent in parents:
            section = section[parent]
        del section[last]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def write_shares(path: Path, files: tuple[str, ...], columns: dict[str, np.ndarray]) -> None:
    """A table in the submission format: `filename` and one column per name, a row per clip, no index."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["filename", *columns])
    for file, *values in zip(files, *columns.values(), strict=True):
        writer.writerow([file, *(f"{value:.9g}" for value in values)])
    write_text(path, text.getvalue())


@dataclass(frozen=True)
class Run:
    """The place of one training: its folder and the files in it."""

    folder: Path
    cell: str  # equal for runs that differ in the seed alone

    @classmethod
    def of(cls, config: Config) -> Run:
        """The run of a config; nothing is created."""
        name = f"{config.backbone.name}-{config.window.seconds:g}s-seed{config.seed}-{digest(config)}"
        return cls(Path(config.paths.outputs) / config.sweep.name / name, digest(config, "seed"))

    @property
    def results(self) -> Path:
        return self.folder / "results.json"

    @property
    def failure(self) -> Path:
        return self.folder / "failure.json"

    @property
    def last(self) -> Path:
        return self.folder / "checkpoints" / "last.ckpt"

    @property
    def best(self) -> Path:
        return self.folder / "checkpoints" / "best.ckpt"

    def finished(self) -> dict[str, Any] | None:
        """The results of a finished run, else None.

        Raises:
            EmoshareError: results.json cannot be read.
        """
        if not self.results.exists():
            return None
        results = read_json(self.results, ANEW)
        if not {"cell", "config", "corpus", "metrics"} <= results.keys():
            raise EmoshareError(f"{self.results}: not the results of a run; {ANEW}")
        return results

    def state(self) -> str:
        """done | failed | running | interrupted | waiting."""
        if self.results.exists() and not self.failure.exists():  # both: the last attempt to do it anew failed
            return "done"
        if locked(self.folder):
            return "running"
        if self.failure.exists():
            return "failed"
        return "interrupted" if (self.folder / "config.yaml").exists() else "waiting"

    def start(self, config: Config) -> None:
        """Create the folder with the resolved config; forget an earlier failure, and all that is to be done anew."""
        if config.anew:
            for path in self.folder.glob("*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        write_text(self.folder / "config.yaml", yaml.safe_dump(asdict(config), sort_keys=False))
        self.failure.unlink(missing_ok=True)
        for half in self.last.parent.glob(".*"):  # of a process that was killed while it wrote
            half.unlink()

    def fail(self, config: Config, error: str, traceback: str, command: str) -> None:
        """Record why a run ended without results, and the command that repeats it."""
        if not self.results.exists():
            write_text(self.folder / "config.yaml", yaml.safe_dump(asdict(config), sort_keys=False))
        write_json(self.failure, {"error": error, "traceback": traceback, "command": command})


def lock(folder: Path) -> Any:
    """The lock that a run's process holds; the operating system releases it when the process dies."""
    from filelock import FileLock

    path = folder.parent / ".locks" / folder.name
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)


def locked(folder: Path) -> bool:
    """Whether a living process holds the run."""
    from filelock import Timeout

    try:
        with lock(folder).acquire(timeout=0):
            return False
    except Timeout:
        return True
