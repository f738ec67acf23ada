"""From folders to a study: every run below them, found by its files, grouped into cells that differ in the seed alone.

Folder names are never parsed: a run is described by its results.json, or in its config.yaml while it has none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError, NoRunError
from emoshare.core.kinds import values_of
from emoshare.core.text import printable
from emoshare.core.typed import fill
from emoshare.core.unread import unread_keys
from emoshare.metrics.bootstrap import RESAMPLES
from emoshare.metrics.metric import Metric
from emoshare.metrics.registry import STANDARD, principal
from emoshare.models.losses.mix import ALL, mix_text
from emoshare.reporting.folds import Joined, join, with_gain
from emoshare.reporting.labels import Labels, predictions_of, read_labels, read_predictions
from emoshare.reporting.loaded import Cell, LoadedRun
from emoshare.reporting.same import same_runs, shared_values
from emoshare.reporting.scoring import metrics_of_runs, with_scores
from emoshare.runs.folder import Run
from emoshare.runs.identity import flatten, is_neutral, is_within_cell, seed_of
from emoshare.runs.listing import LIST, listed_runs, merge_values
from emoshare.runs.resampled import Predictions, Resampling
from emoshare.runs.results import CorpusRecord, Results
from emoshare.runs.trackers.wandb import FOLDER

WEIGHTS = {f"loss.{name}" for name in ALL}
ABSENT_RUNS = "no runs there (no results.json, failure.json or config.yaml of a run below it)"
FILES = {"results.json", "failure.json", "config.yaml"}


@dataclass(frozen=True)
class Study:
    """All runs of a report: one corpus, one set of targets.

    Attributes:
        cells: those with results first, in order of appearance.
        duplicates: finished runs left out because another folder holds the same run or the same predictions.
        folds: the finished runs with their folds joined, and what is missing of these.
        labels: partition → labels, where they are known.
        resampling: of the same partitions: how scores are resampled.
        metrics: of any run's config, and Avg, in the order of tables.
    """

    folders: tuple[Path, ...]
    runs: tuple[LoadedRun, ...]
    cells: tuple[Cell, ...]
    duplicates: tuple[LoadedRun, ...]
    folds: Joined
    targets: tuple[str, ...]
    corpus: CorpusRecord
    labels: dict[str, Labels]
    resampling: dict[str, Resampling]
    metrics: tuple[Metric, ...] = STANDARD

    def predictions(self, run: LoadedRun, partition: str) -> np.ndarray:
        """(N, E) predicted shares of a partition with known labels.

        Raises:
            EmoshareError: the file is unreadable, or its clips are not those of the labels.
        """
        return read_predictions(run, partition, self.targets, self.labels[partition].files)

    def stored_predictions(self, run: LoadedRun, partition: str) -> Predictions:
        """The predictions of a run as resampling takes them."""
        return predictions_of(run, partition, self.targets, self.labels[partition].files)


def shared_config(run: LoadedRun) -> dict[str, Any]:
    """A run's flat config without the seed and without what makes no difference to its numbers, but for names.

    A fusion has no window: that of its config is the default, not its members'.
    """

    def counts(key: str) -> bool:
        windowless = run.is_fusion and key.startswith("window.")
        return not (is_within_cell(key) or key in run.unread or windowless or is_neutral(key))

    config = {key: value for key, value in run.config.items() if key == "backbone.name" or counts(key)}
    if text := mix_text(config, "loss."):  # one key in place of a weight each
        config = {key: value for key, value in config.items() if key not in WEIGHTS} | {"loss": text}
    return config


def find(folder: Path, problems: list[str]) -> Iterator[LoadedRun]:
    """Runs at or below a folder; a sweep's own list names those that were never started.

    What cannot be read goes to `problems`.
    """
    for path, folders, files in os.walk(folder):
        here = Path(path).resolve()
        if FILES & set(files):
            folders.clear()  # whatever lies deeper belongs to this run
        try:
            if FILES & set(files):
                yield load(here)
            elif LIST in files:
                yield from waiting_runs(here)
        except NoRunError:  # of an evaluation, which may lie anywhere
            pass
        except EmoshareError as error:
            problems.append(str(error))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != FOLDER)


def waiting_runs(sweep: Path) -> Iterator[LoadedRun]:
    """The runs of a sweep's list whose folders hold nothing yet."""
    for job in listed_runs(sweep):
        if not any((sweep / job.run / name).exists() for name in FILES):
            config = fill(Config, job.config, f"{sweep / LIST}, {job.run}")
            yield LoadedRun(sweep / job.run, "waiting", **facts_of(config))


def load(folder: Path) -> LoadedRun:
    """One run from its files.

    Raises:
        EmoshareError: a file cannot be read, or is of another format.
    """
    run = Run(folder)
    results = run.results()
    typed = fill(Config, results.config, str(run.results_path)) if results else run.config()
    told = facts_of(typed) if typed else {"config": {}}
    if results:
        return LoadedRun(folder, "done", cell=run.cell(results), outcome=results, **told)
    failure = run.failure()
    error, command = (printable(failure.error), printable(failure.command)) if failure else ("", "")
    return LoadedRun(folder, run.state(), error=error, command=command, **told)


def facts_of(config: Config) -> dict[str, Any]:
    """The facts of a run in its config: fields of `LoadedRun`."""
    return {
        "config": flatten(values_of(config)),
        "unread": unread_keys(config).keys(),
        "counts_seed": seed_of(config) is not None,
    }


def collect(folders: Sequence[Path], resamples: int = RESAMPLES, keep: bool = True) -> Study:
    """Every run below the folders, as one study.

    Args:
        folders: sweeps, or anything above run folders.
        resamples: of the bootstrap over clips.
        keep: whether resampled scores are written into the runs' folders, so that the next report is there at once.

    Raises:
        EmoshareError: a folder is missing or holds no run, files cannot be read (all of them are named), no run is
            finished, or the runs are not of one corpus and one set of targets.
    """
    runs = read_runs(folders)
    done = [run for run in runs if run.state == "done"]
    if not done:
        started = [run for run in runs if run.state != "waiting"]
        lines = "".join(f"\n  {run.folder}: {run.state} {run.error}".rstrip() for run in started)
        raise EmoshareError(f"{', '.join(map(str, folders))}: no run is finished{lines}")
    _require_same(done, lambda run: run.results.corpus.fingerprint, "corpora")
    _require_same(done, lambda run: ", ".join(run.results.targets), "targets")
    targets = tuple(done[0].results.targets)
    same = same_runs(done)
    joined = join([runs[0] for runs in same], targets)
    if not joined.runs:
        raise EmoshareError("\n".join(f"{run.folder.parent}: {run.error}" for run in joined.missing))
    duplicates = [run for runs in same for run in runs[1:]]
    labels = {name: read_labels(joined.runs, name, targets) for name in ("devel", "test")}
    metrics = metrics_of_runs(joined.runs)
    known = {name: item for name, item in labels.items() if item is not None}
    if "devel" not in known:
        raise EmoshareError(f"{done[0].folder / 'reference' / 'devel.csv'}: missing; train the run again")
    scored = [with_scores(run, metrics, known, targets) for run in joined.runs]
    resampling = {p: Resampling(item.shares, item.clusters, metrics, resamples, keep) for p, item in known.items()}
    main = principal(metrics)
    joined = replace(joined, runs=[with_gain(run, scored, known, resampling, main) for run in scored])
    unfinished = [*(run for run in runs if run.state != "done"), *joined.missing]
    cells = _group(joined.runs, unfinished, shared_values(same))
    corpus = joined.runs[0].results.corpus
    return Study(
        tuple(map(Path, folders)), tuple(runs), cells, tuple(duplicates), joined, targets, corpus, known, resampling,
        metrics,
    )  # fmt: skip


def read_runs(folders: Sequence[Path]) -> list[LoadedRun]:
    """Every run below the folders, each once. EmoshareError as `collect`."""
    by_folder: dict[Path, LoadedRun] = {}
    problems: list[str] = []
    for folder in folders:
        below = {run.folder: run for run in find(Path(folder), problems)}
        if not below and not problems:
            exported = (Path(folder) / "config.json").is_file()
            what = "an exported model, and its run is elsewhere; name outputs/<sweep>" if exported else ABSENT_RUNS
            raise EmoshareError(f"{folder}: {what}")
        by_folder |= below
    if problems:
        raise EmoshareError("\n".join(problems))
    return list(by_folder.values())


def newest(outputs: Path) -> list[Path]:
    """The folders for `collect` that show the run that finished last: its sweep.

    Where the sweep also holds finished runs of other corpora or targets, or results that cannot be read, the folders
    of the runs that agree with the newest one.

    Raises:
        EmoshareError: no finished run below the folder.
    """
    finished: dict[Path, Results] = {}
    names = (path.relative_to(outputs) for path in outputs.glob("**/results.json"))
    paths = [outputs / name for name in names if not any(part.startswith(".") for part in name.parts)]
    for path in paths:
        with suppress(EmoshareError):
            finished[path.parent] = Results.read(path)
    if not finished:
        raise EmoshareError(f"{outputs.resolve()}: no finished run is there yet; train some, or name another folder")
    last = max(finished, key=lambda folder: finished[folder].finished)

    def kind(results: Results) -> tuple[Any, ...]:
        return results.corpus.fingerprint, *results.targets

    alike = [
        folder for folder in finished if folder.parent == last.parent and kind(finished[folder]) == kind(finished[last])
    ]
    beside = [path for path in paths if path.parent.parent == last.parent]
    return [last.parent] if len(alike) == len(beside) else sorted(alike)


def _group(
    done: Sequence[LoadedRun], unfinished: Sequence[LoadedRun], values: Mapping[Path, dict[str, list[Any]]]
) -> tuple[Cell, ...]:
    """Cells in order of appearance; `unfinished` are the runs without results, values of `same.shared_values`."""
    seeds: dict[str, dict[Any, LoadedRun]] = {}
    for run in done:
        seeds.setdefault(run.cell, {})[run.seed] = run
    configs = {key: shared_config(next(iter(runs.values()))) for key, runs in seeds.items()}
    keys = {_text(config): key for key, config in configs.items()}
    others: dict[str, list[LoadedRun]] = {}
    for run in unfinished:
        if run.config:  # a run without a config belongs to no cell, but stays in the study
            config = shared_config(run)
            key = keys.setdefault(_text(config), str(run.folder))
            configs.setdefault(key, config)
            if run.seed not in seeds.get(key, {}):  # another folder has its results
                others.setdefault(key, []).append(run)

    def cell(key: str) -> Cell:
        runs = tuple(sorted(seeds.get(key, {}).values(), key=lambda run: run.seed))
        trained = [part.folder for run in runs for part in run.parts or (run,)]
        shared = merge_values([values.get(folder, {}) for folder in trained])
        return Cell(key, configs[key], runs, tuple(others.get(key, ())), shared)

    return tuple(map(cell, configs))


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _require_same(runs: Sequence[LoadedRun], value: Callable[[LoadedRun], str], what: str) -> None:
    first: dict[str, LoadedRun] = {}
    for run in runs:
        first.setdefault(value(run), run)
    if len(first) > 1:
        lines = "".join(f"\n  {name}: first in {run.folder}" for name, run in first.items())
        raise EmoshareError(f"runs of {len(first)} {what} cannot be compared; report them one by one{lines}")
