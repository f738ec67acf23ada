"""Labels in the corpus's own range (`data.range`), and from 0 to 1, as everything is computed.

Labels are scaled when a table is read. Shares are scaled back where they leave the program: in the tables of a run,
and in what a model tells of new recordings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def is_range(span: Any) -> bool:
    """Whether a value is a lowest and a highest label: two finite numbers, the lower one first."""
    pair = isinstance(span, list | tuple) and len(span) == 2
    return pair and all(isinstance(end, int | float) and math.isfinite(end) for end in span) and span[0] < span[1]


def to_unit(labels: Any, span: Sequence[float]) -> Any:
    """Numbers or arrays in the range `span` → from 0 to 1."""
    low, high = span
    return (labels - low) / (high - low)


def to_range(shares: Any, span: Sequence[float]) -> Any:
    """Numbers or arrays from 0 to 1 → in the range `span`."""
    low, high = span
    return low + (high - low) * shares


def width(span: Sequence[float]) -> float:
    """The factor of differences of shares, as errors are."""
    return span[1] - span[0]


def label_words(span: Sequence[float]) -> str:
    """The words for a label on the axis of a figure: `share`, or `label, 1 to 7`."""
    return "share" if list(span) == [0, 1] else f"label, {span[0]:g} to {span[1]:g}"


def unit_lines(units: Mapping[str, int], span: Sequence[float]) -> list[str]:
    """A line on the unit of metrics, where that of the corpus's labels is another; else none.

    units: a metric's label → its power of the labels' unit, 0 where it has none.
    """
    told = [f"{label} × {width(span) ** power:g}" for label, power in units.items() if power]
    if list(span) == [0, 1] or not told:
        return []
    scale = f"of labels scaled from {span[0]:g} to {span[1]:g} onto 0 to 1"
    return [f"errors are those {scale}; in the labels' own unit: {', '.join(told)}"]
