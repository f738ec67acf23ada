"""From folders to a study: every run below them, found by its files, grouped into cells that differ in the seed alone.

Folder names are never parsed: what a run is stands in its results.json, or in its config.yaml while it has none.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from emoshare.core.errors import EmoshareError
from emoshare.core.files import read_json
from emoshare.runs.sweep import LIST, listed

FORMAT = 1  # of results.json
ANEW = "remove it to run anew"
EXCLUDED = (
    "paths", "logger", "sweep", "cache", "bench", "resume", "force", "data.workers",
    "trainer.device", "trainer.progress", "extract.max_batch_seconds",
)  # fmt: skip
FILES = {"results.json", "failure.json", "config.yaml"}


@dataclass(frozen=True)
class Run:
    """One training, finished or not.

    Attributes:
        state: done | failed | unfinished | waiting (listed by its sweep, and never started).
        config: dotted key → value.
        results: results.json; empty unless done.
        error: why it failed, one line.
        command: what repeats it, where it failed.
    """

    folder: Path
    state: str
    config: dict[str, Any]
    results: dict[str, Any]
    error: str = ""
    command: str = ""

    @property
    def seed(self) -> Any:
        return self.config.get("seed")

    def metric(self, partition: str, name: str, target: str = "mean") -> float:
        """A score as results.json has it; NaN where it is not a number or the partition has no labels."""
        value = self.results["metrics"].get(partition, {}).get(name, {}).get(target)
        return math.nan if value is None else float(value)


@dataclass(frozen=True)
class Cell:
    """Runs that differ in the seed alone.

    Attributes:
        key: hash of the config without its seed; the folder of the first run for a cell without results.
        config: dotted key → value, without what the hash excludes.
        runs: finished, by seed, none twice.
        others: without results, of seeds that have none.
    """

    key: str
    config: dict[str, Any]
    runs: tuple[Run, ...]
    others: tuple[Run, ...]

    def metric(self, partition: str, name: str, target: str = "mean") -> np.ndarray:
        """(R,) a score of each finished run."""
        return np.array([run.metric(partition, name, target) for run in self.runs])

    @property
    def state(self) -> str:
        """done, or why there is nothing: failed | unfinished | waiting."""
        states = {run.state for run in self.others}
        return "done" if self.runs else next(state for state in ("failed", "unfinished", "waiting") if state in states)


@dataclass(frozen=True)
class Truth:
    """A partition's labels: N clips, E targets."""

    files: tuple[str, ...]
    shares: np.ndarray  # (N, E)
    seconds: np.ndarray  # (N,)


@dataclass(frozen=True)
class Study:
    """All runs of a report: one corpus, one set of targets.

    Attributes:
        cells: those with results first, in order of appearance.
        twins: finished runs left out because the same cell and seed stands in another folder, too.
        truth: partition → labels, where they are known.
    """

    folders: tuple[Path, ...]
    runs: tuple[Run, ...]
    cells: tuple[Cell, ...]
    twins: tuple[Run, ...]
    targets: tuple[str, ...]
    corpus: dict[str, Any]
    truth: dict[str, Truth]

    def predictions(self, run: Run, partition: str) -> np.ndarray:
        """(N, E) predicted shares of a partition with known labels.

        Raises:
            EmoshareError: the file is unreadable, or its clips are not those of the labels.
        """
        path = run.folder / "predictions" / f"{partition}.csv"
        table = _table(path, ("filename", *self.targets))
        if tuple(table["filename"].tolist()) != self.truth[partition].files:
            raise EmoshareError(f"{path}: not the clips of the corpus that results.json names; run it anew")
        return np.stack([table[target] for target in self.targets], 1)


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"window": {"seconds": 3}}` → `{"window.seconds": 3}`."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def identity(config: dict[str, Any]) -> dict[str, Any]:
    """A flat config without the seed and without what makes no difference to a run's numbers."""
    return {
        key: value
        for key, value in config.items()
        if key != "seed" and not any(key == out or key.startswith(f"{out}.") for out in EXCLUDED)
    }


def find(folder: Path, problems: list[str]) -> Iterator[Run]:
    """Runs at or below a folder; a sweep's own list tells of those that were never started.

    What cannot be read goes to `problems`.
    """
    for path, folders, files in os.walk(folder):
        here = Path(path).resolve()
        if FILES & set(files):
            folders.clear()  # whatever lies deeper belongs to this run
        try:
            if FILES & set(files):
                yield read(here)
            elif LIST in files:
                absent = [job for job in listed(here) if not any((here / job.run / name).exists() for name in FILES)]
                yield from (Run(here / job.run, "waiting", flatten(job.config), {}) for job in absent)
        except EmoshareError as error:
            problems.append(str(error))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "wandb")


def read(folder: Path) -> Run:
    """One run from its files.

    Raises:
        EmoshareError: a file cannot be read, or is of another format.
    """
    results, failure = folder / "results.json", folder / "failure.json"
    if results.exists() and not failure.exists():  # both: the last attempt to do it anew failed
        content = read_json(results, ANEW)
        if content.get("format") != FORMAT or not {"cell", "config", "metrics", "targets", "corpus"} <= set(content):
            raise EmoshareError(f"{results}: not results of format {FORMAT}; {ANEW}")
        return Run(folder, "done", flatten(content["config"]), content)
    config = _yaml(folder / "config.yaml")
    if failure.exists():
        content = read_json(failure, ANEW)
        return Run(folder, "failed", config, {}, str(content.get("error", "")), str(content.get("command", "")))
    return Run(folder, "unfinished", config, {})


def collect(folders: Sequence[Path]) -> Study:
    """Every run below the folders, as one study.

    Raises:
        EmoshareError: a folder is missing or holds no run, files cannot be read (all of them are named), no run is
            finished, or the runs are not of one corpus and one set of targets.
    """
    places: dict[Path, Run] = {}  # a folder named twice counts once
    problems: list[str] = []
    for folder in folders:
        found = {run.folder: run for run in find(Path(folder), problems)}
        if not found and not problems:
            raise EmoshareError(f"{folder}: no runs there (no results.json, failure.json or config.yaml below it)")
        places |= found
    if problems:
        raise EmoshareError("\n".join(problems))
    runs = list(places.values())
    done = [run for run in runs if run.state == "done"]
    if not done:
        started = [run for run in runs if run.state != "waiting"]
        lines = "".join(f"\n  {run.folder}: {run.state} {run.error}".rstrip() for run in started)
        raise EmoshareError(f"{', '.join(map(str, folders))}: no run is finished{lines}")
    _same(done, lambda run: run.results["corpus"]["fingerprint"], "corpora")
    _same(done, lambda run: ", ".join(run.results["targets"]), "targets")
    cells, twins = _cells(runs)
    targets = tuple(done[0].results["targets"])
    truth = {name: _truth(done[0].folder, name, targets) for name in ("devel", "test")}
    known = {name: labels for name, labels in truth.items() if labels is not None}
    if "devel" not in known:
        raise EmoshareError(f"{done[0].folder / 'reference' / 'devel.csv'}: missing; run it anew")
    return Study(tuple(map(Path, folders)), tuple(runs), cells, twins, targets, done[0].results["corpus"], known)


def _cells(runs: Sequence[Run]) -> tuple[tuple[Cell, ...], tuple[Run, ...]]:
    """Cells in order of appearance, and the runs that another folder holds, too (the one finished last counts)."""
    done: dict[str, dict[Any, Run]] = {}
    twins: list[Run] = []
    for run in sorted((r for r in runs if r.state == "done"), key=lambda r: str(r.results.get("finished"))):
        seeds = done.setdefault(run.results["cell"], {})
        twins += [seeds[run.seed]] if run.seed in seeds else []
        seeds[run.seed] = run
    configs = {key: identity(next(iter(seeds.values())).config) for key, seeds in done.items()}
    keys = {json.dumps(config, sort_keys=True): key for key, config in configs.items()}
    others: dict[str, list[Run]] = {}
    for run in runs:
        if run.state != "done" and run.config:  # a run without a config belongs to no cell, but stays in `runs`
            config = identity(run.config)
            key = keys.setdefault(json.dumps(config, sort_keys=True), str(run.folder))
            configs.setdefault(key, config)
            if run.seed not in done.get(key, {}):  # another folder has its results
                others.setdefault(key, []).append(run)
    return tuple(
        Cell(key, config, tuple(sorted(done.get(key, {}).values(), key=lambda r: r.seed)), tuple(others.get(key, ())))
        for key, config in configs.items()
    ), tuple(twins)


def _same(runs: Sequence[Run], value: Any, what: str) -> None:
    first: dict[str, Run] = {}
    for run in runs:
        first.setdefault(value(run), run)
    if len(first) > 1:
        lines = "".join(f"\n  {name}: first in {run.folder}" for name, run in first.items())
        raise EmoshareError(f"runs of {len(first)} {what} cannot be compared; report them one by one{lines}")


def _truth(folder: Path, partition: str, targets: tuple[str, ...]) -> Truth | None:
    path = folder / "reference" / f"{partition}.csv"
    if not path.exists():
        return None
    table = _table(path, ("filename", *targets, "seconds"))
    shares = np.stack([table[target] for target in targets], 1)  # (N, E)
    return Truth(tuple(table["filename"].tolist()), shares, table["seconds"])


def _table(path: Path, columns: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Columns of a CSV file: filename as text, the others as float64."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
        kinds = {name: str if name == "filename" else np.float64 for name in columns}
        return {name: np.array([row[name] for row in rows], kind) for name, kind in kinds.items()}
    except KeyError as error:
        raise EmoshareError(f"{path}: not readable (no column {error}); run it anew") from None
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise EmoshareError(f"{path}: not readable ({error}); run it anew") from None


def _yaml(path: Path) -> dict[str, Any]:
    """A flat config; empty where a run failed before it wrote one."""
    if not path.exists():
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise EmoshareError(f"{path}: not readable ({error}); {ANEW}") from None
    return flatten(content) if isinstance(content, dict) else {}
