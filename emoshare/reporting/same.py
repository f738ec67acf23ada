"""Finished runs that are one model: of one identity, or with the same predictions."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from emoshare.core.hashing import digest, file_digests
from emoshare.reporting.loaded import LoadedRun
from emoshare.runs.identity import indifferent_keys
from emoshare.runs.listing import listed_runs, merge_values


def same_runs(done: Sequence[LoadedRun]) -> list[list[LoadedRun]]:
    """The runs by what they are: of one cell, seed and fold, or of cells that are one model, whose seed and fold agree.

    Cells are one model if they have the same predictions for every seed and fold. Where only some of the runs agree,
    as those of a choice that made no difference under one seed, each cell keeps all of its own. Seeds are one, too,
    where all of a cell have the same predictions. The first run of each counts: the one that finished last; where
    cells differ, of the cell that came first. Constant predictions, whose score is 0 or none, say nothing of what
    predicted them.
    """
    runs: dict[Any, list[LoadedRun]] = {}
    for run in sorted(done, key=lambda run: run.results.finished):
        runs.setdefault((run.cell, run.seed, run.config.get("data.fold")), []).insert(0, run)
    cells: dict[str, list[list[LoadedRun]]] = {}
    for alike in runs.values():
        cells.setdefault(alike[0].cell, []).append(alike)
    by_scores: dict[Any, list[list[list[LoadedRun]]]] = {}  # so that few predictions have to be read
    for cell in cells.values():
        by_scores.setdefault(_content(cell, _scores), []).append(cell)
    same: dict[Any, list[LoadedRun]] = {}
    for (seeded, _), alike_cells in by_scores.items():
        read = len(alike_cells) > 1 or (not seeded and len(alike_cells[0]) > 1)
        for cell in alike_cells:
            counted, content = _content(cell, _predictions_hash if read else _scores)
            for alike in cell:
                key = content, alike[0].seed if counted else None, alike[0].config.get("data.fold")
                same.setdefault(key, []).extend(alike)
    return list(same.values())


def _content(cell: Sequence[Sequence[LoadedRun]], of: Callable[[LoadedRun], str]) -> tuple[bool, frozenset[Any]]:
    """Whether the runs of a cell differ between its seeds, and what they hold by seed and fold; else by fold alone."""
    contents = {(alike[0].seed, alike[0].config.get("data.fold")): of(alike[0]) for alike in cell}
    by_fold = frozenset((fold, content) for (_, fold), content in contents.items())
    seeded = len(by_fold) > len({fold for _, fold in contents})
    return seeded, frozenset(contents.items()) if seeded else by_fold


def _scores(run: LoadedRun) -> str:
    """System, backbone and scores of a run; its folder where these say nothing of what it is."""
    results, main = run.results, run.results.main
    score = results.score("devel", main.name)
    told = not run.is_fusion and not math.isnan(score) and not (main.correlation and score == 0)
    scores = {part: values.get(main.name) for part, values in results.metrics.items()}
    what = [run.system, run.config.get("backbone.name"), main.name, scores]
    return json.dumps(what if told else str(run.folder), sort_keys=True)


def _predictions_hash(run: LoadedRun) -> str:
    """A hash of what `_scores` tells and of the bytes of a run's predictions; its folder where they cannot be read."""
    try:
        content = file_digests(
            run.folder, (f"predictions/{path.name}" for path in run.folder.glob("predictions/*.csv"))
        )
    except OSError:
        content = {}
    return digest([_scores(run), content]) if content else str(run.folder)


def shared_values(same: Sequence[Sequence[LoadedRun]]) -> dict[Path, dict[str, list[Any]]]:
    """Folder of each run that counts → the values of its config that make no difference to it."""
    folders = {run.folder.parent for runs in same for run in runs}
    asked = {folder / job.run: job.shared for folder in folders for job in listed_runs(folder)}
    return {
        runs[0].folder: merge_values(
            [indifferent_keys([run.config for run in runs]), *(asked.get(r.folder, {}) for r in runs)]
        )
        for runs in same
    }
