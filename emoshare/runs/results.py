"""results.json: a finished run's scores, device, versions and cost. Written last."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emoshare.core.config import hidden_states
from emoshare.core.errors import EmoshareError, NoRunError
from emoshare.core.files import read_json
from emoshare.core.hashing import check_seal, write_sealed
from emoshare.core.ranges import is_range, unit_lines
from emoshare.core.records import REST, from_json, to_json
from emoshare.data.partition import Folds
from emoshare.metrics.metric import Metric, OwnMetric
from emoshare.metrics.outside import source_hash
from emoshare.metrics.registry import principal, recorded_metric, with_average
from emoshare.metrics.scores import count_text, remark_lines
from emoshare.models.classes import ClassScores, class_lines
from emoshare.models.conformal import Intervals

FUSION = "fusion"  # the system of a run whose shares come from others
FORMAT = 3  # of results.json: raise it when a field changes its meaning
REMEDY = "force=true trains the run again"


Table = dict[str, dict[str, float | None]]  # metric → "mean" and each target → score


@dataclass(frozen=True)
class CorpusRecord:
    """The corpus that a run learned from."""

    name: str
    fingerprint: str
    clips: dict[str, int] = field(default_factory=dict)  # by partition
    hours: dict[str, float] = field(default_factory=dict)
    folds: Folds | None = None
    warnings: list[str] = field(default_factory=list)  # why scores on it are too good, a line each


@dataclass(frozen=True)
class BackboneRecord:
    """The identity of a backbone, down to its weights: the facts that all of them have, and its own in `rest`."""

    name: str
    path: str = ""
    dim: int = 0  # features of a frame
    layers: int = 0
    layer: str = "last"
    parameters: int | None = None
    voicing: int | None = None  # the feature that says how voiced a frame is
    commit: str | None = None  # of the hub
    rest: dict[str, Any] = field(default_factory=dict, metadata=REST)

    @property
    def states(self) -> int:
        """Hidden states in a frame, one after the other."""
        return hidden_states(self.layer, self.layers)

    @property
    def width(self) -> int:
        """Numbers per frame: D, or states · D."""
        return self.dim * self.states


@dataclass(frozen=True)
class FramesRecord:
    """The source of the frames; of stored ones their recipe and the cost of their computation, whenever that was."""

    source: str  # store | backbone | members
    recipe: str = ""
    request: str = ""
    reused: bool | None = None
    bytes: int = 0
    audio_seconds: float = 0.0
    seconds: float = 0.0
    realtime: float | None = None
    rest: dict[str, Any] = field(default_factory=dict, metadata=REST)  # clips, those computed, parts of joined frames


@dataclass(frozen=True)
class Resolved:
    """The values that `auto` was resolved to, and the choices of learning."""

    device: str = ""
    precision: str = ""  # Lightning's
    compute: str = ""  # precision that the backbone computed in
    stored: str | None = None  # precision of stored frames
    refit: bool = False  # whether test and new clips are predicted by what was trained on train + devel
    predicted_by: dict[str, str] = field(default_factory=dict)  # partition → file of the weights
    weights: str = ""  # of a fusion: mean, given, learned or greedy
    base_model: list[str] = field(default_factory=list)  # hub names that an exported backbone was trained from
    rest: dict[str, Any] = field(default_factory=dict, metadata=REST)  # choices of a head, or of a fusion


@dataclass(frozen=True)
class Gain:
    """A fusion's score minus that of its best member, with the paired 95 % interval."""

    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Best:
    """The choice by devel."""

    epoch: int | None = None  # counted from 0; None where there are none
    score: float | None = None  # on devel, by the `main` metric
    member: str = ""  # of a fusion
    gain: dict[str, dict[str, Gain]] = field(default_factory=dict)  # over it: partition → metric


@dataclass(frozen=True)
class MemberRecord:
    """A member of a fusion."""

    run: str
    weight: float
    folder: str = ""
    from_fusion: str | None = None  # the way to it
    identity: str = ""
    predictions: str = ""  # their fingerprint
    backbone: str = ""
    system: str = ""
    seed: int | None = None
    metrics: dict[str, Table] = field(default_factory=dict)  # by partition
    seconds: float | None = None
    base_model: list[str] = field(default_factory=list)  # of an exported one: hub names of its backbones

    def score(self, partition: str, metric: str) -> float | None:
        """The mean over the targets; None where it has none."""
        return self.metrics.get(partition, {}).get(metric, {}).get("mean")


@dataclass(frozen=True)
class Results:
    """One finished run. NaN is written as null."""

    run: str  # its folder's name
    sweep: str
    seed: int | None  # None where no number depends on it
    system: str  # mlp | svr | fusion
    config: dict[str, Any]  # resolved
    targets: list[str]
    corpus: CorpusRecord
    backbone: BackboneRecord
    frames: FramesRecord
    resolved: Resolved
    versions: dict[str, str]  # of the packages that touch the numbers
    best: Best
    metrics: dict[str, Table]  # by partition
    epochs: int | None
    timings: dict[str, float]  # extract_seconds, fit_seconds, total_seconds
    memory: dict[str, float | None]  # host_peak_gb, gpu_peak_gb
    finished: str  # ISO 8601, UTC
    members: list[MemberRecord] = field(default_factory=list)  # of a fusion
    intervals: Intervals | None = None  # of single predictions; None where devel is too small
    files: dict[str, str] = field(default_factory=dict)  # weights and tables beside it → SHA-256 of their bytes
    remarks: dict[str, dict[str, list[str]]] = field(default_factory=dict)  # as metrics/scores.py: remarks
    own_metrics: dict[str, OwnMetric] = field(default_factory=dict)  # of the user, by name
    classes: dict[str, ClassScores] = field(default_factory=dict)  # by partition, of one-hot labels
    format: int = FORMAT

    @property
    def range(self) -> list[float]:
        """The lowest and highest label of its corpus, in which its tables are."""
        data = self.config.get("data")
        return [*data.get("range", (0, 1))] if isinstance(data, dict) else [0, 1]

    @property
    def is_fusion(self) -> bool:
        """Whether its shares come from other runs."""
        return self.system == FUSION

    def best_scores(self) -> dict[str, float | None]:
        """`best/devel/avg` and so on: the means of all metrics, and the best epoch where there are epochs."""
        best = {f"best/{part}/{name}": v["mean"] for part, scores in self.metrics.items() for name, v in scores.items()}
        return best if self.best.epoch is None else {"best/epoch": self.best.epoch, **best}

    @property
    def scoring_metrics(self) -> list[Metric]:
        """The metrics of the run's config, and Avg, in the order of tables."""
        return [self.metric(name) for name in with_average(self.config["metrics"])]

    @property
    def main(self) -> Metric:
        """The metric that ranks runs."""
        return principal(self.scoring_metrics)

    def metric(self, name: str) -> Metric:
        """A metric that the run was scored by; without its function where that is code that may not be imported."""
        return recorded_metric(name, self.own_metrics.get(name))

    def score(self, partition: str, metric: str, target: str = "mean") -> float:
        """A score; NaN where it is not a number or the partition has no labels."""
        value = self.metrics.get(partition, {}).get(metric, {}).get(target)
        return math.nan if value is None else float(value)

    def lacks(self, partition: str, metric: Metric) -> bool:
        """Whether it has no score by a metric that can be computed here, or one by another source of the user's."""
        told = self.own_metrics.get(metric.name)
        edited = told is not None and told.source != source_hash(metric.name)
        return metric.computable and (edited or metric.name not in self.metrics[partition])

    @property
    def lines(self) -> list[str]:
        """The lines below its scores: targets in the means, constant predictions, accuracy and UAR, units of errors."""
        lines = remark_lines(self.remarks, self.targets) + class_lines(self.classes, self.targets)
        return lines + unit_lines({metric.label: metric.unit for metric in self.scoring_metrics}, self.range)

    def mean_of(self, partition: str) -> str:
        """`(2 of 3 targets)` where the means of a partition are not over all by the `main` metric; else nothing."""
        text = count_text(self.remarks, partition, self.targets) if self.main.correlation else ""
        return f" ({text})" if text else ""

    def fusion_key(self, cells: Mapping[str, tuple[str, Any]]) -> tuple[str, ...]:
        """A key that the fusions of all folds share: folds, weights, and the cells and seeds of their members.

        Empty for a run that is no fusion, or not of a fold.

        Args:
            cells: a run's name → its cell and seed; a member that it lacks counts by its backbone and seed.
        """
        folds, rule = self.corpus.folds, self.resolved.weights
        if not self.is_fusion or not folds:
            return ()
        members = []
        for member in self.members:
            cell = cells.get(member.run, (member.backbone, member.seed))
            members.append(f"{cell}, {member.weight:.9g}" if rule == "given" else str(cell))
        return f"{folds.by}, {folds.of}", rule, *sorted(members)

    def write(self, path: Path) -> None:
        """Write strict JSON, whole or not at all, sealed."""
        write_sealed(path, to_json(self))

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
    def of(cls, content: Any, path: Path, remedy: str = REMEDY, at: str = "") -> Results:
        """The results in the content of `path`, below the key `at`. Raises EmoshareError as `read`."""
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            if isinstance(content, dict) and "scored_by" in content and "config" not in content:
                raise NoRunError(f"{path}: of an evaluation on another corpus; name the folder of a run")
            raise EmoshareError(f"{path}: not results of format {FORMAT}; {remedy}")
        problems: list[str] = []
        results = from_json(cls, content, at, problems)
        data = results.config.get("data") if not problems else None
        if isinstance(data, dict) and not is_range(span := data.get("range", (0, 1))):
            problems.append(f"{at}config.data.range: {span} is not the lowest and the highest label")
        if problems:
            raise EmoshareError("\n".join(f"{path}: {problem}; {remedy}" for problem in problems))
        return results
