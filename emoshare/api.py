"""The Python API: corpora, runs, sweeps and reports without a command line.

Configs are made as on the command line, from strings `key=value` and `group=option`, which `emoshare train --help`
lists. Each function does what the verb of its name does, and returns what that prints. What is said on the way goes to
the logger `emoshare`. Floor 8: it may import everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from emoshare.command.compose import compose_one
from emoshare.core import outside
from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.data import corpus
from emoshare.data.partition import Corpus
from emoshare.runs.results import Results

if TYPE_CHECKING:
    from emoshare.inference.evaluate import Evaluation
    from emoshare.inference.model import Model
    from emoshare.reporting import WrittenReport


def compose(*overrides: str) -> Config:
    """The checked config of a run.

    >>> compose("data=demo", "backbone=logmel", "window.seconds=2").window.seconds
    2.0

    Raises:
        EmoshareError: a line for every mistake; several values for a key, which `sweep` takes.
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


def check(*overrides: str) -> str:
    """Check a corpus as `emoshare check` does: what is odd about it, and a table of its partitions; a figure is drawn.

    >>> print(check("data=demo", "data.clips=20"))  # doctest: +ELLIPSIS
    corpus demo in ...

    Raises:
        EmoshareError: everything that is wrong with the corpus.
    """
    from emoshare.command.verbs import corpus_report

    return corpus_report(compose(*overrides))[0]


def train(*overrides: str) -> Results:
    """Train one run as `emoshare train` does, or return the results of it where it is finished already.

    >>> results = train("data=demo", "data.clips=60", "backbone=prosody", "head=svr", "logger=none")
    >>> results.system, sorted(results.metrics)
    ('svr', ['devel', 'test'])
    >>> -1 <= results.score("devel", "avg") <= 1
    True

    Raises:
        EmoshareError: the config, corpus, backbone or machine does not allow it.
    """
    config = compose(*overrides)
    from emoshare.training.train import train as train_config  # imports PyTorch

    return train_config(config)


def sweep(*overrides: str) -> list[Results]:
    """Run a sweep as `emoshare train -m` does: the results of its runs, in their order, then of its fusions.

    >>> keys = "data=demo", "data.clips=60", "backbone=prosody", "head=svr", "logger=none", "sweep.parallel=1"
    >>> both = sweep(*keys, "data.folds=2", "head.grid=[0.001]", "sweep.name=two")
    >>> [result.corpus.folds.fold for result in both]
    [0, 1]

    A run that `sweep.skip_missing` leaves, as its checkpoint is not at hand, is left out.

    Raises:
        EmoshareError: a line for every mistake, and nothing is computed; or a line for every run that has failed, once
            all others are done. The same call goes on from there.
    """
    from emoshare.command.compose import plan
    from emoshare.command.hydra_app import run_sweep
    from emoshare.command.overrides import parse

    done = run_sweep(plan(parse(["-m", *overrides]), corpus=True), quiet=True)
    if lines := done.problems():
        raise EmoshareError("\n".join(lines))
    return done.results() + done.fused


def status(sweep: str | Path) -> dict[str, str]:
    """The state of every run of a sweep's folder.

    It is done, running, interrupted, failed, not at hand, waiting, or unreadable: finished, but a file is damaged.

    >>> results = train("data=demo", "data.clips=60", "backbone=prosody", "head=svr", "logger=none")
    >>> status("outputs/default")[results.run]
    'done'

    Raises:
        EmoshareError: there is neither a sweep nor a run.
    """
    from emoshare.runs import sweep as sweeps

    folder = Path(sweep)
    return sweeps.read_states(folder, sweeps.read(folder))


def fuse(
    *runs: str | Path,
    out: str | Path,
    weights: Literal["mean", "learned", "greedy"] | Sequence[float] = "mean",
    name: str | None = None,
    allow: Sequence[str] = (),
) -> Results:
    """Make a run of runs: the mean of their predictions, or a weighted mean.

    >>> keys = "data=demo", "data.clips=60", "head=svr", "logger=none", "head.grid=[0.001]", "sweep.name=members"
    >>> _ = sweep(*keys, "backbone=prosody,logmel", "sweep.parallel=1")
    >>> [member.weight for member in fuse("outputs/members", out="outputs/fused").members]
    [0.5, 0.5]

    Args:
        runs: folders of runs, or of sweeps, whose finished runs are meant.
        out: the folder that gets the fusion's.
        weights: mean; learned or greedy (on devel, by cross-fitting); or a number for each run.
        name: of the fusion, a row of the report.
        allow: modules of yours that may be imported, whose metrics the runs name.

    Raises:
        EmoshareError: one line for each thing that is wrong with the runs or the weights.
    """
    from emoshare.command.verbs import fuse_folders

    outside.allow(allow)
    return fuse_folders([Path(run) for run in runs], Path(out), weights, name)


def report(*sweeps: str | Path, out: str | Path | None = None, allow: Sequence[str] = ()) -> WrittenReport:
    """Write the report of all runs below some folders: its `page`, and its `tables` as DataFrames of pandas.

    >>> _ = train("data=demo", "data.clips=60", "backbone=prosody", "head=svr", "logger=none")
    >>> written = report("outputs/default")
    >>> written.page.name
    'index.html'
    >>> written.tables["emotions"].set_index("target")["devel_scc_mean"].between(-1, 1).all()
    np.True_

    Args:
        sweeps: folders to search, as outputs/<sweep>.
        out: the report's folder; by default `report` in the first sweep.
        allow: as for `fuse`; without it their metrics are shown without intervals.

    Raises:
        EmoshareError: there is no finished run, or the runs cannot be compared. Nothing is written then.
    """
    from emoshare.reporting import write

    outside.allow(allow)
    if not sweeps:
        raise EmoshareError("report: name at least one folder of runs, as outputs/default")
    return write([Path(sweep) for sweep in sweeps], None if out is None else Path(out))


def load(
    source: str | Path, device: str = "auto", cache: str | Path | None = None, revision: str | None = None,
    allow: Sequence[str] = (),
) -> Model:  # fmt: skip
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
        cache: folder of frame stores and facts about backbones; by default that of the run, else `cache`.
        revision: of a hub name: branch, tag or commit.
        allow: modules of yours that may be imported, in this process from now on, where a model or a run names them,
            as ["my_kinds"].

    Raises:
        EmoshareError: there is no model, a file of it cannot be read, it names code that is not allowed, or there is
            no such device.
    """
    from emoshare.inference.model import load_model

    outside.allow(allow)
    return load_model(source, device, cache, revision)


def evaluate(
    source: str | Path, *overrides: str, names: Mapping[str, str] | None = None, out: str | Path | None = None,
    device: str = "auto", cache: str | Path | None = None, allow: Sequence[str] = (),
) -> Evaluation:  # fmt: skip
    """Score a trained model on another corpus, of the targets that both have; write the scores and predictions.

    >>> run = train("data=demo", "data.clips=60", "backbone=prosody", "head=svr", "logger=none").run
    >>> scores = evaluate(f"outputs/default/{run}", "data=demo", "data.clips=60", "data.seed=1", "data.root=other")
    >>> sorted(scores.metrics)
    ['devel', 'test', 'train']

    Args:
        source: as for `load`.
        overrides: the corpus.
        names: target of the corpus → the model's, where they are called otherwise, as {"Angry": "Anger"}.
        out: the folder to write; by default `evaluations/<corpus>-<8 hex>` in the run's.
        device: as for `load`.
        cache: as for `load`.
        allow: as for `load`.

    Raises:
        EmoshareError: there is no model, or the corpus lacks labels or shares no target with it.
    """
    from emoshare.inference.evaluate import evaluate as evaluate_model
    from emoshare.inference.evaluate import shared_targets

    config, model = compose(*overrides), load(source, device, cache, allow=allow)
    shared_targets(config.data.targets, model, names or {})  # what is wrong with them is said before any clip is read
    read = corpus.load(config.data, model.cache)
    return evaluate_model(model, read, None if out is None else Path(out), names)[0]


def export(
    source: str | Path, to: Literal["onnx", "openvino", "hub"], out: str | Path | None = None,
    license: str | None = None, cache: str | Path | None = None, allow: Sequence[str] = (),
) -> Path:  # fmt: skip
    """Write a trained model in another format, compare its output with PyTorch's, and return the path.

    >>> run = train("data=demo", "data.clips=60", "backbone=prosody", "head=svr", "logger=none").run
    >>> export(f"outputs/default/{run}", "hub", "shared/prosody").name
    'prosody'

    Args:
        source: as for `load`.
        to: an ONNX file, a model for OpenVINO, or a folder with a model card for the hub.
        out: file (.onnx, .xml) or folder to write; by default a file called as the run, in the working folder.
        license: hub: of the trained head, as the hub abbreviates it.
        cache: as for `load`.
        allow: as for `load`.

    Raises:
        EmoshareError: there is no model, it cannot be written in that form, or the shares differ too much.
    """
    from emoshare.inference.export.forms import export_model

    place, cache = (None if path is None else Path(path) for path in (out, cache))
    outside.allow(allow)
    return export_model(source, to, place, license, cache).place
