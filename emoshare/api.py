"""The Python door: corpora, runs and reports without a command line.

Configs are made as on the command line, from strings `key=value` and `group=option`, which `emoshare train --help`
lists. Floor 7: it may import everything. N clips of a partition, E targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emoshare.command.compose import compose_one
from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.data import corpus
from emoshare.data.corpus import Corpus
from emoshare.runs.folder import Run
from emoshare.runs.predictions import read_shares
from emoshare.runs.results import Results

if TYPE_CHECKING:
    from emoshare.models.head import Head


def compose(*overrides: str) -> Config:
    """The checked config of a run.

    >>> compose("data=demo", "backbone=logmel", "window.seconds=2").window.seconds
    2.0

    Raises:
        EmoshareError: a line for every mistake.
    """
    return compose_one(list(overrides))


def load_corpus(*overrides: str) -> Corpus:
    """Read and check a corpus; the demo corpus is generated at its first use.

    >>> corpus = load_corpus("data=demo", "data.clips=20")
    >>> [(name, len(part.files)) for name, part in corpus.partitions.items()]
    [('train', 12), ('devel', 4), ('test', 4)]
    >>> corpus.partitions["devel"].shares.shape
    (4, 9)

    Raises:
        EmoshareError: everything that is wrong with the corpus.
    """
    config = compose(*overrides)
    return corpus.load(config.data, Path(config.paths.cache))


def train(*overrides: str) -> Results:
    """Train one run as `emoshare train` does, or return the results of it where it is finished already.

    >>> results = train("data=demo", "data.clips=60", "backbone=prosody", "head=svr", "logger=none")
    >>> results.system, sorted(results.metrics)
    ('svr', ['devel', 'test'])
    >>> -1 <= results.score("devel", "scc") <= 1
    True

    Raises:
        EmoshareError: the config, corpus, backbone or machine does not allow it.
    """
    from emoshare.training.train import train as train_config

    return train_config(compose(*overrides))


def report(*sweeps: str | Path, out: str | Path | None = None) -> Path:
    """Write the report of all runs below some folders, and return the path of its index.html.

    >>> _ = train("data=demo", "data.clips=60", "backbone=prosody", "head=svr", "logger=none")
    >>> report("outputs/default").name
    'index.html'

    Args:
        sweeps: folders to search, as outputs/<sweep>.
        out: the report's folder; by default `report` in the first sweep.

    Raises:
        EmoshareError: there is no finished run, or the runs cannot be compared. Nothing is written then.
    """
    from emoshare.reporting import write

    if not sweeps:
        raise EmoshareError("report: name at least one folder of runs, as outputs/default")
    return write([Path(sweep) for sweep in sweeps], None if out is None else Path(out))


@dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    Attributes:
        folder: where it lies.
        config: what it was trained with.
        results: its scores, and what they come from.
    """

    folder: Path
    config: Config
    results: Results

    def predictions(self, partition: str = "devel") -> tuple[tuple[str, ...], np.ndarray]:
        """File names and predicted shares (N, E) of a partition, devel or test, in the order of `results.targets`."""
        return read_shares(self.folder / "predictions" / f"{partition}.csv", self.results.targets)

    def head(self) -> Head:
        """The trained head, on the CPU in evaluation mode: frames (B, T, width) and counts (B,) → shares (B, E).

        Raises:
            EmoshareError: the run has no head of PyTorch, or its checkpoint cannot be read.
        """
        if self.results.system != "mlp":
            raise EmoshareError(f"{self.folder}: a run of {self.results.system} has no head of PyTorch")
        from emoshare.training.neural import load_head

        return load_head(Run(self.folder), self.config, self.results)


def load(run: str | Path) -> FinishedRun:
    """What a finished run found.

    >>> trained = train("data=demo", "data.clips=60", "backbone=prosody", "head=svr", "logger=none")
    >>> run = load("outputs/default/" + trained.run)
    >>> run.config.backbone.name, run.results == trained
    ('prosody', True)
    >>> files, shares = run.predictions("test")
    >>> len(files) == len(shares) == 12
    True

    Raises:
        EmoshareError: the folder holds no finished run, or a file of it cannot be read.
    """
    found = Run(Path(run))
    config, results = found.config(), found.results()
    if config is None or results is None:
        raise EmoshareError(f"{run}: no finished run here; name a folder like outputs/<sweep>/<run>")
    return FinishedRun(found.folder, config, results)
