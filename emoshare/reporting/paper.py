"""The paper's numbers (paper.yaml), and whether a study may be compared with them."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import yaml

from emoshare.core.config import EMOTIONS
from emoshare.core.kinds import DEFAULTS
from emoshare.reporting.study import Cell, Study

CLIPS = {"train": 31_745, "devel": 9_925, "test": 10_143}  # of Hume-Prosody, as a participant counted them
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


def scores_of(numbers: dict[str, Any], cell: Cell, table: str) -> dict[str, float]:
    """SCC, CCC and Avg of a cell in the paper's table of `backbones` or `windows`; empty where it has none."""
    if not numbers or cell.system != DEFAULTS["head"]:
        return {}
    backbone, rows = cell.config.get("backbone.name"), numbers[table]
    if table == "windows":
        rows = rows["seconds"] if backbone == rows["backbone"] else {}
    row = rows.get(cell.config.get("window.seconds") if table == "windows" else backbone)
    return {"avg": (row["scc"] + row["ccc"]) / 2, **row} if row else {}


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
