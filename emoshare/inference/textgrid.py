"""A table of one recording as a TextGrid of Praat: a tier of intervals for each column.

Windows overlap, and intervals must not: each moment has the share of the window whose middle is nearest.
https://www.fon.hum.uva.nl/praat/manual/TextGrid_file_formats.html
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def text(start: np.ndarray, end: np.ndarray, values: np.ndarray, names: Sequence[str]) -> str:
    """The content of the file.

    Args:
        start: (N,) seconds at which each window begins, rising.
        end: (N,) seconds at which it ends.
        values: (N, C) its numbers.
        names: of the C tiers.
    """
    middles = (start + end) / 2
    edges = np.array([start[0], *(middles[1:] + middles[:-1]) / 2, end[-1]])
    total = f"xmin = 0\nxmax = {edges[-1]:.9g}\n"
    tiers = [tier(name, edges, column, total) for name, column in zip(names, values.T, strict=True)]
    items = "".join(f"    item [{number}]:\n{indent(lines, 8)}" for number, lines in enumerate(tiers, 1))
    head = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n'
    return f"{head}{total}tiers? <exists>\nsize = {len(tiers)}\nitem []:\n{items}"


def tier(name: str, edges: np.ndarray, column: np.ndarray, total: str) -> str:
    """A tier of the numbers (N,) between the edges (N + 1,), and of nothing before the first one."""
    labels = [f"{value:.6g}" for value in column]
    if edges[0] > 0:
        edges, labels = np.array([0.0, *edges]), ["", *labels]
    quoted = name.replace('"', '""')
    lines = f'class = "IntervalTier"\nname = "{quoted}"\n{total}intervals: size = {len(labels)}\n'
    for number, (low, high, label) in enumerate(zip(edges, edges[1:], labels, strict=False), 1):
        lines += f'intervals [{number}]:\n    xmin = {low:.9g}\n    xmax = {high:.9g}\n    text = "{label}"\n'
    return lines


def indent(lines: str, spaces: int) -> str:
    """The lines, each behind some spaces."""
    return "".join(f"{' ' * spaces}{line}\n" for line in lines.splitlines())
