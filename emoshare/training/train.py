"""One run, from a checked config to a finished run folder: skip, lock, learn by a system, score, results last."""

from __future__ import annotations

import importlib.metadata
import logging
import math
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from emoshare.core.config import Config
from emoshare.core.hardware import peak_memory, reset_peak_memory
from emoshare.core.hashing import file_digests
from emoshare.core.kinds import values_of
from emoshare.core.leftovers import repair_folder
from emoshare.core.records import record_of
from emoshare.core.text import console_table
from emoshare.core.version import __version__
from emoshare.metrics.metric import Metric
from emoshare.metrics.rank import SCC
from emoshare.metrics.registry import asked_metrics, metrics_of, own_metrics, principal
from emoshare.models import conformal
from emoshare.runs.folder import Run, lock
from emoshare.runs.log import run_log
from emoshare.runs.logger import log_results, logging_to
from emoshare.runs.predictions import Scores, describe_scores, score_and_write, tables_of
from emoshare.runs.resolved import ResolvedRun
from emoshare.runs.results import BackboneRecord, Best, CorpusRecord, FramesRecord, Resolved, Results
from emoshare.runs.skip import skip_finished
from emoshare.runs.sweep import place_of
from emoshare.training import source
from emoshare.training.progress import finished_line, label
from emoshare.training.ready import check_ready, oddities
from emoshare.training.system import Outcome, Task

log = logging.getLogger("emoshare")
PACKAGES = (
    "torch", "transformers", "pytorch-lightning", "torchaudio", "hydra-core", "numpy", "scipy",
    "scikit-learn",
)  # fmt: skip


def train(config: Config) -> Results:
    """Train the run of a config, or return its results where it is finished. EmoshareError as `train_resolved`."""
    return train_resolved(ResolvedRun(config))


def train_resolved(
    resolved: ResolvedRun, sweeping: bool = False, beside: int = 1, frames_there: Callable[[], None] | None = None,
    checked: bool = False,
) -> Results:  # fmt: skip
    """Train a run, or return its results where it is finished.

    Args:
        resolved: the run.
        sweeping: the run is one of a sweep, so that its summary is one line with its number.
        beside: runs of the sweep that go on at the same time, this one among them.
        frames_there: is called when the stored frames are there, before the head learns; not where there are none.
        checked: `check_ready` has taken the run, on this machine.

    Raises:
        EmoshareError: the config, corpus, backbone or machine does not allow it, or training diverged.
    """
    if results := skip_finished(resolved, sweeping):
        return results
    started = time.monotonic()
    if not checked:
        check_ready([resolved])
    resolved.config.head.check_packages()  # here: a sweep notes this run as not at hand and goes on
    odd, folder = oddities(resolved.corpus), resolved.run.folder
    with lock(folder):
        repair_folder(folder)  # of a restart that was killed as it put the new folder in place of the old
        if results := skip_finished(resolved, sweeping):  # finished by the process that was waited for
            return results
        place = place_of(folder, beside) if sweeping else None
        with resolved.building() as new, run_log(new.run.folder / "run.log"):
            for line in odd:  # a sweep has told them once for all of its runs
                log.log(logging.DEBUG if sweeping else logging.WARNING, "%s", line)
            assert new.precision  # chosen now, so that its log says why
            reset_peak_memory(new.device)
            frames = source.open(new, label(new, place))
            if frames_there is not None and frames.store is not None:
                frames_there()
            results = learn(Task(new, frames, place), started)
    log.info("%s", finished_line(resolved, place, results) if sweeping else summary(results, folder))
    return results


def learn(task: Task, started: float) -> Results:
    """Let the run's system learn and predict; score, and write results.json last of the run's own files."""
    extracted = time.monotonic()
    with logging_to(task.resolved) as loggers:
        outcome: Outcome = task.config.head.fit_predict(replace(task, loggers=loggers))
        metrics = score_and_write(task.run, task.corpus, outcome.predictions, metrics_of(task.config))
        fitted = time.monotonic()
        figures = draw(task.run, asked_metrics(task.config), task.corpus.range)
        timings = {
            "extract_seconds": extracted - started,
            "fit_seconds": fitted - extracted,
            "total_seconds": time.monotonic() - started,
        }
        results = describe(task, outcome, metrics, timings)
        results.write(task.run.results_path)  # from here on the run is finished, even if its logger fails
        log_results(task.resolved, loggers, results, outcome.predictions, task.corpus, figures)
    return results


def describe(task: Task, outcome: Outcome, metrics: dict[str, Scores], timings: dict[str, float]) -> Results:
    """The content of results.json."""
    remarks, classes = describe_scores(task.corpus, outcome.predictions)
    config, store, partitions = task.config, task.source.store, task.corpus.partitions.items()
    used, main = metrics_of(config), principal(asked_metrics(config)).name
    return Results(
        run=task.run.name,
        sweep=config.sweep.name,
        seed=task.resolved.seed,
        system=config.head.system,
        config=values_of(config),
        targets=list(task.corpus.targets),
        corpus=CorpusRecord(
            task.corpus.name,
            task.corpus.fingerprint,
            {name: len(p.files) for name, p in partitions},
            {name: float(p.seconds.sum()) / 3600 for name, p in partitions},
            task.corpus.folds,
            task.corpus.leaks,
        ),
        backbone=record_of(BackboneRecord, task.source.identity),
        frames=record_of(FramesRecord, {"source": "store", **store.cost}) if store else FramesRecord("backbone"),
        resolved=Resolved(
            device=str(task.device),
            precision=task.precision,
            **task.source.resolved,
            refit=outcome.refit,
            predicted_by=outcome.predicted_by,
            rest=outcome.choices,
        ),
        versions={
            "emoshare": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES},
        },
        best=Best(outcome.best_epoch, metrics["devel"][main]["mean"]),
        metrics=metrics,  # type: ignore[arg-type]
        epochs=outcome.epochs,
        timings={**timings, **outcome.timings},
        memory=peak_memory(task.device),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        intervals=intervals(task, outcome),
        files=file_digests(task.run.folder, [*tables_of(task.run.folder), *outcome.weights]),
        remarks=remarks,
        own_metrics=own_metrics(used),
        classes=classes,
    )


def intervals(task: Task, outcome: Outcome) -> conformal.Intervals | None:
    """Calibration and intervals of single predictions, fitted on devel."""
    corpus, config = task.corpus, task.config.intervals
    true = {name: part.shares for name, part in corpus.partitions.items() if part.shares is not None}
    known = {name: shares for name, shares in true.items() if name in outcome.predictions}
    return conformal.fit(
        outcome.predictions, known, corpus.targets, corpus.clusters_of("devel"), config.level, config.calibration
    )


def draw(run: Run, metrics: Sequence[Metric], span: Sequence[float]) -> list[Path]:
    """Draw a run's figures: predicted against true shares on devel and, after epochs, the learning curve.

    span: the range of the labels.
    """
    from emoshare.runs import run_plots

    folder, history = run.folder / "figures", run.folder / "metrics.csv"
    curve, shares = folder / "learning_curve.png", folder / "shares.png"
    if history.exists():
        run_plots.learning_curve(history, curve, metrics)
    run_plots.share_scatter(run.folder / "predictions/devel.csv", run.folder / "reference/devel.csv", shares, span)
    return [path for path in (curve, shares) if path.exists()]


def summary(results: Results, folder: Path) -> str:
    """The table at the end of a run, with its folder: metrics per emotion, on devel and where labels are known on test.

    Where labels are one-hot the next column is the highest SCC that untied predictions can reach.
    """
    columns: dict[str, Callable[[str], float | None]] = {}
    for part in results.metrics:
        classes = results.classes.get(part)
        for metric in (metric for metric in results.scoring_metrics if not metric.parts):
            columns[f"{part} {metric.label}"] = partial(results.score, part, metric.name)
            columns |= {f"{part} SCC ≤": classes.scc_ceiling.__getitem__} if classes and metric is SCC else {}
    rows = [[t, *(decimal(column(t)) for column in columns.values())] for t in [*results.targets, "mean"]]
    main = results.main
    title = f"{results.run}: devel {main.label} {results.score('devel', main.name):.4f}{results.mean_of('devel')}"
    if results.best.epoch is not None:
        title += f" in epoch {results.best.epoch + 1} of {results.epochs}"
    lines = [title, console_table(["emotion", *columns], rows).rstrip("\n"), *results.lines, f"run: {folder}"]
    return "\n" + "\n".join(lines) + "\n"


def decimal(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"
