"""A figure of the report: its name, its words, and what draws it, in the style of emoshare/figures.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from emoshare.figures import RC
from emoshare.report.analysis import Report


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
