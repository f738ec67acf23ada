"""The report's table of single predictions: how their intervals and calibrated shares do."""

from __future__ import annotations

from typing import Any

from emoshare.metrics.agreement import CCC
from emoshare.metrics.error import MAE
from emoshare.reporting.analysis import Report
from emoshare.reporting.formats import Entry, Table, number, score

WIDTH = "Mean width"  # of intervals, in the unit of the shares


def tables_of_predictions(report: Report) -> list[Table]:
    """Empty where the best run has no intervals: devel is too small, or an earlier release trained it."""
    return [predictions(report)] if report.run.results.intervals else []


def predictions(report: Report) -> Table:
    """Coverage and width of the intervals of the best run, and its scores before and after calibration."""
    fitted = report.run.results.intervals
    assert fitted
    rows, records = [], []
    for part, told in fitted.measured.items():
        ccc, mae = (" → ".join(map(score, map(_or_nan, pair))) for pair in (told.ccc, told.mae))
        coverage, width = told.coverage, told.width
        worst = min(report.study.targets, key=lambda target: coverage[target])
        shown = [
            Entry(percent(coverage["mean"]), f"{worst} {percent(coverage[worst])}"),
            Entry(number(width["mean"], 2)),
        ]
        rows.append([Entry(part), *shown, Entry(ccc), Entry(mae)])
        record: dict[str, Any] = {"partition": part, "level": fitted.level, "calibration": fitted.calibration}
        record |= {f"coverage_{name}": value for name, value in coverage.items()}
        record |= {f"width_{name}": value for name, value in width.items()}
        for name, (before, after) in ((CCC.name, told.ccc), (MAE.name, told.mae)):
            record |= {f"{name}_before": before, f"{name}_after": after}
        records.append(record)
    kind = {"none": "predicted", "linear": "linearly calibrated", "isotonic": "isotonically calibrated"}
    note = f"{report.short_label(report.best)}{report.run.with_seed}. Conformal intervals around "
    note += f"{kind[fitted.calibration]} shares, made to hold the true one for {percent(fitted.level)} of clips; the "
    note += (
        "small line names the target with the fewest. Fitted on devel, and measured there on clips that they were not "
    )
    note += "fitted on. CCC and MAE: before → after calibration, which changes no prediction of the run. Calibrated "
    note += (
        "shares are the best guess of each true one; where predictions say little they spread less, and CCC is lower."
    )
    header = ("Partition", "Coverage", WIDTH, "CCC", "MAE")
    return Table("predictions", "Intervals of single predictions", note, header, rows, records)


def percent(share: float) -> str:
    """A share of clips as a whole percentage with one decimal."""
    return f"{number(100 * share)} %"


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
