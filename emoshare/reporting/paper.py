"""The paper's numbers (paper.yaml), and whether a study may be compared with them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml

from emoshare.core.config import EMOTIONS
from emoshare.core.kinds import DEFAULTS
from emoshare.metrics.rank import SCC
from emoshare.metrics.registry import AVG
from emoshare.reporting.formats import NONE, Entry, score, signed
from emoshare.reporting.study import Cell, Study

if TYPE_CHECKING:
    from emoshare.reporting.analysis import Report, Score

CLIPS = {"train": 31_745, "devel": 9_925, "test": 10_143}  # of Hume-Prosody, as a participant counted them
COLUMNS = ("Paper Avg (SCC, CCC)", "Δ Avg (SCC, CCC)")  # what `beside` fills
TOLERANCE = 0.01  # of a partition: the paper speaks of 51,881 clips, these add up to 51,813


def load() -> dict[str, Any]:
    """paper.yaml."""
    return yaml.safe_load((files("emoshare.reporting") / "paper.yaml").read_text(encoding="utf-8"))


def why_not(study: Study) -> str:
    """Why a study is not compared with the paper; empty where its corpus is the paper's, by targets and sizes."""
    remedy = "so the paper's numbers are not shown beside them"
    if study.targets != EMOTIONS:
        return f"These runs have other targets than the paper's nine emotions, {remedy}."
    clips = study.corpus.get("clips", {})
    if all(abs(clips.get(name, 0) - count) <= TOLERANCE * count for name, count in CLIPS.items()):
        return ""
    known, here = (" / ".join(f"{counts.get(name, 0):,}" for name in CLIPS) for counts in (CLIPS, clips))
    return f"This is not the paper's corpus ({here} clips in train / devel / test, the paper's has {known}), {remedy}."


def scores_of(report: Report, cell: Cell, table: str) -> dict[str, float]:
    """SCC, CCC and Avg of a cell in the paper's table of `backbones` or `windows`; empty where either has none."""
    numbers = report.paper if AVG in report.metrics else {}
    if not numbers or cell.system != DEFAULTS["head"]:
        return {}
    backbone, rows = cell.config.get("backbone.name"), numbers[table]
    if table == "windows":
        rows = rows["seconds"] if backbone == rows["backbone"] else {}
    row = rows.get(cell.config.get("window.seconds") if table == "windows" else backbone)
    return {"avg": (row["scc"] + row["ccc"]) / 2, **row} if row else {}


def beside(scores: Mapping[str, Score], published: dict[str, float]) -> list[Entry]:
    """The fields of COLUMNS: the paper's scores, and those of a cell minus them. published: of `scores_of`."""
    if not published:
        return [Entry(NONE)] * 2
    pair = ", ".join(score(published[metric]) for metric in ("scc", "ccc"))
    differences = ", ".join(signed(scores[metric].mean - published[metric]) for metric in ("scc", "ccc"))
    difference = signed(scores["avg"].mean - published["avg"])
    return [Entry(score(published["avg"]), f"({pair})"), Entry(difference, f"({differences})")]


def emotions_of(report: Report) -> dict[str, float]:
    """SCC of each emotion in the paper's Table V; empty where there is nothing to hold it against."""
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
