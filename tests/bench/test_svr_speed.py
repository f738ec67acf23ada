"""`emoshare bench svr`: both solve the same problems, and the last line says how they compare."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from emoshare.bench.svr_speed import random_clips

SIZE = ["svr", "bench.corpus=60", "bench.features=8", "head.grid=[0.01,0.001]", "data=demo"]


def test_the_last_line_compares(emoshare: Callable[..., Any]) -> None:
    outcome = emoshare("bench", *SIZE)
    assert outcome.status == 0
    lines = outcome[1].splitlines()
    assert re.fullmatch(r"grid: \d+\.\d × scikit-learn, gap \d\.\de-\d\d", lines[-1])
    assert float(lines[-1].split()[-1]) <= 1e-4
    above = re.fullmatch(r"objectives: ours at most (\S+) above scikit-learn's and \S+ below, relative", lines[-2])
    assert above
    assert float(above[1]) <= 1e-4


def test_scikit_learn_can_be_left_out(emoshare: Callable[..., Any]) -> None:
    outcome = emoshare("bench", *SIZE, "bench.reference=false")
    assert re.fullmatch(r"grid: \d+\.\d s, gap \d\.\de-\d\d", outcome[1].splitlines()[-1])


def test_the_features_are_correlated_and_say_something() -> None:
    made = random_clips(3000, 40, 2)
    related = np.abs(np.corrcoef(made.features.T) - np.eye(40))
    assert related.max() > 0.3
    assert 0 <= made.shares.min() < made.shares.max() <= 1
    assert max(abs(np.corrcoef(column, made.shares[:, 0])[0, 1]) for column in made.features.T) > 0.2
