"""Scores of runs in each resample of the clips, computed once and stored in `resampled/<partition>.npz` of a run.

The first that needs them stores them: W&B at a run's end, a fusion, a model card, or the first report, so that a sweep
whose intervals nobody looks at pays nothing. They belong to the predictions, labels, clusters and metrics that they
were made from, whose digests are stored beside them. The archive has checksums of its own.

Shapes: N clips of a partition, E targets, B resamples, R runs of a cell.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from emoshare.core.files import replacing
from emoshare.core.hashing import digest, file_digests
from emoshare.core.spread import is_constant
from emoshare.metrics import bootstrap
from emoshare.metrics.error import MAE
from emoshare.metrics.metric import Metric, combine
from emoshare.metrics.outside import source_hash
from emoshare.metrics.rank import area_under_curve
from emoshare.metrics.scores import mean_score

VERSION = 2  # of the stored arrays: raise it when a score or the draw changes
TOGETHER = 8  # runs that share the ranks of the labels
Interval = tuple[float, float]


@dataclass(frozen=True)
class Resampled:
    """The scores of a run, or the mean over those of a cell, in each resample; by the rules of `metrics/scores.py`."""

    scores: dict[str, np.ndarray]  # metric → (E, B)
    mae: np.ndarray  # (R, E), mean absolute error, not resampled
    auc: np.ndarray  # (R, E), area under the ROC curve; NaN where labels are not 0 or 1
    constant: np.ndarray  # (E,) whether any of the runs predicts a target as one number

    def of(self, metric: str, target: int | None = None) -> np.ndarray:
        """(B,) one target's scores, or those of the mean over targets; NaN where the metric cannot be computed here."""
        values = self.scores.get(metric, np.full_like(next(iter(self.scores.values())), np.nan))
        return mean_score(values, axis=0) if target is None else values[target]

    def interval(self, metric: str, target: int | None = None) -> Interval:
        """The 95 % interval of one target's score, or of the mean over targets."""
        return bootstrap.interval(self.of(metric, target))

    def intervals(self, metrics: Sequence[Metric], targets: Sequence[str]) -> dict[str, dict[str, Interval]]:
        """Those of metrics: name → "mean" and, where a metric has a score for each, the targets."""
        found: dict[str, dict[str, Interval]] = {}
        for metric in metrics:
            columns = {"mean": None, **({} if metric.overall else {target: e for e, target in enumerate(targets)})}
            found[metric.name] = {name: self.interval(metric.name, column) for name, column in columns.items()}
        return found

    def gain(self, other: Resampled, metric: str) -> Interval:
        """The 95 % interval of the mean over targets minus that of another run, on the same resamples."""
        return bootstrap.interval(self.of(metric) - other.of(metric))


@dataclass(frozen=True)
class Predictions:
    """A run's predictions for a partition, read only where its scores are not stored.

    Attributes:
        path: of the stored scores.
        digests: of the tables that the shares come from.
        shares: gives the (N, E).
    """

    path: Path
    digests: Sequence[str]
    shares: Callable[[], np.ndarray]

    @classmethod
    def of(cls, folder: Path, partition: str, shares: np.ndarray) -> Predictions:
        """The predictions in a run's folder, where the shares (N, E) are at hand."""
        table = f"predictions/{partition}.csv"
        return cls(scores_path(folder, partition), [file_digests(folder, [table])[table]], lambda: shares)


def scores_path(folder: Path, partition: str) -> Path:
    """The file of the scores in a run's folder."""
    return folder / "resampled" / f"{partition}.npz"


@dataclass(frozen=True)
class Resampling:
    """The resampling of scores on one partition: labels (N, E), clusters (N,) as of `bootstrap.replicates`."""

    true: np.ndarray
    clusters: np.ndarray | None
    metrics: Sequence[Metric]
    resamples: int = bootstrap.RESAMPLES
    keep: bool = True  # store them in the runs' folders

    def scores(self, runs: Sequence[Predictions]) -> list[Resampled]:
        """The scores of each run."""
        known = {at: stored for at, run in enumerate(runs) if (stored := self._load(run))}
        missing = [at for at in range(len(runs)) if at not in known]
        for start in range(0, len(missing), TOGETHER):
            some = missing[start : start + TOGETHER]
            known |= zip(some, self._compute([runs[at] for at in some]), strict=True)
        return [known[at] for at in range(len(runs))]

    @cached_property
    def _computable(self) -> list[Metric]:
        return [metric for metric in self.metrics if metric.computable]

    @cached_property
    def _alone(self) -> dict[str, Metric]:
        """The metrics that are stored, by name and source: those that are not the mean of others."""
        names = {metric.name for metric in self._computable}
        alone = [metric for metric in self._computable if not (metric.parts and names.issuperset(metric.parts))]
        return {f"score:{metric.name}{source_hash(metric.name)}": metric for metric in alone}

    @cached_property
    def _about(self) -> list[Any]:
        """All that the scores depend on beside the predictions."""
        clusters = bootstrap.enough(self.clusters)
        drawn = b"" if clusters is None else clusters.astype(np.int64).tobytes()
        digests = [hashlib.sha256(content).hexdigest() for content in (_single(self.true).tobytes(), drawn)]
        return [VERSION, *digests, self.resamples]

    def key(self, run: Predictions) -> str:
        """A digest of all that the scores depend on."""
        return digest([*self._about, list(run.digests)])

    def _compute(self, runs: Sequence[Predictions]) -> Iterator[Resampled]:
        true, *predicted = (_single(a).astype(np.float64) for a in (self.true, *(run.shares() for run in runs)))
        drawn = bootstrap.replicates(
            true, predicted, self.resamples, clusters=self.clusters, metrics=list(self._alone.values())
        )  # (R, E, B)
        for r, (run, shares) in enumerate(zip(runs, predicted, strict=True)):
            arrays = {title: _single(drawn[metric.name][r]) for title, metric in self._alone.items()}
            arrays[MAE.name] = np.abs(shares - true).mean(axis=0)[None]
            arrays |= {"auc": area_under_curve(true, shares)[None], "constant": is_constant(shares)}
            if self.keep:
                with suppress(OSError), replacing(run.path) as path:
                    np.savez(path, key=np.array(self.key(run)), **arrays)  # type: ignore[arg-type]
            yield self._from_arrays(arrays)

    def _load(self, run: Predictions) -> Resampled | None:
        """The stored scores; None where there are none, or they were made from something else, or are damaged."""
        try:
            with np.load(run.path) as arrays:
                return self._from_arrays(arrays) if arrays["key"] == self.key(run) else None
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
            return None

    def _from_arrays(self, arrays: Any) -> Resampled:
        """The scores of stored arrays, with those of metrics that are the mean of others, in the order of tables."""
        titles = {metric.name: title for title, metric in self._alone.items()}
        scores = combine(self._computable, lambda metric: arrays[titles[metric.name]].astype(np.float64))
        return Resampled(scores, arrays[MAE.name], arrays["auc"], arrays["constant"])


def _single(values: np.ndarray) -> np.ndarray:
    """Values in float32, as those of shares and stored scores: equal whether shares are at hand or read again."""
    return values.astype(np.float32)


def mean_over(runs: Sequence[Resampled]) -> Resampled:
    """The mean over the runs of a cell, all on the same resamples."""
    names = runs[0].scores
    drawn = {name: np.stack([run.scores[name] for run in runs]) for name in names}  # (R, E, B)
    return Resampled(
        {name: values.mean(axis=0) for name, values in drawn.items()},
        np.concatenate([run.mae for run in runs]),
        np.concatenate([run.auc for run in runs]),
        np.logical_or.reduce([run.constant for run in runs]),
    )
