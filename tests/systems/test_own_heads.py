"""Heads from outside: what is told of them before anything is computed, and what an estimator's grid comes to."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPRegressor
from sklearn.svm import LinearSVR

from emoshare.command.compose import compose_one
from emoshare.core.errors import EmoshareError
from emoshare.metrics.registry import find
from emoshare.systems.estimator import choose, takes_several
from emoshare.training.grid import ALL

MODULE = """
import torch

class NotANumber(torch.nn.Linear):
    def __init__(self, width, targets):
        super().__init__(width, targets)

    def forward(self, frames, lengths):
        return super().forward(frames.mean(1)) / 0 - super().forward(frames.mean(1)) / 0
"""


def test_a_head_that_gives_no_numbers_is_refused(tmp_path, monkeypatch) -> None:
    (tmp_path / "own_nan.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    made = compose_one(["data.root=/corpus", "backbone=logmel", "head={_target_: own_nan.NotANumber}"])
    with pytest.raises(EmoshareError, match=r"own_nan\.NotANumber: its forward gives NaN"):
        made.head.check(made)


@pytest.mark.parametrize(("estimator", "several"), [(Ridge(), True), (MLPRegressor(), True), (LinearSVR(), False)])
def test_an_estimator_is_tried_on_several_targets(estimator, several: bool) -> None:
    assert takes_several(estimator) == several


def test_devel_chooses_by_direction_and_never_a_constant() -> None:
    scores = [("Joy", 0.3), (ALL, 0.1), ("", 0.2)]
    trials = [{"scores": {"mae": mae, "constant": constant}} for constant, mae in scores]
    assert choose(find("mae"), trials)["scores"]["mae"] == np.float64(0.2)
    with pytest.raises(EmoshareError, match=r"every combination of head\.grid predicts constants"):
        choose(find("mae"), trials[1:2])
