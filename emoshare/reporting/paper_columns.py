"""The paper's numbers beside those of a report's cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emoshare.core.kinds import DEFAULTS
from emoshare.metrics.rank import SCC
from emoshare.metrics.registry import AVG
from emoshare.reporting.analysis import Report, Score
from emoshare.reporting.formats import NONE, Entry, delta, score
from emoshare.reporting.loaded import Cell

COLUMNS = ("Paper Avg (SCC, CCC)", "Δ Avg (SCC, CCC)")  # what `beside` fills
NOTE = (
    " Paper: SCC on Hume-Prosody; its devel figure of HuBERT large is Table III's, as the 0.549 printed in its Table "
    "VI is the average of SCC and CCC."
)


def scores_of(report: Report, cell: Cell, table: str) -> dict[str, float]:
    """SCC, CCC and Avg of a cell in the paper's table of `backbones` or `windows`; empty where either has none."""
    numbers = report.paper if AVG in report.metrics else {}
    if not numbers or cell.system != DEFAULTS["head"]:
        return {}
    backbone, rows = cell.config.get("backbone.name"), numbers[table]
    if table == "windows":
        rows = rows["seconds"] if backbone == rows["backbone"] else {}
    row = rows.get(cell.config.get("window.seconds") if table == "windows" else backbone)
    return {AVG.name: sum(row[part] for part in AVG.parts) / len(AVG.parts), **row} if row else {}


def beside(scores: Mapping[str, Score], published: dict[str, float]) -> list[Entry]:
    """The fields of COLUMNS: the paper's scores, and those of a cell minus them. published: of `scores_of`."""
    if not published:
        return [Entry(NONE)] * 2
    pair = ", ".join(score(published[metric]) for metric in AVG.parts)
    differences = ", ".join(delta(scores[metric].mean - published[metric]) for metric in AVG.parts)
    difference = delta(scores[AVG.name].mean - published[AVG.name])
    return [Entry(score(published[AVG.name]), f"({pair})"), Entry(difference, f"({differences})")]


def emotions_of(report: Report) -> dict[str, float]:
    """SCC of each emotion in the paper's Table V; empty where there is nothing to compare it with."""
    return report.paper["test"] if report.paper and report.tested and SCC in report.metrics else {}


def approach_of(numbers: dict[str, Any], cell: Cell) -> str:
    """The paper's name in its Table VI for a cell's system; empty where it has none."""
    backbone = str(cell.config.get("backbone.name"))
    members = len(cell.runs[0].results.members) if cell.runs else 0
    for name, row in numbers.get("approaches", {}).items():
        if row["system"] != cell.system:
            continue
        if cell.is_fusion and row["members"] == members:
            return name
        if not cell.is_fusion and backbone in row["backbones"]:
            return name
    return ""


def approach_entries(report: Report, published: dict[str, Any]) -> list[Entry]:
    if not report.paper:
        return []
    return [Entry(f"{score(published['devel'])}, {score(published['test'])}") if published else Entry(NONE)]


def flat_record(published: dict[str, Any]) -> dict[str, Any]:
    return {f"paper_{part}_{SCC.name}": published[part] for part in ("devel", "test")} if published else {}
