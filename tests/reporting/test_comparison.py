"""Verdicts on cells that are made to be equal or not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from emoshare.metrics import bootstrap
from emoshare.reporting import comparison


def lin(x: np.ndarray, y: np.ndarray) -> float:
    """Concordance from its definition."""
    covariance = np.mean((x - np.mean(x)) * (y - np.mean(y)))
    return 2 * covariance / (np.var(x) + np.var(y) + (np.mean(x) - np.mean(y)) ** 2)


def test_holm_by_hand() -> None:
    # sorted: 0.005 × 4, 0.01 × 3, 0.03 × 2, 0.04 × 1, never falling
    np.testing.assert_allclose(comparison.holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(comparison.holm(np.array([0.6, np.nan, 0.7])), [1, np.nan, 1])
    assert len(comparison.holm(np.array([]))) == 0


class World:
    """Cells on one partition: each a model of some skill, trained with several seeds."""

    def __init__(self, clips: int = 400, targets: int = 3, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.true = self.rng.normal(size=(clips, targets))
        self.hard = self.rng.normal(size=(clips, targets))  # what all models get wrong alike
        self.seed = seed
        self.scores: list[np.ndarray] = []
        self.means: list[np.ndarray] = []

    def cell(self, skill: float, runs: int = 3, luck: float = 0.02, noise: float = 0.2) -> None:
        """`luck`: how far a seed moves the skill of a run; `noise`: its own error on each clip."""
        predicted = [
            self.true * (skill + luck * self.rng.normal())
            + 0.6 * self.hard
            + noise * self.rng.normal(size=self.true.shape)
            for _ in range(runs)
        ]
        scc, ccc, _ = bootstrap.replicates(self.true, predicted, resamples=200, seed=self.seed, clusters=None).values()
        self.means.append(((scc + ccc) / 2).mean(axis=(0, 1)))
        self.scores.append(np.array([self.average(run) for run in predicted]))

    def average(self, run: np.ndarray) -> float:
        pairs = list(zip(run.T, self.true.T, strict=True))
        return float(np.mean([(spearmanr(x, y).statistic + lin(x, y)) / 2 for x, y in pairs]))

    def compare(self) -> comparison.Comparison:
        return comparison.compare(self.scores, np.stack(self.means))


def test_cells_that_differ_by_the_seed_alone_are_tied_and_a_better_one_is_better() -> None:
    world = World()
    for skill in (0.6, 0.6, 0.45):
        world.cell(skill)
    found = world.compare()
    assert found.best in (0, 1)
    assert found.verdict(1 - found.best) == "tied"
    assert found.verdict(2) == "worse"
    assert found.freedom == 6
    assert found.seed_std == pytest.approx(np.sqrt(np.mean([np.var(s, ddof=1) for s in world.scores])))


def test_seeds_that_scatter_hide_a_difference_that_the_clips_alone_would_show() -> None:
    steady, erratic = World(seed=1), World(seed=1)
    for world, luck in ((steady, 0.0), (erratic, 0.15)):
        world.cell(0.6, luck=luck)
        world.cell(0.5, luck=luck)
    assert steady.compare().verdict(1) == "worse"
    assert np.nanmin(erratic.compare().p) > 100 * np.nanmin(steady.compare().p)


def test_false_alarms_are_rare() -> None:
    alarms = 0
    for seed in range(80):
        world = World(clips=60, targets=1, seed=seed)
        for _ in range(3):
            world.cell(0.6, luck=0.05)
        found = world.compare()
        alarms += any(found.verdict(cell) == "worse" for cell in range(3))
    assert alarms <= 8  # 5 % of 80 is 4; 9 or more has a chance of 2 %


def test_p_is_corrected_for_the_comparisons_with_the_best_alone() -> None:
    world = World()
    for skill in (0.6, 0.59, 0.58, 0.57):
        world.cell(skill)
    found = world.compare()
    others = [cell for cell in range(4) if cell != found.best]
    np.testing.assert_allclose(found.corrected[others], comparison.holm(found.p[others]))
    smallest = min(others, key=lambda cell: found.p[cell])
    assert found.corrected[smallest] == pytest.approx(min(1, 3 * found.p[smallest]))  # 3 comparisons, not 6 pairs
    assert np.isnan([found.p[found.best], found.corrected[found.best]]).all()


def test_one_run_per_cell_claims_nothing() -> None:
    world = World()
    world.cell(0.6, runs=1)
    world.cell(0.4, runs=1)
    world.cell(0.6, runs=1, luck=0, noise=0.2)
    found = world.compare()
    assert found.verdict(1) == "unsettled"
    assert np.isnan(found.seed_std)
    assert found.p[1] < 1e-3


def test_single_runs_borrow_the_seed_variance_of_other_cells() -> None:
    world = World()
    world.cell(0.6, runs=4)
    world.cell(0.4, runs=1)
    assert world.compare().verdict(1) == "worse"
    assert world.compare().freedom == 3


def test_pairing_sees_what_overlapping_intervals_hide() -> None:
    world = World()
    world.cell(0.6, luck=0.0, noise=0.05)
    world.cell(0.56, luck=0.0, noise=0.05)
    (low, _), (_, high) = (bootstrap.interval(means) for means in world.means)
    assert low < high  # the intervals overlap
    assert world.compare().verdict(1) == "worse"


def test_nan_is_not_tested_and_never_best() -> None:
    world = World()
    world.cell(0.5)
    world.cell(0.5)
    world.scores.append(np.array([np.nan, 0.9]))
    world.means.append(np.full(200, np.nan))
    found = world.compare()
    assert found.best in (0, 1)
    assert found.verdict(2) == "untested"
    assert found.verdict(1 - found.best) == "tied"
    assert found.freedom == 4


def test_a_single_cell_is_its_own_best() -> None:
    found = comparison.compare([np.array([0.5])], np.linspace(0, 1, 50)[None])
    assert (found.best, found.verdict(0), found.p.shape) == (0, "best", (1,))


def test_identical_cells_are_tied() -> None:
    means = np.random.default_rng(0).normal(size=(1, 50)).repeat(2, axis=0)
    found = comparison.compare([np.array([0.5]), np.array([0.5])], means)
    assert found.p[1] == 1
    assert found.verdict(1) == "tied"
