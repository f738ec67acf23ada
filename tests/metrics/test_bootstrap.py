"""The bootstrap against plain loops over real resamples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from emoshare.metrics import bootstrap
from emoshare.metrics.agreement import CCC
from emoshare.metrics.error import MAE, MSE, RMSE
from emoshare.metrics.metric import Metric, score_all
from emoshare.metrics.rank import PCC, SCC, resampled_spearman
from emoshare.metrics.registry import AVG, STANDARD


def both(true: np.ndarray, predicted: list[np.ndarray], *args: Any, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """SCC and CCC of `replicates`."""
    found = bootstrap.replicates(true, predicted, *args, **options)
    return found[SCC.name], found[CCC.name]


def shares(clips: int, targets: int, seed: int = 0, decimals: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Labels with many ties and predictions with some."""
    rng = np.random.default_rng(seed)
    true = rng.random((clips, targets))
    predicted = 0.5 * true + 0.5 * rng.random((clips, targets))
    return true.round(decimals), predicted.round(2)


def lin(x: np.ndarray, y: np.ndarray) -> float:
    """Concordance from its definition."""
    covariance = np.mean((x - np.mean(x)) * (y - np.mean(y)))
    return 2 * covariance / (np.var(x) + np.var(y) + (np.mean(x) - np.mean(y)) ** 2)


@pytest.mark.parametrize("decimals", [1, 12], ids=["ties", "no ties"])
def test_equals_a_plain_loop_over_real_resamples(decimals: int) -> None:
    true, first = shares(151, 3, decimals=decimals)
    second = shares(151, 3, seed=5)[1]
    scc, ccc = both(true, [first, second], resamples=20, seed=3, clusters=None)
    assert scc.shape == ccc.shape == (2, 3, 20)
    counts = bootstrap.draw(151, range(20), seed=3)
    for r, predicted in enumerate((first, second)):
        for b in range(20):
            clips = np.repeat(np.arange(151), counts[:, b].astype(int))
            assert len(clips) == 151
            for e in range(3):
                x, y = predicted[clips, e], true[clips, e]
                assert scc[r, e, b] == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)
                assert ccc[r, e, b] == pytest.approx(lin(x, y), abs=1e-12)


def test_a_resample_of_every_clip_once_is_the_partition() -> None:
    true, predicted = shares(60, 2)
    once = np.ones((60, 1))
    assert resampled_spearman(true, [predicted], once)[0, 1, 0] == pytest.approx(
        spearmanr(true[:, 1], predicted[:, 1]).statistic, abs=1e-14
    )


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    true, predicted = shares(400, 2)
    whole = both(true, [predicted], resamples=70, clusters=None)
    monkeypatch.setattr(bootstrap, "CHUNK", 1)
    parts = both(true, [predicted], resamples=70, clusters=None)
    np.testing.assert_allclose(whole, parts, rtol=0, atol=1e-14)
    other = both(true, [predicted], resamples=70, seed=1, clusters=None)
    assert np.abs(whole[0] - other[0]).max() > 1e-3


def test_constants_and_missing_predictions() -> None:
    true, predicted = shares(50, 4)
    predicted[:, 0] = 0.2
    predicted[:, 1] = 1 / 3 + np.arange(50) * 1e-17
    true[:, 2] = 0.5
    scc, ccc = both(true, [predicted], resamples=9, clusters=None)
    for found in (scc, ccc):
        assert (found[0, :2] == 0).all()  # predictions
        assert np.isnan(found[0, 2]).all()  # labels
        assert np.isfinite(found[0, 3]).all()
    predicted[7, 3] = np.nan
    for found in both(true, [predicted, true], resamples=9, clusters=None):
        assert np.isnan(found[0]).all()
        assert np.isfinite(found[1, 3]).all()


def test_constants_of_a_resample_are_found_as_in_its_own_clips() -> None:
    """Few clips, most of which differ by rounding noise: many resamples hold nothing else."""
    rng = np.random.default_rng(0)
    for noise in (0.0, 3e-16, 2e-8, 1e-4):
        true = np.array([[0.2], [0.2], [0.2], [0.2], [0.7], [0.4]]) + noise * rng.random((6, 1))
        predicted = np.array([[0.3], [0.3], [0.3], [0.3], [0.3], [0.9]]) + noise * rng.random((6, 1))
        scc, ccc = both(true, [predicted], resamples=200, clusters=None)
        counts = bootstrap.draw(6, range(200), seed=0)
        seen = set()
        for b in range(200):
            clips = np.repeat(np.arange(6), counts[:, b].astype(int))
            x, y = predicted[clips, 0], true[clips, 0]
            flat = [np.ptp(v) <= 4 * np.finfo(np.float32).eps * np.abs(v).max() for v in (x, y)]
            seen.add(tuple(flat))
            want = (np.nan, np.nan) if flat[1] else (0, 0) if flat[0] else (spearmanr(x, y).statistic, lin(x, y))
            np.testing.assert_allclose((scc[0, 0, b], ccc[0, 0, b]), want, atol=1e-12)
        assert len(seen) == (3 if noise < 1e-6 else 1)


def test_one_clip_gives_nan() -> None:
    scc, ccc = both(np.array([[0.3]]), [np.array([[0.3]])], resamples=3, clusters=None)
    assert np.isnan(scc).all()
    assert np.isnan(ccc).all()


def test_interval() -> None:
    values = np.random.default_rng(0).normal(size=999)
    low, high = bootstrap.interval(values)
    ordered = np.sort(values)
    assert low == pytest.approx(ordered[25], abs=0.05)
    assert high == pytest.approx(ordered[-26], abs=0.05)
    assert bootstrap.interval(np.append(values, np.nan)) == (low, high)
    assert np.isnan(bootstrap.interval(np.array([0.1, np.nan, np.nan]))).all()


def test_clusters_are_drawn_whole() -> None:
    true, predicted = shares(90, 2)
    clusters = np.random.default_rng(0).permutation(np.repeat(np.arange(9), [1, 3, 5, 8, 13, 15, 15, 15, 15]))
    counts = bootstrap.draw(90, range(30), seed=3, clusters=clusters)
    for cluster in range(9):
        assert (counts[clusters == cluster] == counts[clusters == cluster][:1]).all()
    first = [np.flatnonzero(clusters == cluster)[0] for cluster in range(9)]
    assert (counts[first].sum(axis=0) == 9).all()
    scc, ccc = both(true, [predicted], resamples=30, seed=3, clusters=clusters)
    for b in range(30):
        clips = np.repeat(np.arange(90), counts[:, b].astype(int))
        for e in range(2):
            x, y = predicted[clips, e], true[clips, e]
            assert scc[0, e, b] == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)
            assert ccc[0, e, b] == pytest.approx(lin(x, y), abs=1e-12)


def test_some_rows_are_scored_on_the_resamples_of_all() -> None:
    true, predicted = shares(60, 2)
    rows = np.arange(10, 35)
    counts = bootstrap.draw(60, range(15), seed=0)
    scc, ccc = both(true, [predicted], resamples=15, rows=rows, clusters=None)
    for b in range(15):
        clips = np.repeat(rows, counts[rows, b].astype(int))
        assert scc[0, 1, b] == pytest.approx(spearmanr(predicted[clips, 1], true[clips, 1]).statistic, abs=1e-12)
        assert ccc[0, 1, b] == pytest.approx(lin(predicted[clips, 1], true[clips, 1]), abs=1e-12)


def test_a_group_that_a_resample_lacks_has_no_score() -> None:
    true, predicted = shares(40, 1)
    scc, ccc = both(true, [predicted], resamples=50, clusters=np.arange(40) // 5, rows=np.arange(5))
    assert np.isnan(scc).any()
    assert (np.isnan(scc) == np.isnan(ccc)).all()
    assert np.isfinite(scc).any()


@pytest.mark.parametrize("metric", [SCC, CCC, AVG, PCC, MAE, MSE, RMSE], ids=lambda metric: metric.name)
def test_the_resampled_form_is_the_function_on_the_clips_of_each_resample(metric: Metric) -> None:
    true, predicted = shares(40, 3)
    predicted[:, 1] = 0.25
    true[:, 2] = np.arange(40) < 2  # constant in some resamples
    fast = bootstrap.replicates(true, [predicted], 60, clusters=None, metrics=[metric])[metric.name]
    counts = bootstrap.draw(40, range(60), seed=0)
    for b in range(60):
        clips = np.repeat(np.arange(40), counts[:, b].astype(int))
        np.testing.assert_allclose(fast[0, :, b], metric.score(true[clips], predicted[clips]), atol=1e-12)
    slow = Metric(metric.name, "", metric.function, correlation=metric.correlation)
    found = bootstrap.replicates(true, [predicted], 60, clusters=None, metrics=[slow])[metric.name]
    np.testing.assert_allclose(found, fast, atol=1e-12)


def test_an_average_is_that_of_its_parts() -> None:
    true, predicted = shares(30, 2)
    together = bootstrap.replicates(true, [predicted], 20, clusters=None, metrics=STANDARD)
    alone = bootstrap.replicates(true, [predicted], 20, clusters=None, metrics=[AVG])
    np.testing.assert_allclose(together[AVG.name], alone[AVG.name], atol=1e-14)
    np.testing.assert_allclose(together[AVG.name], (together[SCC.name] + together[CCC.name]) / 2, atol=1e-14)


def test_a_metric_without_its_function_has_no_replicates() -> None:
    true, predicted = shares(30, 2)
    found = bootstrap.replicates(true, [predicted], 5, clusters=None, metrics=[Metric("own.gone", "Gone"), MAE])
    assert list(found) == [MAE.name]
    assert list(score_all([Metric("own.gone", "Gone"), MAE], true, predicted)) == [MAE.name]


def test_intervals_that_ignore_speakers_are_too_narrow() -> None:
    """40 speakers of 10 clips; a speaker's mean is half of the variance of labels and of errors. Truth by formula."""
    rng = np.random.default_rng(0)
    speakers, clips = 40, 10
    unit = np.repeat(np.arange(speakers), clips)
    correlation = 1 / np.sqrt(2)  # of y with x = y + e, of equal variances
    truth = 6 / np.pi * np.arcsin(correlation / 2)  # Spearman's of two normal variables (Pearson, 1907)

    def drawn() -> np.ndarray:
        return rng.normal(size=speakers)[unit] + rng.normal(size=speakers * clips)

    held = {"clips": 0, "speakers": 0}
    for _ in range(150):
        y = drawn()
        x = y + drawn()
        for name, clusters in (("clips", None), ("speakers", unit)):
            scc, _ = both(y[:, None], [x[:, None]], resamples=200, clusters=clusters)
            low, high = bootstrap.interval(scc[0, 0])
            held[name] += low <= truth <= high
    assert held["clips"] / 150 < 0.8
    assert held["speakers"] / 150 > 0.87


def test_a_function_is_not_asked_to_score_a_single_clip() -> None:
    """Of a group of ten clips one resample in two thousand holds one or none, which many functions do not take."""

    def picky(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        assert len(np.unique(true, axis=0)) > 1, "needs two clips"
        return np.abs(true - predicted).mean(axis=0)

    true, predicted = shares(90, 2, decimals=12)
    metric = Metric("picky", "Picky", picky, False)
    rows = np.arange(5)
    drawn = bootstrap.replicates(true, [predicted], 400, clusters=None, rows=rows, metrics=[metric, MAE])
    alone = (bootstrap.draw(90, range(400), 0)[rows] > 0).sum(axis=0) < 2
    assert alone.any()
    np.testing.assert_array_equal(np.isnan(drawn["picky"][0, 0]), alone)
    np.testing.assert_allclose(drawn["picky"][..., ~alone], drawn[MAE.name][..., ~alone])
