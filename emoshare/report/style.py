"""What all figures share: colours, type, size, and how they are saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emoshare.report.analysis import Report

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
    "svg.hashsalt": "emoshare", "hatch.linewidth": 0.6,
}  # fmt: skip


@dataclass(frozen=True)
class Plot:
    """A figure to be: its file name, its title, what it shows, and what draws it."""

    name: str
    title: str
    caption: str
    draw: Callable[[Report], Figure]

    def figure(self, report: Report) -> Figure:
        """The figure in the report's style, as a notebook shows it."""
        with matplotlib.rc_context(RC):
            return self.draw(report)

    def save(self, report: Report, folder: Path) -> None:
        """Write `folder/<name>.png` and `.svg`; equal reports give equal files."""
        with matplotlib.rc_context(RC):
            figure = self.draw(report)
            figure.savefig(folder / f"{self.name}.png", dpi=160, metadata={"Software": None})
            figure.savefig(folder / f"{self.name}.svg", metadata={"Date": None})


def canvas(
    height: float, rows: int = 1, columns: int = 1, sharex: bool = False, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure of the page's width and its axes, row by row."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False)
    return figure, list(axes.ravel())
