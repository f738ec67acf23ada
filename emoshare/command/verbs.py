"""The verbs that take a config: one function for one config each.

Each gets the config, which has been checked, and the `Call` that it belongs to. Nothing here knows Hydra.
"""

from __future__ import annotations

import functools
import gc
import logging
import math
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from emoshare.command.console import speak
from emoshare.command.messages import one_line
from emoshare.core.config import Config
from emoshare.core.cores import side_by_side
from emoshare.core.errors import EmoshareError, NotAtHandError
from emoshare.core.garbage import importing
from emoshare.core.interrupt import check_stop
from emoshare.runs import sweep
from emoshare.runs.folder import Failure
from emoshare.runs.resolved import ResolvedRun
from emoshare.runs.results import Results
from emoshare.runs.skip import skip_finished

log = logging.getLogger("emoshare")
WORST = -1.0  # for a search where a run has no score: optuna takes no NaN


@dataclass(frozen=True)
class Call:
    """The command line's facts about one job beside its config."""

    arguments: list[str]  # what follows `emoshare` in the command that does this job alone
    sweeping: bool = False  # one job of several
    searching: bool = False  # whose sweeper chooses the next job by the results, and counts what raises as failed
    verbose: bool = False
    number: int = 1  # of this job, counted from 1
    total: int = 1  # jobs of the command
    beside: int = 1  # jobs that go on at the same time, this one among them
    quiet: bool = False  # nothing is printed, as in a notebook
    checked: bool = False  # what can be told of the run beforehand was told on this machine


def check_corpus(config: Config, call: Call) -> None:
    """Print a corpus's report and draw its labels and durations."""
    text, picture = corpus_report(config)
    print(f"{text}\nfigure: {picture}")


def corpus_report(config: Config) -> tuple[str, Path]:
    """Print the oddities of a corpus, with a table of its partitions; and the figure of its labels and durations."""
    from emoshare.data.corpus import corpus_summary, load
    from emoshare.data.corpus_plot import corpus_figure

    corpus = load(config.data, Path(config.paths.cache))
    picture = Path(config.paths.outputs) / f"corpus-{corpus.name}.png"
    corpus_figure(corpus, picture)
    return corpus_summary(corpus), picture


def extract_frames(config: Config, call: Call) -> None:
    """Fill the frame store of a config's recipe."""
    from emoshare.training.source import open_store

    speak(call.verbose, config.trainer.progress)
    name = f"{config.backbone.name} {config.window.seconds:g} s"
    if call.total > 1:
        name = f"{call.number} of {call.total}  {name}"
    store = open_store(ResolvedRun(config), name)
    cost, known = store.cost, "stored" if store.computed else "there already"
    if 0 < store.computed < cost["clips"]:
        known = f"stored, {store.computed:,} of {cost['clips']:,} clips computed here"
    hours, realtime = cost["audio_seconds"] / 3600, cost["realtime"] or 0.0
    log.info("%s: %s, %.2f GB, %.2f h of audio, %.1f × real time", name, known, cost["bytes"] / 1e9, hours, realtime)


def bench_config(config: Config, call: Call) -> dict[str, Any] | None:
    """Measure this machine for a config; no corpus is needed. Of a backbone that is trained: its memory, on paper."""
    if not config.head.network:
        raise EmoshareError(
            f"head={config.head.name}: bench measures heads that are trained in epochs; choose head=mlp, or run "
            "`emoshare bench svr` for an SVR"
        )
    from emoshare.bench import measure

    speak(call.verbose, config.trainer.progress)  # Lightning, just imported, has set log levels of its own
    if not config.backbone.frozen:
        measure.print_estimated_memory(config)
        return None
    with warnings.catch_warnings(action="default" if call.verbose else "ignore"):
        return measure.run(ResolvedRun(config), sweep.recipe_key(config))


def bench_svr(config: Config, call: Call) -> None:
    """Solve an SVR's grid on random features, and let scikit-learn do it."""
    if not hasattr(config.head, "scalers"):
        raise EmoshareError(f"head={config.head.name}: bench svr measures head=svr; leave it out")
    from emoshare.bench.svr_speed import run

    speak(call.verbose, config.trainer.progress)
    run(config)


def bench_report(config: Config, call: Call) -> None:
    """Write the report of many made-up runs."""
    from emoshare.bench.report_speed import run

    speak(call.verbose, config.trainer.progress)
    run(config)


def print_estimate(values: list[dict[str, Any] | None], configs: Sequence[Config]) -> None:
    """Print the estimate of training all measured configs, and write it below their `paths.outputs`."""
    measured = [value for value in values if value]
    if not measured:
        return
    from emoshare.bench import estimate, measure

    beside = side_by_side(configs).runs
    measure.write_total(measured, Path(configs[0].paths.outputs), beside)
    print(estimate.sweep_text(measured, beside))


def train_config(config: Config, call: Call) -> float:
    """Train a run, as `train_run`."""
    return train_run(ResolvedRun(config), call)


def train_run(resolved: ResolvedRun, call: Call, frames_there: Callable[[], None] | None = None) -> float:
    """Train a run and return its devel score's worth (`_goodness`); in a sweep NaN if it failed, so that others go on.

    frames_there: is called once no frames are left to compute for the run.
    """
    check_stop()  # the request may have come in the last epoch of the run before
    skipped = resolved.finished
    try:
        results = skip_finished(resolved, call.sweeping) or _train_claimed(resolved, call, frames_there)
        if call.sweeping and resolved.config.cache.max_gb is not None:
            _release(resolved, results)
        return _goodness(results, WORST if call.searching else math.nan)
    except Exception as error:
        check_stop()  # processes of the run that got the same signal are missing then
        if skipped:  # what a finished run's folder holds is not to be recorded
            raise
        return fail(resolved, call, error)
    finally:
        if "torch" in sys.modules:
            gc.collect()
            sys.modules["torch"].cuda.empty_cache()


def fail(resolved: ResolvedRun, call: Call, error: Exception) -> float:
    """Record why a run failed, and say it in a sweep, whose other runs go on: NaN; else the error is raised."""
    run = resolved.run
    if call.sweeping or run.folder.exists():
        command, missing = shlex.join(["emoshare", *call.arguments]), isinstance(error, NotAtHandError)
        text = "".join(traceback.format_exception(error))
        resolved.fail(Failure(one_line(error), text, command, missing))
    if not call.sweeping or call.searching:
        raise error
    if isinstance(error, NotAtHandError):
        log.warning("not at hand: %s%s", run.name, "" if call.checked else f": {one_line(error)}")  # told before
    else:
        log.error("failed: %s: %s", run.name, one_line(error))
    return math.nan


def _train_claimed(resolved: ResolvedRun, call: Call, frames_there: Callable[[], None] | None) -> Results:
    """Train a run on a GPU that no other run has claimed."""
    load_libraries()
    from emoshare.core.hardware import claim_gpu
    from emoshare.training.train import train_resolved

    if not call.quiet:
        speak(call.verbose, resolved.config.trainer.progress)  # Lightning, just imported, has set log levels of its own
    with claim_gpu(resolved.config.trainer) as number:
        return train_resolved(resolved.on_gpu(number), call.sweeping, call.beside, frames_there, call.checked)


@functools.cache  # the first call alone: later ones would keep garbage, too
def load_libraries() -> None:
    """Import what every training run needs; it takes seconds."""
    with importing():
        import emoshare.runs.run_plots
        import emoshare.training.train  # noqa: F401


def _release(resolved: ResolvedRun, results: Results) -> None:
    """Under a budget, drop frames that no run of the sweep still needs; a cache that cannot be cleaned fails no run."""
    from emoshare.store import cache

    recipe, key, folder = results.frames.recipe, sweep.recipe_key(resolved.config), resolved.run.folder
    try:
        if recipe and not sweep.is_needed(folder, key, resolved.config.restart):
            gc.collect()  # the run's own store is closed with its last reference
            if cache.drop(resolved.cache / "frames" / recipe, sweep.requests(folder, key)):
                log.info("dropped the frames of recipe %s: its last run is done", recipe)
    except (OSError, EmoshareError) as error:
        log.warning("the frames of recipe %s could not be dropped: %s", recipe, one_line(error))


def _goodness(results: Results, none: float) -> float:
    """The worth of a run's devel score by its main metric, greater is better; `none` where it has none."""
    value = results.main.goodness(results.score("devel", results.main.name))
    return value if math.isfinite(value) else none


def fuse_folders(
    paths: Sequence[Path], out: Path, weights: str | Sequence[float] = "mean", name: str | None = None
) -> Results:
    """Fuse the runs of some folders: runs, or sweeps whose finished runs are meant, fusions apart.

    Raises:
        EmoshareError: what `fuse` raises.
    """
    from emoshare.training.fusion import fuse

    folders = [folder for path in paths for folder in sweep.finished_runs(path) or [path]]
    return fuse(folders, out, cast("Literal['mean', 'learned', 'greedy'] | Sequence[float]", weights), name)


Verb = Callable[[Config, Call], Any]
VERBS: dict[str, Verb] = {
    "check": check_corpus, "extract": extract_frames, "train": train_config, "bench": bench_config,
    "bench svr": bench_svr, "bench report": bench_report,
}  # fmt: skip
