"""Figures of a corpus and of a run, and the style that these and the report's share.

matplotlib takes a second to import: import this module where a figure is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emoshare.core.files import replacing

if TYPE_CHECKING:
    pass

# Okabe and Ito's colours stay apart for colour-blind readers; their yellow is too light for paper.
BLUE, ORANGE, GREEN, RED, PINK, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
COLOURS = (BLUE, RED, GREEN, PINK, ORANGE, SKY)
MARKERS = "osD^vP"
INK, GREY, PALE = "#1b1f24", "#6b7280", "#e5e7eb"
WIDTH = 7.2  # inches

RC: dict[Any, Any] = {
    "font.size": 9, "axes.titlesize": 9.5, "axes.labelsize": 9, "legend.fontsize": 8.5,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": GREY, "axes.linewidth": 0.8,
    "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.grid": True, "grid.color": PALE, "grid.linewidth": 0.7, "axes.axisbelow": True,
    "figure.facecolor": "white", "axes.facecolor": "white", "legend.frameon": False,
    "svg.hashsalt": "emoshare", "pdf.fonttype": 42,
    "hatch.linewidth": 0.6, "text.parse_math": False,  # a label may hold a $
}  # fmt: skip
STYLES = {"train": (BLUE, "-"), "devel": (RED, "--"), "test": (GREEN, ":")}

LINES = ((BLUE, "--"), (RED, ":"), (GREEN, "-."), (PINK, "--"), (ORANGE, ":"), (SKY, "-."))


def line_styles(names: Iterable[str], main: str) -> dict[str, tuple[str, str]]:
    """Colour and dashes of a line for each name; the main one is solid and dark."""
    others = cycle(LINES)
    return {name: (INK, "-") if name == main else next(others) for name in names}


def canvas(
    height: float, rows: int = 1, columns: int = 1, sharex: bool = False, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure of the page's width and its axes, row by row."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False)
    return figure, list(axes.ravel())


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=160)
