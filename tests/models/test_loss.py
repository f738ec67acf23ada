"""CCC against Lin's equation, written out for one column at a time in plain Python."""

import math

import numpy as np
import pytest
import torch
from composed import config
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from emoshare.core.validate import find_mistakes
from emoshare.metrics.agreement import concordance
from emoshare.models.loss import ShareLoss, js_terms, kl_terms, released_concordance
from emoshare.models.losses.mix import Options


def lin(x: list[float], y: list[float]) -> float:
    n = len(x)
    mx, my = sum(x) / n, sum(y) / n
    vx, vy = sum((a - mx) ** 2 for a in x) / n, sum((b - my) ** 2 for b in y) / n
    rho = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / n / math.sqrt(vx * vy)
    return 2 * rho * math.sqrt(vx) * math.sqrt(vy) / (vx + vy + (mx - my) ** 2)


@pytest.mark.parametrize("n", [2, 3, 8, 100])
def test_concordance_is_lins(n: int) -> None:
    x, y = torch.rand(2, n, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    wanted = [lin(x[:, e].tolist(), y[:, e].tolist()) for e in range(9)]
    assert concordance(x, y).tolist() == pytest.approx(wanted, abs=1e-12)


def test_perfect_predictions_score_one_in_a_batch_of_eight() -> None:
    x = torch.rand(8, 9, dtype=torch.float64)
    torch.testing.assert_close(concordance(x, x), torch.ones(9, dtype=torch.float64))


def test_shift_and_scale_cost_concordance() -> None:
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    assert concordance(x, x + 1).item() == pytest.approx(2 * 0.25 / (0.25 + 0.25 + 1))
    assert concordance(x, x / 2).item() == pytest.approx(2 * 0.125 / (0.25 + 0.0625 + 0.0625))
    assert concordance(x, -x).item() < 0


@pytest.mark.parametrize(
    "weights",
    [
        Options(),
        Options(mse=1, ccc=0),
        Options(mae=1, ccc=0),
        Options(mse=0.5, mae=0.1),
        Options(released=True),
        *(Options(**{"ccc": 0, name: 1}) for name in ("kl", "js", "bce", "focal_bce")),
    ],
)
@pytest.mark.parametrize("constant", ["predicted", "true", "both", "neither"])
def test_gradients_stay_finite_on_constant_input(weights: Options, constant: str) -> None:
    predicted, true = torch.rand(2, 8, 9).unbind()
    if constant in ("predicted", "both"):
        predicted = torch.full((8, 9), 0.25)
    if constant in ("true", "both"):
        true = torch.full((8, 9), 0.25)
    predicted.requires_grad_()
    loss = ShareLoss(weights)(predicted, true)
    loss.backward()
    assert loss.isfinite()
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()


def test_mix_is_the_weighted_sum() -> None:
    predicted, true = torch.rand(2, 8, 9)
    one = [ShareLoss(Options("mix", *w))(predicted, true) for w in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    mixed = ShareLoss(Options(ccc=0.5, mse=2, mae=3))(predicted, true)
    torch.testing.assert_close(mixed, 0.5 * one[0] + 2 * one[1] + 3 * one[2])
    torch.testing.assert_close(one[1], torch.nn.functional.mse_loss(predicted, true))
    torch.testing.assert_close(one[2], torch.nn.functional.l1_loss(predicted, true))


def test_half_precision_is_scored_in_float32() -> None:
    predicted, true = torch.rand(2, 8, 9).bfloat16()
    assert ShareLoss(Options())(predicted, true).dtype == torch.float32


def released(x: list[float], y: list[float]) -> float:
    """The released code's CCC in plain Python: covariance over n, variances over n - 1."""
    n = len(x)
    mx, my = math.fsum(x) / n, math.fsum(y) / n
    covariance = math.fsum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / n
    variances = [math.fsum((v - m) ** 2 for v in values) / (n - 1) for values, m in ((x, mx), (y, my))]
    return 2 * covariance / (sum(variances) + (mx - my) ** 2)


@pytest.mark.parametrize("n", [2, 3, 8, 100])
def test_the_released_form_is_the_released_codes(n: int) -> None:
    x, y = torch.rand(2, n, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    wanted = [released(x[:, e].tolist(), y[:, e].tolist()) for e in range(9)]
    assert released_concordance(x, y).tolist() == pytest.approx(wanted, abs=1e-12)
    loss = ShareLoss(Options(released=True))(x, y)
    assert loss.item() == pytest.approx(1 - sum(wanted) / 9, abs=1e-6)
    assert loss.item() != pytest.approx(ShareLoss(Options())(x, y).item(), abs=1e-3) or n == 100


def test_perfect_predictions_score_less_than_one_in_the_released_form() -> None:
    x = torch.rand(8, 9, dtype=torch.float64)
    torch.testing.assert_close(released_concordance(x, x), torch.full((9,), 0.875, dtype=torch.float64))


def shares(clips: int = 12, targets: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Predicted and true shares; in some clips true ones of 0 and of 1."""
    predicted, true = torch.rand(2, clips, targets, generator=torch.Generator().manual_seed(0)).unbind()
    true[:3] = torch.eye(targets)[:3]
    return predicted, true


def test_divergences_are_scipys() -> None:
    predicted, true = shares()
    kl = ShareLoss(Options(ccc=0, kl=1))(predicted, true)
    js = ShareLoss(Options(ccc=0, js=1))(predicted, true)
    p, t = predicted.double().numpy(), true.double().numpy()
    assert kl.item() == pytest.approx(entropy(t, p, axis=1).mean(), rel=1e-5)
    distance = jensenshannon(t, p, axis=1)  # its square root
    assert js.item() == pytest.approx(np.square(distance).mean(), rel=1e-5)


def test_cross_entropies_are_pytorchs_and_the_papers() -> None:
    predicted, true = shares()
    entropies = torch.nn.functional.binary_cross_entropy(predicted, true, reduction="none")
    torch.testing.assert_close(ShareLoss(Options(ccc=0, bce=1))(predicted, true), entropies.mean())
    for gamma in (0.0, 0.5, 2.0):
        focal = ((true - predicted).abs() ** gamma * entropies).mean()
        torch.testing.assert_close(ShareLoss(Options(ccc=0, focal_bce=1, gamma=gamma))(predicted, true), focal)


def test_no_term_of_a_divergence_is_negative() -> None:
    """So that weights of the targets cannot make it so."""
    predicted, true = (value / value.sum(1, keepdim=True) for value in shares(500))
    assert kl_terms(true, predicted).min() >= -1e-6
    assert js_terms(true, predicted).min() >= -1e-6
    assert js_terms(true, predicted).sum(1).max() <= np.log(2) + 1e-6


def test_a_clip_without_any_share_has_no_distribution() -> None:
    predicted, true = shares()
    for name in ("kl", "js"):
        loss = ShareLoss(Options(**{"ccc": 0, name: 1}))
        with_empty = loss(torch.cat([predicted, predicted[:2]]), torch.cat([true, torch.zeros(2, 5)]))
        torch.testing.assert_close(with_empty, loss(predicted, true))
        assert loss(predicted, torch.zeros_like(true)) == 0


@pytest.mark.parametrize("name", ["ccc", "mse", "mae", "kl", "js", "bce", "focal_bce"])
def test_weights_of_the_targets_are_relative(name: str) -> None:
    predicted, true = shares()
    options = Options(**{"ccc": 0, name: 1})
    plain = ShareLoss(options)(predicted, true)
    torch.testing.assert_close(ShareLoss(options, [3.0] * 5)(predicted, true), plain)
    alone = [ShareLoss(options, row.tolist())(predicted, true) for row in torch.eye(5)]
    torch.testing.assert_close(torch.stack(alone).mean(), plain)
    weights = [0.5, 0.0, 1.0, 2.0, 1.5]
    wanted = sum(weight * value for weight, value in zip(weights, alone, strict=True)) / 5
    torch.testing.assert_close(ShareLoss(options, weights)(predicted, true), wanted)


def test_balanced_weights_are_inverse_to_the_mean_shares() -> None:
    loss = Options(weights="balanced").make([0.1, 0.4, 0.2])
    assert loss.weights is not None
    assert (loss.weights / loss.weights[0]).tolist() == pytest.approx([1, 0.25, 0.5])
    assert loss.weights.mean() == pytest.approx(1)


@pytest.mark.parametrize(
    ("overrides", "mistake"),
    [
        (["loss=kl", "head.output=linear"], "loss.kl: needs shares from 0 to 1"),
        (["loss.weights=[1,2]"], "loss.weights=[1,2]: must be balanced, or 9 numbers of 0 or more"),
        (["loss.weights=equal"], "loss.weights=equal: must be balanced"),
        (["loss.weights=[0,0,0,0,0,0,0,0,0]"], "not all 0"),
        (["loss.weights=[-1,0,0,0,0,0,0,0,1]"], "9 numbers of 0 or more"),
        (["loss.ccc=0"], "loss: all weights are 0; set at least one of loss.ccc, loss.mse"),
        (["loss.js=-1"], "loss.js=-1: must be at least 0"),
    ],
)
def test_what_cannot_be_trained_with_is_named(overrides: list[str], mistake: str) -> None:
    found = find_mistakes(config("data=demo", "backbone=logmel", *overrides))
    assert len(found) == 1
    assert mistake in found[0]


@pytest.mark.parametrize("loss", ["kl", "js", "bce", "focal_bce"])
@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_each_is_a_loss_of_the_command(loss: str, output: str) -> None:
    made = config("data=demo", "backbone=logmel", f"loss={loss}", "loss.mae=0.5", f"head.output={output}")
    assert not find_mistakes(made)
    assert (made.loss.ccc, getattr(made.loss, loss), made.loss.mae) == (0, 1, 0.5)
