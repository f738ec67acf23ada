"""The paper's numbers (paper.yaml), and whether a study may be compared with them."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import yaml

from emoshare.core.config import EMOTIONS
from emoshare.reporting.study import Study

CLIPS = {"train": 31_745, "devel": 9_925, "test": 10_143}  # of Hume-Prosody, as a participant counted them
TOLERANCE = 0.01  # of a partition: the paper speaks of 51,881 clips, these add up to 51,813


def load() -> dict[str, Any]:
    """paper.yaml."""
    return yaml.safe_load((files("emoshare.reporting") / "paper.yaml").read_text(encoding="utf-8"))


def why_not(study: Study) -> str:
    """The reason not to compare a study with the paper; empty where its corpus is the paper's, by targets and sizes."""
    remedy = "so the paper's numbers are not shown beside them"
    if study.targets != EMOTIONS:
        return f"These runs have other targets than the paper's nine emotions, {remedy}."
    clips = study.corpus.clips
    if all(abs(clips.get(name, 0) - count) <= TOLERANCE * count for name, count in CLIPS.items()):
        return ""
    known, here = (" / ".join(f"{counts.get(name, 0):,}" for name in CLIPS) for counts in (CLIPS, clips))
    return f"This is not the paper's corpus ({here} clips in train / devel / test, the paper's has {known}), {remedy}."
