"""Strata of clips by the entropy of their labels."""

import numpy as np
from scipy.stats import entropy

from emoshare.metrics.registry import OURS
from emoshare.metrics.strata import entropy_strata, label_entropy, score_strata


def test_entropy_is_scipys() -> None:
    shares = np.random.default_rng(0).random((50, 4))
    np.testing.assert_allclose(label_entropy(shares), entropy(shares.T, base=4), atol=1e-12)
    assert np.isnan(label_entropy(np.zeros((1, 4)))).all()


def test_equal_entropies_stay_together_and_one_stratum_is_none() -> None:
    one, two, three = [1.0, 0, 0], [0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]
    shares = np.array([one] * 20 + [two] * 30 + [three] * 15 + [[0, 0, 0]])
    strata = entropy_strata(shares.astype(np.float32))
    assert {name: len(rows) for name, rows in strata.items()} == {
        "low, 0.00 to 0.00": 20, "middle, 0.63 to 0.63": 30, "high, 1.00 to 1.00": 15,
    }  # fmt: skip
    mostly = np.array([one] * 50 + [two] * 15)
    assert {name: len(rows) for name, rows in entropy_strata(mostly).items()} == {
        "low, 0.00 to 0.00": 50, "high, 0.63 to 0.63": 15,
    }  # fmt: skip
    assert entropy_strata(shares[:20]) == entropy_strata(shares[:25, :1]) == entropy_strata(shares[-1:]) == {}
    assert entropy_strata(mostly[:55]) == {}  # five clips are too few


def test_scores_of_strata_are_those_of_their_clips() -> None:
    rng = np.random.default_rng(1)
    true, predicted = rng.dirichlet(np.ones(3), 90), rng.dirichlet(np.ones(3), 90)
    strata = entropy_strata(true)
    found = score_strata(true, predicted, np.arange(90) // 30, [OURS["jsd"], OURS["mae"]])
    assert list(found) == list(strata)
    for name, rows in strata.items():
        wanted = np.abs(true[rows] - predicted[rows]).mean()
        assert abs(found[name].scores["mae"] - wanted) < 1e-12
        low, high = found[name].intervals["jsd"]
        assert low < found[name].scores["jsd"] < high
