"""Resampled scores that are kept in a run's folder: read where they hold, made anew where they do not."""

from __future__ import annotations

from pathlib import Path

import fakes
import numpy as np
import pytest

from emoshare import reporting
from emoshare.metrics import bootstrap
from emoshare.metrics.registry import STANDARD
from emoshare.runs.resampled import Predictions, Resampled, Resampling


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two cells of two runs."""
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

    monkeypatch.setattr(bootstrap, "replicates", fail)


def shares(clips: int, targets: int, decimals: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Labels with ties, and predictions that go with them."""
    true, noise = np.random.default_rng(0).random((2, clips, targets))
    return true.round(decimals), (0.5 * true + 0.5 * noise).round(2)


def resample(true: np.ndarray, predicted: np.ndarray, clusters: np.ndarray | None, resamples: int = 1000) -> Resampled:
    stored = Predictions(Path("nowhere"), [], lambda: predicted)
    (found,) = Resampling(true, clusters, STANDARD, resamples, keep=False).scores([stored])
    return found


def test_intervals_of_a_run_are_over_what_is_defined_in_each_resample() -> None:
    true, predicted = shares(30, 3)
    true[:, 1] = 0.2
    true[:, 2] = np.arange(30) == 0  # of one clip alone, which a third of the resamples lack
    found = resample(true, predicted, None, 300).intervals(STANDARD, "abc")
    assert list(found) == ["scc", "ccc", "avg"]
    assert list(found["scc"]) == ["mean", *"abc"]
    scc = bootstrap.replicates(true, [predicted], 300, clusters=None)["scc"]
    means = [np.mean([v for v in scc[0, :, b] if not np.isnan(v)]) for b in range(300)]
    assert found["scc"]["mean"] == pytest.approx(np.percentile(means, [2.5, 97.5]))
    assert np.isnan(found["scc"]["b"]).all()
    assert np.isnan(scc[0, 2]).mean() == pytest.approx((29 / 30) ** 30, abs=0.1)


def test_intervals_draw_clusters_where_they_are_given() -> None:
    true, predicted = (np.repeat(table, 6, axis=0) for table in shares(10, 2, decimals=12))
    clips, speakers = (resample(true, predicted, units).interval("scc") for units in (None, np.arange(60) // 6))
    assert speakers[1] - speakers[0] > 1.5 * (clips[1] - clips[0])
    few = np.arange(60) // 20  # too few to draw: clips are
    assert resample(true, predicted, few).interval("scc") == clips
    assert bootstrap.drawn_units(few, "speaker") == "clips"
    assert bootstrap.drawn_units(np.arange(60) // 6, "speaker") == "clips, drawn by speaker"


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
    for name, values in bootstrap.replicates(labels.shares, predicted, 30, clusters=None).items():
        found = report.resampled[cell.key, "devel"].scores[name]
        np.testing.assert_allclose(found, values.mean(axis=0), rtol=0, atol=1e-7)  # kept in float32


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
