"""The figures of a run, for as many emotions and epochs as there may be, and where scores are no numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emoshare.core.plotting import WIDTH
from emoshare.runs import run_plots

pytestmark = pytest.mark.usefixtures("drawn")


def size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG in pixels."""
    head = path.read_bytes()[16:24]
    return int.from_bytes(head[:4], "big"), int.from_bytes(head[4:], "big")


@pytest.mark.parametrize(("targets", "rows_of_panels"), [(1, 1), (2, 1), (4, 2), (9, 3)])
def test_every_emotion_has_a_panel(targets, rows_of_panels, tmp_path) -> None:
    shares = np.random.default_rng(0).uniform(size=(2, 12, targets))
    shares[1, :, 0] = 0.5  # predicted alike
    for name, table in zip(("true", "predicted"), shares, strict=True):
        lines = [["filename", *(f"emotion {t}" for t in range(targets))]]
        lines += [[f"{row}.wav", *map(str, values)] for row, values in enumerate(table)]
        (tmp_path / f"{name}.csv").write_text("".join(",".join(line) + "\n" for line in lines))
    run_plots.share_scatter(tmp_path / "predicted.csv", tmp_path / "true.csv", tmp_path / "shares.png")
    assert size(tmp_path / "shares.png") == (round(WIDTH * 160), round((2.3 * rows_of_panels + 0.4) * 160))


@pytest.mark.parametrize("scores", [[0.1], [0.1, 0.3, 0.2], [float("nan"), 0.2], [float("nan")] * 2])
def test_a_learning_curve_of_any_epochs(scores, tmp_path) -> None:
    lines = ["epoch,train/loss,devel/loss,devel/scc,devel/ccc,devel/avg"]
    lines += [f"{epoch},0.5,{score},{score},{score},{score}" for epoch, score in enumerate(scores)]
    (tmp_path / "metrics.csv").write_text("\n".join(lines) + "\n")
    run_plots.learning_curve(tmp_path / "metrics.csv", tmp_path / "curve.png")
    assert size(tmp_path / "curve.png") == (round(WIDTH * 160), 480)
