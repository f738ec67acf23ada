"""Cells side by side: the keys that vary among them, and the largest group in which only some of these do."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from emoshare.metrics.metric import Metric
from emoshare.reporting.loaded import Cell

BACKBONE, SECONDS, HEAD = "backbone.name", "window.seconds", "head.name"


def differing(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Dotted keys in which cells differ, backbone and window first, less what a backbone's name and its head imply.

    Systems come with a window, a head and its training: a key of these sections that is the same in all cells of a
    system says nothing that its name does not. A fusion has a config of its own, which is not compared.
    """
    cells = [cell for cell in cells if not cell.is_fusion]
    keys = dict.fromkeys([BACKBONE, SECONDS, HEAD, *(key for cell in cells for key in cell.config)])
    having = {
        key: [cell for cell in cells if key in cell.config] for key in keys
    }  # a system lacks what it does not use
    varying = [key for key in keys if len({_text(cell.config[key]) for cell in having[key]}) > 1]

    def is_implied(key: str) -> bool:
        if key in (BACKBONE, SECONDS) or key.partition(".")[0] not in ("backbone", "head", "window", "train"):
            return False
        values: dict[tuple[str, str], set[str]] = {}
        for cell in having[key]:
            system = str(cell.config.get(BACKBONE)), "" if key == HEAD else str(cell.config.get(HEAD))
            values.setdefault(system, set()).add(_text(cell.config[key]))
        return all(len(texts) == 1 for texts in values.values())

    return tuple(key for key in varying if not is_implied(key))


def slices(cells: Sequence[Cell], varying: Sequence[str], axes: Sequence[str]) -> list[list[Cell]]:
    """Groups of cells that differ in the axes alone."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        others = [_text(cell.config.get(key)) for key in varying if key not in axes]
        groups.setdefault("\n".join(others), []).append(cell)
    return list(groups.values())


def pick(groups: Sequence[Sequence[Cell]], main: Metric) -> Sequence[Cell]:
    """The group with most cells with results; among equals the one that holds the best cell."""

    def size(group: Sequence[Cell]) -> tuple[int, float]:
        done = [cell for cell in group if cell.runs]
        levels = [main.goodness(float(cell.scores("devel", main.name).mean())) for cell in done]
        return len(done), max(levels, default=-math.inf)

    return max(groups, key=size)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def order_of(value: Any) -> tuple[int, float, str]:
    """Numbers by size, before everything else by name."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return (0, float(value), "") if number else (1, 0.0, str(value))
