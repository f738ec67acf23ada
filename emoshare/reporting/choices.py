"""The worth of each choice: every row of a sweep against the one that `sweep.reference` names, on shared resamples.

Shapes: B resamples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from emoshare.metrics import bootstrap
from emoshare.reporting.analysis import Report
from emoshare.reporting.formats import NONE, Entry, Table, delta, score
from emoshare.reporting.loaded import Cell
from emoshare.reporting.slices import BACKBONE


@dataclass(frozen=True)
class Difference:
    """A cell's score minus the reference's: means over the runs of each, and the paired 95 % interval."""

    value: float
    low: float
    high: float


def tables_of_choices(report: Report) -> list[Table]:
    """Empty where no run names a reference, or none is its row."""
    references = _references(report)
    return [choices(report, references)] if references else []


def choices(report: Report, references: dict[str, Cell]) -> Table:
    """A row per cell: the reference of each backbone, what lacks one of its choices, and fusions.

    references: backbone → the cell that its others are compared with.
    """
    compared = {"devel": report.main, "test": report.first}
    parts = [(part, metric.name) for part, metric in compared.items() if part in report.study.labels]
    rows, records = [], []
    for backbone, cell, reference in _pairs(report, references):
        name = row_of(cell) or report.label(cell)
        entries = [Entry(backbone), Entry(name, bold=cell is reference), Entry(str(len(cell.runs)))]
        record: dict[str, Any] = {"backbone": backbone, "row": name, "runs": len(cell.runs)}
        for part, metric in parts:
            mean = report.score(cell, metric, part).mean
            change = difference(report, cell, reference, metric, part)
            entries += [Entry(score(mean)), Entry(NONE) if cell is reference else _change_entry(change)]
            record |= {f"{part}_{metric}": mean, f"{part}_{metric}_difference": change.value}
            record |= {f"{part}_{metric}_low": change.low, f"{part}_{metric}_high": change.high}
        rows.append(entries)
        records.append(record)
    titles = [f"{compared[part].label} {part}" for part, _ in parts]
    header = ("Backbone", "System", "Runs", *(text for title in titles for text in (title, f"Δ {title}")))
    note = "Δ: minus the system in bold of the same backbone, for a fusion of several backbones the best one in bold; "
    note += f"{report.side} 0 where a system that lacks the choice is worse. Means over the runs of a cell; in "
    note += f"brackets the paired 95 % bootstrap interval over {report.units}, on the same resamples for both: where "
    note += "it holds 0, nothing is shown. It does not count the seed, whose standard deviation is in the other tables."
    return Table("choices", "What each choice is worth", note, header, rows, records, 2)


def difference(report: Report, cell: Cell, reference: Cell, metric: str, partition: str) -> Difference:
    """NaN where one of the two has no score."""
    mine, theirs = (report.resampled[item.key, partition].of(metric) for item in (cell, reference))
    means = (report.score(item, metric, partition).mean for item in (cell, reference))
    return Difference(next(means) - next(means), *bootstrap.interval(mine - theirs))


def row_of(cell: Cell) -> str:
    """`sweep.row` of its runs; empty where they have none."""
    return str(cell.runs[0].config.get("sweep.row") or "")


def _change_entry(change: Difference) -> Entry:
    ends = f"[{delta(change.low)}, {delta(change.high)}]" if math.isfinite(change.low) else ""
    return Entry(delta(change.value), ends)


def _references(report: Report) -> dict[str, Cell]:
    """Backbone → the cell of the row that is the reference; of several the one with the best devel score."""
    done = [cell for cell in report.study.cells if cell.runs]
    names = {run.config.get("sweep.reference") for cell in done for run in cell.runs} - {None}
    candidates = [cell for cell in done if not cell.is_fusion and row_of(cell) in names]
    ranked = sorted(candidates, key=report.level)  # the last one stays
    return {str(cell.config.get(BACKBONE)): cell for cell in ranked}


def _pairs(report: Report, references: dict[str, Cell]) -> list[tuple[str, Cell, Cell]]:
    """The text of the first column, a cell, and its reference: by backbone, the reference first, fusions last."""
    done = [cell for cell in report.study.cells if cell.runs]
    owners = [(_backbone(report, cell), cell) for cell in done if row_of(cell) or cell.is_fusion]
    pairs = []
    for backbone, reference in references.items():
        cells = [cell for name, cell in owners if name == backbone]
        cells.sort(key=lambda cell: (cell is not reference, cell.is_fusion))
        pairs += [(backbone, cell, reference) for cell in cells]
    best = max(references.values(), key=report.level)
    mixed = [(name, cell, best) for name, cell in owners if cell.is_fusion and name not in references]
    return [*pairs, *mixed]


def _backbone(report: Report, cell: Cell) -> str:
    """A cell's backbone; of a fusion that of its members where they have one, else what the fusion is called."""
    if not cell.is_fusion:
        return str(cell.config.get(BACKBONE))
    names = {member.backbone for member in cell.runs[0].results.members}
    return names.pop() if len(names) == 1 and "" not in names else report.system(cell)
