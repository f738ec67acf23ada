"""Scores of runs in each resample of the clips: worked out once, and kept in `resampled/<partition>.npz` of a run.

They hold for the predictions, labels and clusters that they were made from, whose digests are kept beside them. The
archive has checksums of its own. Of folds that are joined they lie in the folder of the first.

Shapes: N clips of a partition, E targets, B resamples, R runs of a cell.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emoshare.core.files import replacing
from emoshare.core.hashing import check_file, digest, file_digests
from emoshare.core.spread import is_constant
from emoshare.metrics.bootstrap import replicates
from emoshare.metrics.metric import Metric, combine
from emoshare.metrics.outside import source_hash
from emoshare.metrics.rank import area_under_curve
from emoshare.metrics.scores import mean_score
from emoshare.reporting.labels import Labels, read_predictions
from emoshare.reporting.loaded import Cell, LoadedRun
from emoshare.runs.results import REMEDY

VERSION = 1  # of what is kept: raise it when a score or the draw changes
TOGETHER = 8  # runs that share the ranks of the labels


@dataclass(frozen=True)
class Resampled:
    """The scores of a run, or the mean over those of a cell, in each resample; by the rules of `metrics/scores.py`."""

    scores: dict[str, np.ndarray]  # metric → (E, B) float32
    mae: np.ndarray  # (R, E), mean absolute error, not resampled
    auc: np.ndarray  # (R, E), area under the ROC curve; NaN where labels are not 0 or 1
    constant: np.ndarray  # (E,) whether any of the runs predicts a target as one number

    def of(self, metric: str, target: int | None = None) -> np.ndarray:
        """(B,) one target's scores, or those of the mean over targets; NaN where the metric cannot be computed here."""
        values = self.scores.get(metric, np.full_like(next(iter(self.scores.values())), np.nan))
        return mean_score(values, axis=0) if target is None else values[target].astype(np.float64)


@dataclass(frozen=True)
class Resampling:
    """How the scores of runs on one partition are resampled."""

    partition: str
    labels: Labels
    targets: tuple[str, ...]
    metrics: tuple[Metric, ...]
    resamples: int
    keep: bool = True  # in the runs' folders

    def cells(self, cells: Sequence[Cell]) -> Iterator[tuple[str, Resampled]]:
        """The key of each cell with results, and the mean over its runs."""
        with_runs = [cell for cell in cells if cell.runs]
        found = self.runs([run for cell in with_runs for run in cell.runs])
        for cell in with_runs:
            yield cell.key, mean_over([found[run.folder] for run in cell.runs])

    def runs(self, runs: Sequence[LoadedRun]) -> dict[Path, Resampled]:
        """Folder of each run → its scores.

        Raises:
            EmoshareError: predictions are missing, damaged, or not of the clips of the labels.
        """
        found = {run.folder: kept for run in runs if (kept := self._kept(run))}
        missing = [run for run in runs if run.folder not in found]
        for start in range(0, len(missing), TOGETHER):
            some = missing[start : start + TOGETHER]
            found |= {run.folder: made for run, made in zip(some, self._computed(some), strict=True)}
        return found

    def _computed(self, runs: Sequence[LoadedRun]) -> Iterator[Resampled]:
        true = self.labels.shares
        predicted = [read_predictions(run, self.partition, self.targets, self.labels.files) for run in runs]
        names = {metric.name for metric in self.metrics}
        alone = [metric for metric in self.metrics if not (metric.parts and names.issuperset(metric.parts))]
        drawn = replicates(true, predicted, self.resamples, clusters=self.labels.clusters, metrics=alone)  # (R, E, B)
        for r, (run, shares) in enumerate(zip(runs, predicted, strict=True)):
            scores = {name: values[r].astype(np.float32) for name, values in drawn.items()}
            mae, auc = np.abs(shares - true).mean(axis=0)[None], area_under_curve(true, shares)[None]
            found = Resampled(scores, mae, auc, is_constant(shares))
            if self.keep:
                self._write(run, found)
            yield self._with_means(found)

    def _write(self, run: LoadedRun, found: Resampled) -> None:
        arrays: dict[str, Any] = {"key": np.array(self._key(run)), "mae": found.mae, "auc": found.auc}
        arrays |= {"constant": found.constant} | {f"score:{name}": item for name, item in found.scores.items()}
        with suppress(OSError), replacing(run.folder / "resampled" / f"{self.partition}.npz") as path:
            np.savez(path, **arrays)

    def _kept(self, run: LoadedRun) -> Resampled | None:
        """None where nothing is kept, or it was made from something else, or is damaged."""
        try:
            key = self._key(run)
            with np.load(run.folder / "resampled" / f"{self.partition}.npz") as arrays:
                if arrays["key"] != key:
                    return None
                scores = {name[6:]: arrays[name] for name in arrays.files if name.startswith("score:")}
                return self._with_means(Resampled(scores, arrays["mae"], arrays["auc"], arrays["constant"]))
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
            return None

    def _with_means(self, found: Resampled) -> Resampled:
        """The scores with those of metrics that are the mean of others, in the order of tables."""
        used = [metric for metric in self.metrics if metric.computable]
        scores = combine(used, lambda metric: found.scores[metric.name])
        return Resampled(scores, found.mae, found.auc, found.constant)

    def _key(self, run: LoadedRun) -> str:
        """A digest of all that the scores depend on. EmoshareError where predictions are not what the run wrote."""
        name = f"predictions/{self.partition}.csv"
        told = []
        for part in run.parts or (run,):
            known = part.results.files.get(name)
            check_file(part.folder / name, known, REMEDY)
            told.append(known or file_digests(part.folder, [name])[name])
        metrics = [[metric.name, source_hash(metric.name)] for metric in self.metrics if metric.computable]
        return digest([VERSION, told, self.labels.digest, self.resamples, metrics])


def mean_over(runs: Sequence[Resampled]) -> Resampled:
    """The mean over the runs of a cell, all on the same resamples."""
    names = runs[0].scores
    drawn = {name: np.stack([run.scores[name] for run in runs]) for name in names}  # (R, E, B)
    return Resampled(
        {name: values.mean(axis=0, dtype=np.float64).astype(np.float32) for name, values in drawn.items()},
        np.concatenate([run.mae for run in runs]),
        np.concatenate([run.auc for run in runs]),
        np.logical_or.reduce([run.constant for run in runs]),
    )
