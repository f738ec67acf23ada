"""Figures take two thirds of a short run's time: tests get dots in their place, but for those that look at them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from elsewhere import run_plots as run_plots_of_dots

ELSEWHERE = Path(__file__).with_name("elsewhere")
EMPTY = {"png": run_plots_of_dots.DOT, "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>', "pdf": b"%PDF-1.4\n"}
wanted = False


@contextmanager
def real() -> Iterator[None]:
    """Figures are drawn, as outside the tests."""
    global wanted
    before, wanted = wanted, True
    try:
        yield
    finally:
        wanted = before


def _unless_wanted(original: Callable[..., None], instead: Callable[..., None]) -> Callable[..., None]:
    return lambda *args, **kwargs: (original if wanted else instead)(*args, **kwargs)


def _write_empty(_: Any, place: Any, **options: Any) -> None:
    """In place of `Figure.savefig`."""
    if hasattr(place, "write"):
        place.write(EMPTY[options.get("format", "png")])
    else:
        Path(place).write_bytes(EMPTY[Path(place).suffix[1:]])


@contextmanager
def dots() -> Iterator[None]:
    """In this process no figure is rendered, and here and in its children those of a run are not even laid out."""
    from matplotlib.figure import Figure

    from emoshare.runs import run_plots

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", _unless_wanted(Figure.savefig, _write_empty))
        for name in ("learning_curve", "share_scatter"):
            instead = getattr(run_plots_of_dots, name)
            patch.setattr(run_plots, name, _unless_wanted(getattr(run_plots, name), instead))
        patch.setenv("PYTHONPATH", str(ELSEWHERE), prepend=os.pathsep)
        yield


def dots_in_files() -> None:
    """For a notebook's process, once or more: what it shows is drawn, what it saves to files is not."""
    from matplotlib.figure import Figure

    draw = Figure.savefig
    if draw.__module__ != __name__:
        Figure.savefig = lambda self, place, **options: (  # type: ignore[method-assign]
            draw(self, place, **options) if hasattr(place, "write") else _write_empty(self, place, **options)
        )
