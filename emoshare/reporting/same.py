"""Finished runs that are one model: of one identity, or with the same predictions."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emoshare.core.hashing import digest
from emoshare.runs.identity import indifferent_keys
from emoshare.runs.listing import listed, union

if TYPE_CHECKING:
    from emoshare.reporting.study import LoadedRun


def same_runs(done: Sequence[LoadedRun]) -> list[list[LoadedRun]]:
    """The runs by what they are: of one cell, seed and fold, or of one backbone and system with the same predictions.

    The first of each counts: the one that finished last; where cells differ, of the cell that came first. Constant
    predictions, which have no score, say nothing of what predicted them.
    """
    found: dict[tuple[Any, ...], list[LoadedRun]] = {}
    for run in sorted(done, key=lambda run: run.results.finished):
        found.setdefault((run.cell, run.seed, run.config.get("data.fold")), []).insert(0, run)
    alike: dict[str, list[list[LoadedRun]]] = {}  # by scores, so that few predictions have to be read
    for runs in found.values():
        first = runs[0]
        scored = first.system != "fusion" and math.isfinite(first.results.score("devel", "avg"))
        what = [first.system, first.config.get("backbone.name"), first.results.metrics]
        alike.setdefault(json.dumps(what if scored else str(first.folder), sort_keys=True), []).append(runs)
    same: dict[Any, list[LoadedRun]] = {}
    for groups in alike.values():
        for runs in groups:
            key = _predictions_hash(runs[0].folder) if len(groups) > 1 else None
            same.setdefault(key or runs[0].folder, []).extend(runs)
    return list(same.values())


def _predictions_hash(folder: Path) -> str | None:
    """Of the bytes of a run's predictions; None where there are none, or they cannot be read."""
    try:
        content = {path.name: path.read_bytes().hex() for path in sorted(folder.glob("predictions/*.csv"))}
    except OSError:
        return None
    return digest(content) if content else None


def shared_values(same: Sequence[Sequence[LoadedRun]]) -> dict[Path, dict[str, list[Any]]]:
    """Folder of each run that counts → the values that were asked for and make no difference to it."""
    folders = {run.folder.parent for runs in same for run in runs}
    asked = {folder / job.run: job.shared for folder in folders for job in listed(folder)}
    return {
        runs[0].folder: union(
            [indifferent_keys([run.config for run in runs]), *(asked.get(r.folder, {}) for r in runs)]
        )
        for runs in same
    }
