"""The fusions of a sweep (`sweep.fuse`): a name → rows, or → rows with weights and seeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from emoshare.core.schema import value_text
from emoshare.core.text import near

CHOICES = {"weights": ("mean", "learned", "greedy"), "seeds": ("each", "all")}


@dataclass(frozen=True)
class FusionRequest:
    """One fusion that `sweep.fuse` names.

    Attributes:
        rows: whose runs it takes.
        weights: mean, or fitted on devel: learned, greedy.
        seeds: each: a fusion for every seed; all: one of the runs of all seeds.
    """

    rows: tuple[str, ...]
    weights: str = "mean"
    seeds: str = "each"


def requested_fusions(fuse: dict[str, Any]) -> dict[str, FusionRequest]:
    """Name → fusion, of a value of `sweep.fuse` without problems."""
    given = {name: value if isinstance(value, dict) else {"rows": value} for name, value in fuse.items()}
    return {name: FusionRequest(**{**value, "rows": tuple(map(str, value["rows"]))}) for name, value in given.items()}


def problems_of(fuse: dict[str, Any]) -> Iterator[str]:
    """A line for every fusion that cannot be made of what it says, and for each of its values."""
    for name, value in fuse.items():
        key = f"sweep.fuse.{name}"
        given = value if isinstance(value, dict) else {"rows": value}
        rows = given.get("rows")
        if not isinstance(rows, list | tuple) or not rows or not all(map(_is_name, rows)):
            yield f"{key}={value_text(value)}: must be a list of rows, or {{rows: […], weights: …, seeds: …}}"
        else:
            named = list(map(str, rows))
            yield from (f"{key}: the row {row} is named twice" for row in dict.fromkeys(named) if named.count(row) > 1)
        for part in given.keys() - {"rows", *CHOICES}:
            yield f"{key}.{part}: no such key{near(str(part), ['rows', *CHOICES])}; there are rows, weights, seeds"
        for part, choices in CHOICES.items():
            if part in given and given[part] not in choices:
                yield f"{key}.{part}={value_text(given[part])}: must be one of {', '.join(choices)}"


def _is_name(row: Any) -> bool:
    return isinstance(row, str | int | float) and not isinstance(row, bool)
