"""Resampled scores that are kept in a run's folder: read where they hold, made anew where they do not."""

from __future__ import annotations

from pathlib import Path

import fakes
import numpy as np
import pytest

from emoshare import reporting
from emoshare.reporting import resampled


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return fakes.sweep(tmp_path / "sweep", {"tiny": 0.5}, [1.0, 2.0], seeds=2, clips=40)


def intervals(report: reporting.Report) -> list[reporting.Score]:
    return [
        report.score(cell, m, part)
        for cell in report.study.cells
        for m in ("scc", "avg")
        for part in report.study.labels
    ]


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(resampled, "replicates", fail)


def test_a_second_report_computes_nothing_and_says_the_same(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = intervals(reporting.build([sweep], 30))
    sizes = [path.stat().st_size for path in sweep.glob("*/resampled/*.npz")]
    assert len(sizes) == 8
    forbid(monkeypatch)
    assert intervals(reporting.build([sweep], 30)) == first


def test_kept_scores_are_those_of_the_bootstrap(sweep: Path) -> None:
    reporting.build([sweep], 30)
    report = reporting.build([sweep], 30)
    cell, labels = report.study.cells[0], report.study.labels["devel"]
    predicted = [report.study.predictions(run, "devel") for run in cell.runs]
    for name, values in resampled.replicates(labels.shares, predicted, 30, clusters=None).items():
        np.testing.assert_allclose(report.resampled[cell.key, "devel"].scores[name], values.mean(axis=0), atol=1e-7)


@pytest.mark.parametrize("change", ["predictions", "resamples", "damage"])
def test_what_no_longer_holds_is_made_anew(sweep: Path, change: str) -> None:
    before = intervals(reporting.build([sweep], 30))
    run = next(sweep.glob("*seed0"))
    if change == "predictions":
        other = next(path for path in sweep.glob("*seed1") if path.name[:6] != run.name[:6])
        (run / "predictions/devel.csv").write_bytes((other / "predictions/devel.csv").read_bytes())
    elif change == "damage":
        path = run / "resampled/devel.npz"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    after = intervals(reporting.build([sweep], 20 if change == "resamples" else 30))
    assert (after == before) == (change == "damage")
