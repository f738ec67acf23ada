"""The noise ceiling against simulated raters, of whom the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from emoshare.metrics import ceiling
from emoshare.metrics.ceiling import noise_ceiling, split_halves
from emoshare.metrics.metric import Metric
from emoshare.metrics.registry import OURS, STANDARD

METRICS = [OURS[name] for name in ("scc", "pcc", "ccc", "avg", "mae", "jsd")]


def simulated(clips: int, raters: int | np.ndarray, seed: int, targets: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """What raters expect of each clip, (N, E), and their votes, (N, E)."""
    rng = np.random.default_rng(seed)
    expected = rng.dirichlet(np.full(targets, 0.7), clips)
    sizes = np.broadcast_to(raters, clips)
    return expected, rng.multinomial(sizes, expected)


@pytest.fixture
def no_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the score alone is asked for: most of the time goes into its interval."""
    monkeypatch.setattr(ceiling, "RESAMPLED", 1)


def test_halves_are_of_equal_size_and_drawn_without_replacement() -> None:
    counts = np.array([[4, 0, 1], [1, 1, 0], [3, 3, 3]])
    draws = [split_halves(counts, np.random.default_rng(seed)) for seed in range(2000)]
    size = np.array([[2], [1], [4]])
    for first, second in draws:
        both = np.rint((first + second) * size)
        assert (both.sum(axis=1) == [4, 2, 8]).all()
        assert (both <= counts).all()
        np.testing.assert_allclose([first.sum(axis=1), second.sum(axis=1)], 1)
    means = np.mean([half for pair in draws for half in pair], axis=0)
    np.testing.assert_allclose(means, counts / counts.sum(axis=1, keepdims=True), atol=0.02)
    halves = [np.rint(first[2, 0] * 4) for first, _ in draws]  # of three of nine, four are drawn
    for hits in range(4):
        assert np.mean(np.equal(halves, hits)) == pytest.approx(stats.hypergeom(9, 3, 4).pmf(hits), abs=0.03)


@pytest.mark.parametrize("raters", [2, 3, 5, 12, "mixed"])
def test_it_is_what_predictions_without_noise_reach(raters: int | str, no_intervals: None) -> None:
    """Predictions of the expected shares, and for CCC of the labels' spread, against labels of all votes."""
    sizes = np.random.default_rng(0).integers(2, 9, 6000) if raters == "mixed" else raters
    expected, counts = simulated(6000, sizes, seed=1)
    labels = counts / counts.sum(axis=1, keepdims=True)
    found = noise_ceiling(counts, METRICS, 1, None)
    truth = np.mean([stats.pearsonr(expected[:, e], labels[:, e]).statistic for e in range(4)])
    assert found["pcc"].attainable.value == pytest.approx(truth, abs=0.012)
    spread = expected.mean(axis=0) + (expected - expected.mean(axis=0)) * labels.std(axis=0) / expected.std(axis=0)
    assert found["ccc"].attainable.value == pytest.approx(OURS["ccc"].score(labels, spread).mean(), abs=0.012)
    truth = np.mean([stats.spearmanr(expected[:, e], labels[:, e]).statistic for e in range(4)])
    assert found["scc"].attainable.value == pytest.approx(truth, abs=0.05)  # an approximation, from above with ties
    parts = [found[name].attainable.value for name in ("scc", "ccc")]
    assert found["avg"].attainable.value == pytest.approx(np.mean(parts), abs=1e-9)
    for name in ("mae", "jsd"):
        assert found[name].attainable is None
        assert found[name].halves.value > OURS[name].score(labels, expected).mean()  # predictions can be better


def test_half_against_half_is_what_two_groups_of_raters_reach(no_intervals: None) -> None:
    rng = np.random.default_rng(5)
    expected, counts = simulated(20000, 8, seed=2)
    groups = [rng.multinomial(4, expected) / 4 for _ in range(2)]
    found = noise_ceiling(counts, METRICS, 1, None)
    for name in ("scc", "ccc", "mae", "jsd"):
        wanted = OURS[name].score(*groups).mean()
        assert found[name].halves.value == pytest.approx(wanted, abs=0.015)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    expected, counts = simulated(20000, 6, seed=3)
    truth = np.mean([np.corrcoef(expected[:, e], counts[:, e])[0, 1] for e in range(4)])
    held = []
    for seed in range(40):
        bounds = noise_ceiling(simulated(150, 6, 100 + seed)[1], [OURS["pcc"]], 100, None)["pcc"].attainable
        held.append(bounds.low <= truth <= bounds.high)
    assert np.mean(held) > 0.85


def test_clips_of_one_vote_do_not_count_and_clusters_are_drawn() -> None:
    _, counts = simulated(60, 4, seed=4)
    alone = np.zeros((30, 4), int)
    alone[:, 0] = 1
    found = noise_ceiling(counts, STANDARD, 50, None)
    assert noise_ceiling(np.concatenate([counts, alone]), STANDARD, 50, None) == found
    assert noise_ceiling(np.concatenate([counts[:5], alone]), STANDARD, 50, None) == {}
    clustered = noise_ceiling(counts, STANDARD, 50, np.arange(60) // 6)
    assert clustered["scc"].halves.value == found["scc"].halves.value
    assert clustered["scc"].halves.low != found["scc"].halves.low


def test_a_metric_without_a_fast_form_is_called_a_few_thousand_times() -> None:
    """Not in each of 1,000 resamples of 20 divisions: that is minutes for each partition of a report."""
    counts = simulated(60, 6, 0)[1]
    calls = []

    def error(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        calls.append(len(true))
        return np.abs(true - predicted).mean(axis=0)

    own, ours = Metric("own", "Own", error, False), OURS["mae"]
    found = noise_ceiling(counts, [own, ours], 1000, None)
    assert len(calls) == 100 + 20 * 100
    assert found["own"].halves.value == found["mae"].halves.value
    ends = [(found[name].halves.low, found[name].halves.high) for name in ("own", "mae")]
    np.testing.assert_allclose(*ends, atol=0.3 * (ends[1][1] - ends[1][0]))
