"""A figure of the report: its name, its words, and what draws it, in the style of core/plotting.py."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from emoshare.core.plotting import INK, RC

logging.getLogger("fontTools").setLevel(logging.WARNING)  # at INFO it names every glyph of a PDF


def ink_on(colour: np.ndarray) -> str:
    """The text colour, dark or white, that stands out more from a colour (RGBA), by WCAG's relative luminance."""
    rgb = colour[:3]
    light = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
    return INK if light > 0.208 else "white"  # where both have a contrast of 4.1


@dataclass(frozen=True)
class ReportFigure:
    """A figure that is drawn when it is needed: its file name, its title, what it shows, and what draws it."""

    name: str
    title: str
    caption: str
    make: Callable[[], Figure]

    def draw(self) -> Figure:
        """The figure in the report's style."""
        with matplotlib.rc_context(RC):
            return self.make()

    def save(self, folder: Path) -> None:
        """Write `folder/<name>.png`, `.svg` and `.pdf`; equal reports give equal files."""
        with matplotlib.rc_context(RC):
            figure = self.make()
            figure.savefig(folder / f"{self.name}.png", dpi=160, metadata={"Software": None})
            figure.set_layout_engine("none")  # found once for all: a sixth of the time
            figure.savefig(folder / f"{self.name}.svg", metadata={"Date": None})
            figure.savefig(folder / f"{self.name}.pdf", metadata={"CreationDate": None})

    def _repr_png_(self) -> bytes:
        """The figure in a notebook."""
        content = io.BytesIO()
        with matplotlib.rc_context(RC):
            self.make().savefig(content, dpi=110)
        return content.getvalue()
