"""A figure of the report: its name, its words, and what draws it, in the style of emoshare/figures.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from emoshare.core.plotting import INK, RC
from emoshare.reporting.analysis import Report


def ink_on(colour: np.ndarray) -> str:
    """The text colour, dark or white, that stands out more from a colour (RGBA), by WCAG's relative luminance."""
    rgb = colour[:3]
    light = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
    return INK if light > 0.208 else "white"  # where both have a contrast of 4.1


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
