"""Classes of torchmetrics as metrics, against SciPy and the equations; and through a run."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torchmetrics
from scipy import stats

import emoshare
from emoshare import reporting
from emoshare.core import outside as core_outside
from emoshare.core.errors import EmoshareError
from emoshare.metrics import registry
from emoshare.metrics.agreement import CCC
from emoshare.runs.folder import Run
from emoshare.runs.predictions import read_shares
from emoshare.training.members import read_member, usable_metrics

TRUE, PREDICTED = np.random.default_rng(3).random((2, 40, 4))


def each(score) -> list[float]:
    return [score(t, p) for t, p in zip(TRUE.T, PREDICTED.T, strict=True)]


def ccc_of_samples(true: np.ndarray, predicted: np.ndarray) -> float:
    """Lin's coefficient with variances over n - 1, which torchmetrics takes; emoshare's is over n."""
    covariance = np.cov(true, predicted)
    return 2 * covariance[0, 1] / (covariance[0, 0] + covariance[1, 1] + (true.mean() - predicted.mean()) ** 2)


@pytest.mark.parametrize(
    ("name", "wanted", "greater"),
    [
        ("PearsonCorrCoef", lambda t, p: stats.pearsonr(t, p).statistic, True),
        ("regression.KendallRankCorrCoef", lambda t, p: stats.kendalltau(t, p).statistic, True),
        ("R2Score", lambda t, p: 1 - ((t - p) ** 2).sum() / ((t - t.mean()) ** 2).sum(), True),
        ("MeanAbsolutePercentageError", lambda t, p: (np.abs(t - p) / t).mean(), False),
        ("ConcordanceCorrCoef", ccc_of_samples, True),
    ],
)
def test_each_target_is_scored_by_an_object_of_its_own(name, wanted, greater) -> None:
    metric = registry.find(f"torchmetrics.{name}")
    np.testing.assert_allclose(metric.score(TRUE, PREDICTED), each(wanted), rtol=1e-5)
    assert metric.greater_is_better is greater
    assert metric.label == name.rpartition(".")[2]


def test_ours_is_lins_and_that_of_torchmetrics_is_another() -> None:
    few = TRUE[:5], PREDICTED[:5]
    difference = np.abs(CCC.score(*few) - registry.find("torchmetrics.ConcordanceCorrCoef").score(*few))
    assert difference.max() > 1e-3


def test_the_rules_of_correlations_hold() -> None:
    """Constant predictions are 0, constant labels have no score, whatever the class says of them."""
    true, predicted = TRUE.copy(), PREDICTED.copy()
    predicted[:, 0], true[:, 1] = 0.5, 0.5
    scores = registry.find("torchmetrics.PearsonCorrCoef").score(true, predicted)
    assert scores[0] == 0
    assert np.isnan(scores[1])
    assert np.isfinite(scores[2:]).all()


def test_what_is_relative_to_the_labels_variance_has_no_score_where_they_are_constant() -> None:
    """torchmetrics has 0 and 10¹⁶ there, of which a mean over the targets would be made."""
    true, predicted = TRUE.copy(), PREDICTED.copy()
    true[:, 0], true[:, 1] = 1 / 3, 0
    for name in ("R2Score", "ExplainedVariance", "RelativeSquaredError"):
        metric = registry.find(f"torchmetrics.{name}")
        np.testing.assert_array_equal(np.isnan(metric.score(true, predicted)), [True, True, False, False])
        assert np.isnan(metric.score(TRUE[:1], PREDICTED[:1])).all()


def test_kendalls_coefficient_is_that_of_torchmetrics_with_ties_and_takes_no_hours() -> None:
    rng = np.random.default_rng(0)
    true, predicted = np.round(rng.random((2, 60, 3)) * 4)
    wanted = []
    for labels, shares in zip(true.T, predicted.T, strict=True):
        kendall = torchmetrics.KendallRankCorrCoef()
        kendall.update(torch.tensor(shares), torch.tensor(labels))
        wanted.append(float(kendall.compute()))
    metric = registry.find("torchmetrics.KendallRankCorrCoef")
    np.testing.assert_allclose(metric.score(true, predicted), wanted, atol=1e-6)
    started = time.process_time()
    metric.score(*rng.random((2, 10_000, 9)))
    assert time.process_time() - started < 1  # of a thousand resamples of each run; by torchmetrics 6 s


def test_through_a_run_and_its_report_without_being_allowed(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    kendall, error = "torchmetrics.KendallRankCorrCoef", "torchmetrics.MeanSquaredLogError"
    results = emoshare.train(
        "data=demo", "data.clips=60", "data.targets=[Anger,Boredom,Calmness]", "backbone=logmel", "window.seconds=1",
        "logger=none", "trainer.progress=false", "trainer.epochs=3", f"metrics=[scc,ccc,{kendall},{error}]",
        f"train.select={error}",
    )  # fmt: skip
    folder = Path("outputs") / results.sweep / results.run
    true, predicted = (
        read_shares(folder / kind / "devel.csv", results.targets)[1] for kind in ("reference", "predictions")
    )
    wanted = [stats.kendalltau(true[:, e], predicted[:, e]).statistic for e in range(3)]
    assert results.score("devel", kendall) == pytest.approx(np.mean(wanted), abs=1e-5)
    history = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    errors = [float(row[history[0].index(f"devel/{error}")]) for row in history[1:]]
    assert results.best.epoch == int(np.argmin(errors))
    assert json.loads((folder / "results.json").read_text())["own_metrics"][kendall]["source"] == ""

    registry._outside.clear()
    core_outside._ALLOWED.clear()
    report = reporting.build([Path("outputs/default")], resamples=20)
    assert report.score(report.best, kendall).low < report.score(report.best, kendall).high
    assert usable_metrics([read_member(Run(folder.resolve()))]) == ["scc", "ccc", kendall, error]  # of a fusion
    assert not core_outside._ALLOWED


OWN = """
import torchmetrics

class Cubic(torchmetrics.MinkowskiDistance):
    def __init__(self):
        super().__init__(p=3)

class Tau(torchmetrics.KendallRankCorrCoef):
    def __init__(self):
        super().__init__(variant="c")
"""


def test_a_class_of_ones_own_with_its_options(tmp_path, monkeypatch) -> None:
    (tmp_path / "cubic_kinds.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EmoshareError, match="--allow cubic_kinds"):
        registry.find("cubic_kinds.Cubic")
    core_outside.allow("cubic_kinds")
    metric = registry.find("cubic_kinds.Cubic")
    np.testing.assert_allclose(metric.score(TRUE, PREDICTED), each(lambda t, p: (abs(t - p) ** 3).sum() ** (1 / 3)))
    assert not metric.greater_is_better
    tau = registry.find("cubic_kinds.Tau")  # a correlation, of which torchmetrics says no direction
    wanted = each(lambda t, p: stats.kendalltau(t, p, variant="c").statistic)
    np.testing.assert_allclose(tau.score(TRUE, PREDICTED), wanted, rtol=1e-5)
    assert (tau.greater_is_better, tau.correlation) == (True, True)
    registry._outside.clear()
    sys.modules.pop("cubic_kinds")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torchmetrics.R2Scor", "nothing of that name in .*did you mean 'R2Score'"),
        ("torchmetrics.Accuracy", "is no regression metric; write a function"),
        ("torchmetrics.text.BLEUScore", "is no regression metric; write a function"),
        ("torchmetrics.functional.r2_score", "name the class, as torchmetrics.R2Score, or write a function"),
        ("torchmetrics.regression.TweedieDevianceScore", "does not say whether higher is better; write a function"),
        ("torchmetrics.MinkowskiDistance", "needs p; name a class of yours below it that sets that"),
        ("torchmetrics.CriticalSuccessIndex", "needs threshold; name a class"),
        ("torchmetrics.CosineSimilarity", "ValueError: .*2D"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(name, message) -> None:
    with pytest.raises(EmoshareError, match=message) as error:
        emoshare.compose("data=demo", f"metrics=[scc,ccc,{name}]")
    assert str(error.value).startswith(f"metrics=[scc,ccc,{name}]: {name}: ")
    assert "\n" not in str(error.value)
