"""Figures take two thirds of a short run's time: tests get dots in their place, but for those that look at them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

DOT = base64.b64decode(  # a PNG of one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
EMPTY = {"png": DOT, "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>', "pdf": b"%PDF-1.4\n"}
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


def _write_dot(*tables_and_place: Path) -> None:
    """In place of a figure of a run."""
    place = tables_and_place[-1]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(DOT)


@contextmanager
def dots() -> Iterator[None]:
    """In this process no figure is rendered, and those of a run are not even laid out."""
    from matplotlib.figure import Figure

    from emoshare.runs import run_plots

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", _unless_wanted(Figure.savefig, _write_empty))
        for name in ("learning_curve", "predicted_true"):
            patch.setattr(run_plots, name, _unless_wanted(getattr(run_plots, name), _write_dot))
        yield
