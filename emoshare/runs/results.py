"""results.json: what a finished run found, on what it was computed, and what it cost. Written last."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from emoshare.core.errors import EmoshareError
from emoshare.core.files import read_json
from emoshare.core.hashing import check_seal, write_sealed
from emoshare.metrics.metric import Metric
from emoshare.metrics.registry import known, principal, with_average
from emoshare.metrics.scores import counted, remark_lines
from emoshare.models.classes import class_lines

FUSION = "fusion"  # the system of a run whose shares come from others
FORMAT = 2  # of results.json: raise it when a field changes its meaning
REMEDY = "force=true trains the run again"


@dataclass(frozen=True)
class Results:
    """One finished run. Every field is JSON; NaN is written as null."""

    run: str  # its folder's name
    sweep: str
    seed: int | None  # None where no number depends on it
    system: str  # mlp | svr | fusion
    config: dict[str, Any]  # resolved
    targets: list[str]
    corpus: dict[str, Any]  # name, fingerprint, clips and hours by partition
    backbone: dict[str, Any]  # its identity, down to the weights
    frames: dict[str, Any]  # source: store | backbone; of a store its recipe, bytes, seconds, realtime …
    resolved: dict[str, Any]  # device, precision, compute: what `auto` came to
    versions: dict[str, str]  # of the packages that touch the numbers
    best: dict[str, Any]  # epoch (counted from 0; null where there are none), devel score by the `main` metric
    metrics: dict[str, dict[str, dict[str, float | None]]]  # partition → metric → "mean" and each target
    epochs: int | None
    timings: dict[str, float]  # extract_seconds, fit_seconds, total_seconds
    memory: dict[str, float | None]  # host_peak_gb, gpu_peak_gb
    finished: str  # ISO 8601, UTC
    members: list[dict[str, Any]] = field(default_factory=list)  # of a fusion: run, weight, metrics
    intervals: dict[str, Any] = field(default_factory=dict)  # of single predictions, as models/conformal.py: fit
    files: dict[str, str] = field(default_factory=dict)  # weights and tables beside it → SHA-256 of their bytes
    remarks: dict[str, dict[str, list[str]]] = field(default_factory=dict)  # as metrics/scores.py: remarks
    own_metrics: dict[str, dict[str, Any]] = field(default_factory=dict)  # of the user: name → Metric.facts
    classes: dict[str, Any] = field(default_factory=dict)  # partition → models/classes.py: describe_classes, if one-hot
    format: int = FORMAT

    @property
    def is_fusion(self) -> bool:
        """Whether its shares come from other runs."""
        return self.system == FUSION

    def best_scores(self) -> dict[str, float | None]:
        """`best/devel/avg` and the like: the means of all metrics, and the best epoch where there are epochs."""
        found = {
            f"best/{part}/{name}": v["mean"] for part, scores in self.metrics.items() for name, v in scores.items()
        }
        return found if self.best["epoch"] is None else {"best/epoch": self.best["epoch"], **found}

    @property
    def scored_by(self) -> list[Metric]:
        """The metrics that the run was asked for, and Avg, in the order of tables."""
        return [self.metric(name) for name in with_average(self.config["metrics"])]

    @property
    def main(self) -> Metric:
        """The metric that ranks runs."""
        return principal(self.scored_by)

    def metric(self, name: str) -> Metric:
        """A metric that the run was scored by; without its function where that is code that may not be imported."""
        return known(name, self.own_metrics.get(name, {}))

    def score(self, partition: str, metric: str, target: str = "mean") -> float:
        """A score; NaN where it is not a number or the partition has no labels."""
        value = self.metrics.get(partition, {}).get(metric, {}).get(target)
        return math.nan if value is None else float(value)

    @property
    def lines(self) -> list[str]:
        """What stands below its scores: over how many targets means are, what is constant, accuracy and UAR."""
        return remark_lines(self.remarks, self.targets) + class_lines(self.classes, self.targets)

    def mean_of(self, partition: str) -> str:
        """`(2 of 3 targets)` where the means of a partition are not over all by the `main` metric; else nothing."""
        text = counted(self.remarks, partition, self.targets) if self.main.correlation else ""
        return f" ({text})" if text else ""

    def fused(self, cells: Mapping[str, tuple[str, Any]]) -> tuple[str, ...]:
        """What the fusions of all folds have in common: folds, weights, and the cells and seeds of their members.

        Empty for a run that is no fusion, or not of a fold.

        Args:
            cells: a run's name → its cell and seed; a member that it lacks counts by its backbone and seed.
        """
        folds = self.corpus.get("folds")
        if not self.is_fusion or not folds:
            return ()
        rule = self.resolved.get("weights")
        members = []
        for member in self.members:
            cell = cells.get(str(member["run"]), (str(member.get("backbone")), member.get("seed")))
            members.append(f"{cell}, {member['weight']:.9g}" if rule == "given" else str(cell))
        return f"{folds['by']}, {folds['of']}", str(rule), *sorted(members)

    def write(self, path: Path) -> None:
        """Write strict JSON, whole or not at all, sealed."""
        write_sealed(path, asdict(self))

    @classmethod
    def read(cls, path: Path, remedy: str = REMEDY) -> Results:
        """The results in a file.

        Raises:
            EmoshareError: the file cannot be read, is of another format, lacks a field, or is damaged.
        """
        content = read_json(path, remedy)
        results = cls.of(content, path, remedy)
        check_seal(content, path, remedy)
        return results

    @classmethod
    def of(cls, content: Any, path: Path, remedy: str = REMEDY) -> Results:
        """The results in what was read from `path`. Raises EmoshareError as `read`."""
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise EmoshareError(f"{path}: not results of format {FORMAT}; {remedy}")
        names = {item.name for item in fields(cls)}
        optional = {"members", "intervals", "files", "remarks", "classes", "own_metrics"}
        if missing := sorted(names - optional - content.keys()):
            raise EmoshareError(f"{path}: without {', '.join(missing)}; {remedy}")
        return cls(**{name: content[name] for name in names & content.keys()})
