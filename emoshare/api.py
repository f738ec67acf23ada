"""The Python door: corpora, runs and reports without a command line.

Configs are made as on the command line, from strings `key=value` and `group=option`, which `emoshare train --help`
lists. Floor 7: it may import everything.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from emoshare.command.compose import compose_one
from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.data import corpus
from emoshare.data.corpus import Corpus
from emoshare.runs.results import Results

if TYPE_CHECKING:
    from emoshare.inference.model import Model


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


def load(
    source: str | Path, device: str = "auto", cache: str | Path | None = None, revision: str | None = None
) -> Model:
    """A trained model: what a finished run found, and what it says of new recordings.

    >>> trained = train("data=demo", "data.clips=60", "backbone=prosody", "head=svr", "logger=none")
    >>> model = load("outputs/default/" + trained.run)
    >>> model.config.backbone.name, model.results == trained
    ('prosody', True)
    >>> clip = load_corpus("data=demo", "data.clips=60").path("7f8cf4.wav")
    >>> sorted(model.predict(clip))[:2]
    ['Anger', 'Boredom']

    Args:
        source: a run's folder, a folder that `emoshare export --to hub` wrote, or the name of such a folder on the hub.
        device: auto (a GPU where there is one), cpu, cuda, cuda:1, mps.
        cache: folder for converted models and what backbones come to; by default that of the run, else `cache`.
        revision: of a hub name: branch, tag or commit.

    Raises:
        EmoshareError: there is no model, a file of it cannot be read, or there is no such device.
    """
    from emoshare.inference.model import load_model

    return load_model(source, device, cache, revision)
