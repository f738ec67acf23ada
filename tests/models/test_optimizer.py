"""The rates of every step, against PyTorch's and transformers' own schedules."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from transformers import get_cosine_schedule_with_warmup

from emoshare.models.optimizer import make_optimizer, make_scheduler, share_of_rate
from emoshare.models.optimizers.adamw import Options

STEPS, EPOCHS = 7, 5


def optimizer(rate: float = 1.0) -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=rate)


def shares(**keys) -> list[float | None]:
    config = Options(**keys)
    return [share_of_rate(config, step, STEPS, EPOCHS) for step in range(STEPS * EPOCHS)]


def test_cosine_is_pytorchs_own() -> None:
    made = optimizer()
    reference, wanted = CosineAnnealingLR(made, STEPS * EPOCHS), []
    for _ in range(STEPS * EPOCHS):
        wanted.append(reference.get_last_lr()[0])
        made.step()
        reference.step()
    assert shares(schedule="cosine") == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("warmup", [1.0, 0.5, 1.5])
def test_cosine_after_a_warm_up_is_transformers_own(warmup: float) -> None:
    """Theirs starts at a rate of 0, ours a step later, so that the first step is not lost."""
    made, warm = optimizer(), round(warmup * STEPS)
    reference, wanted = get_cosine_schedule_with_warmup(made, warm, STEPS * EPOCHS), []
    for _ in range(STEPS * EPOCHS):
        wanted.append(reference.get_last_lr()[0])
        made.step()
        reference.step()
    found = shares(schedule="cosine", warmup=warmup)
    assert found[:warm] == pytest.approx([*wanted[1:warm], 1.0], abs=1e-9)
    assert found[warm:] == pytest.approx(wanted[warm:], abs=1e-9)


@pytest.mark.parametrize("schedule", ["plateau", "constant"])
def test_other_schedules_keep_the_rate_after_the_warm_up(schedule: str) -> None:
    assert shares(schedule=schedule) == [None] * STEPS * EPOCHS
    found = shares(schedule=schedule, warmup=1)
    assert found[:STEPS] == pytest.approx([(step + 1) / STEPS for step in range(STEPS)])
    assert set(found[STEPS:]) == {None}
    made = make_scheduler(Options(schedule=schedule), optimizer())
    assert (made is None) == (schedule == "constant")


def test_every_group_remembers_the_rate_of_the_config() -> None:
    made = make_optimizer(Options(lr=0.5), nn.Linear(2, 2), nn.Linear(2, 2), torch.device("cpu"), False)
    assert [group["initial_lr"] for group in made.param_groups] == [0.5, 1e-5]
