"""The table of a sweep: a row for each cell."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from emoshare.core.kinds import DEFAULTS
from emoshare.core.text import console_table
from emoshare.core.windows import TOLD, recipe_name, window_name
from emoshare.metrics.registry import AVG, STANDARD, principal, with_average
from emoshare.models.losses.mix import ALL, mix_text
from emoshare.runs.identity import WHOLE
from emoshare.runs.results import Results

WEIGHTS = {f"loss.{name}" for name in ALL}
UNDEFINED = "*: the mean leaves out emotions whose labels are all equal in a fold or in all of devel\n"


@dataclass(frozen=True)
class Cell:
    """The finished runs of a sweep that differ in the seed alone, or in the fold that is devel.

    Fusions of several folds are those of the same members, with the same weights.
    """

    config: dict[str, Any]  # the keys that count and differ from their defaults, as in an identity
    runs: tuple[Results, ...]

    def score(self, partition: str, metric: str) -> tuple[float, float]:
        """Mean and standard deviation (n − 1; 0 for one) over the seeds; NaN, 0 where one of them has no score.

        The score of a seed with several folds is their mean.
        """
        seeds: dict[int | None, list[float]] = defaultdict(list)
        for run in self.runs:
            seeds[run.seed].append(run.score(partition, metric))
        values = [statistics.fmean(scores) for scores in seeds.values()]
        if any(map(math.isnan, values)):
            return math.nan, 0.0
        return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0

    @property
    def repeats(self) -> str:
        """The number of seeds, `any` where none counts, and the number of folds where there are any."""
        seeds = "any" if self.runs[0].seed is None else str(len({run.seed for run in self.runs}))
        if not self.config.get("data.folds"):
            return seeds
        folds = len({run.config["data"].get("fold") for run in self.runs})
        return f"{seeds}, {folds} fold{'s' * (folds > 1)}"


def system_name(results: Results) -> str:
    """The row of a results table that a run belongs to: its backbone, with its head unless that is the paper's.

    For a fusion its name, where it has one, and below it the number of its members.
    """
    if results.is_fusion:
        kind, name = f"fusion of {len(results.members)} runs", results.config["sweep"].get("row")
        return f"{name}\n  {kind}" if name else kind
    head = "" if results.system == DEFAULTS["head"] else f" + {results.system}"
    return f"{results.config['backbone']['name']}{head}"


def cell_table(cells: Sequence[Cell]) -> str:
    """One line per cell; mean and, over several seeds, standard deviation. At most 80 columns as a rule."""
    rows = []
    asked = {name: run.metric(name) for cell in cells for run in cell.runs for name in run.config["metrics"]}
    metrics = [asked.get(name, AVG) for name in with_average(list(asked))] or list(STANDARD)
    main = principal(metrics)
    for cell in cells:
        differences = "".join(f"\n  {key}={value}" for key, value in distinguishing(cell, cells).items())
        tested = [run for run in cell.runs if "test" in run.metrics]
        rows.append((
            f"{system_name(cell.runs[0])}{differences}",
            _window(cell),
            cell.repeats,
            *(_number(cell.score("devel", metric.name)[0]) for metric in metrics if metric is not main),
            _number(*cell.score("devel", main.name)) + "*" * any(run.mean_of("devel") for run in cell.runs),
            _number(Cell(cell.config, tuple(tested)).score("test", metrics[0].name)[0]) if tested else "hidden",
        ))  # fmt: skip
    labels = [metric.label for metric in metrics if metric is not main]
    table = console_table(("system", "window", "seeds", *labels, main.label, f"test {metrics[0].label}"), rows)
    return table + (UNDEFINED if any(row[-2].endswith("*") for row in rows) else "")


def _window(cell: Cell) -> str:
    if cell.runs[0].is_fusion:
        return "–"
    whole = cell.config.get("window.seconds") == WHOLE
    return "whole clips" if whole else window_name(cell.runs[0].config["window"])


def distinguishing(cell: Cell, cells: Sequence[Cell]) -> dict[str, Any]:
    """The keys in which a cell differs from others of the same backbone and window, and its values there."""
    name, seconds = (cell.runs[0].config[a][b] for a, b in (("backbone", "name"), ("window", "seconds")))
    alike = [
        other.config
        for other in cells
        if other.runs[0].system == cell.runs[0].system
        and (other.runs[0].config["backbone"]["name"], other.runs[0].config["window"]["seconds"]) == (name, seconds)
    ]
    keys = sorted({key for config in alike for key in config if any(c.get(key) != config[key] for c in alike)})
    if all(recipe_name(other.runs[0].config["window"]) for other in cells if not other.runs[0].is_fusion):
        keys = [key for key in keys if key not in TOLD]
    values = {name: _value(cell.runs[0].config, name) for name in keys if name not in WEIGHTS}
    return values | ({"loss": mix_text(cell.runs[0].config["loss"])} if WEIGHTS & set(keys) else {})


def _value(config: dict[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value.get(part, "–") if isinstance(value, dict) else value  # another class's key
    return value


def _number(mean: float, deviation: float = 0.0) -> str:
    """`0.5123` or `0.5123 ±.0012`; `–` for none."""
    if math.isnan(mean):
        return "–"
    return f"{mean:.4f}" + (" ±" + f"{deviation:.4f}".lstrip("0") if deviation else "")
