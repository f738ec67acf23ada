"""Metrics against scipy and the equations, ties and constants included."""

import numpy as np
import pytest
import torch
from scipy import stats

from emoshare.metrics.agreement import concordance
from emoshare.metrics.metric import score_table
from emoshare.metrics.rank import PCC, SCC
from emoshare.metrics.registry import OURS, STANDARD

TARGETS = tuple("abcdefghi")
ALL = (*STANDARD, PCC)


def shares(seed: int, n: int = 200, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.random.default_rng(seed).random((2, n, 9))
    return (np.round(x, 1), np.round(y, 1)) if ties else (x, 0.5 * x + y)


@pytest.mark.parametrize("ties", [False, True])
def test_correlations_are_scipys(ties: bool) -> None:
    x, y = shares(1, ties=ties)
    metrics = score_table(ALL, y, x, TARGETS)
    for e, name in enumerate(TARGETS):
        rho = stats.spearmanr(x[:, e], y[:, e]).statistic
        covariance = np.cov(x[:, e], y[:, e], ddof=0)
        bias = x[:, e].mean() - y[:, e].mean()
        ccc = 2 * covariance[0, 1] / (covariance[0, 0] + covariance[1, 1] + bias**2)
        assert metrics["scc"][name] == pytest.approx(rho, abs=1e-12)
        assert metrics["pcc"][name] == pytest.approx(stats.pearsonr(x[:, e], y[:, e]).statistic, abs=1e-12)
        assert metrics["ccc"][name] == pytest.approx(ccc, abs=1e-12)
        assert metrics["avg"][name] == pytest.approx((rho + ccc) / 2, abs=1e-12)
    for values in metrics.values():
        assert values["mean"] == pytest.approx(np.mean([values[name] for name in TARGETS]), abs=1e-12)


def test_the_whole_partition_is_scored_not_its_batches() -> None:
    x, y = shares(2, 100)
    batches = np.mean([SCC.score(y[i : i + 8], x[i : i + 8]) for i in range(0, 100, 8)], axis=0)
    assert np.abs(SCC.score(y, x) - batches).max() > 1e-3


def test_errors_are_their_definitions_and_constant_labels_have_them() -> None:
    x, y = shares(5)
    y[:, 2] = 0.3
    differences = x - y
    for name, wanted in {
        "mae": np.abs(differences).mean(0), "mse": (differences**2).mean(0), "rmse": np.sqrt((differences**2).mean(0)),
    }.items():  # fmt: skip
        metric = OURS[name]
        np.testing.assert_allclose(metric.score(y, x), wanted, atol=1e-15)
        assert not metric.greater_is_better
        assert (metric.mode, metric.best([0.3, 0.1, float("nan"), 0.1])) == ("min", 1)
    assert (SCC.mode, SCC.best([0.3, float("nan"), 0.5])) == ("max", 2)


def test_concordance_is_one_function_for_arrays_and_tensors() -> None:
    x, y = shares(6)
    found = concordance(torch.from_numpy(y), torch.from_numpy(x).requires_grad_())
    np.testing.assert_allclose(found.detach().numpy(), concordance(y, x), atol=1e-14)
    found.sum().backward()


@pytest.mark.parametrize("constant", [0.1, 0.0, 1 / 3])
@pytest.mark.parametrize("noise", [0.0, 3e-16, 1e-8])
def test_a_constant_prediction_is_scored_0(constant: float, noise: float) -> None:
    """0.1 is the trap: the mean of many 0.1 is not 0.1, and the variance not 0. Rounding noise has ranks, too."""
    x, y = shares(3)
    x[:, 4] = constant * (1 + noise * y[:, 4])
    metrics = score_table(ALL, y, x, TARGETS)
    for values in metrics.values():
        assert values["e"] == 0
        assert values["mean"] == pytest.approx(np.mean([values[name] for name in TARGETS]), abs=1e-12)


@pytest.mark.parametrize("constant", [0.1, 0.0, 1 / 3])
def test_constant_labels_have_no_score_and_the_mean_is_over_the_others(constant: float) -> None:
    x, y = shares(3)
    y[:, 4] = constant
    x[:, 3] = y[:, 3] = x[:, 4] = constant  # whatever is predicted
    for values in score_table(ALL, y, x, TARGETS).values():
        assert np.isnan([values["d"], values["e"]]).all()
        assert values["mean"] == pytest.approx(np.mean([values[name] for name in "abcfghi"]), abs=1e-12)
    y[:] = constant
    for values in score_table(ALL, y, x, TARGETS).values():
        assert np.isnan(list(values.values())).all()
