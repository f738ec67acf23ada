"""Metrics of distributions and of sets of emotions against scipy and scikit-learn, and through a run."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial import distance
from scipy.special import rel_entr
from sklearn.metrics import accuracy_score, f1_score

import emoshare
from emoshare.metrics import bootstrap
from emoshare.metrics.distribution import FLOOR
from emoshare.metrics.metric import Metric, score_table
from emoshare.metrics.registry import OURS

OVERALL = ("jsd", "kld", "cosine", "micro_f1", "top1")
SOFT = (*OVERALL, "macro_f1")
VOTES = arrays(np.int64, st.tuples(st.integers(1, 12), st.integers(2, 6)), elements=st.integers(0, 7))


def scores(true: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    table = score_table([OURS[name] for name in SOFT], true, predicted, [f"t{e}" for e in range(true.shape[1])])
    return {name: values["mean"] for name, values in table.items()}


def labels(clips: int, targets: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Shares of five votes, and predictions on no particular scale."""
    rng = np.random.default_rng(seed)
    votes = rng.multinomial(5, rng.dirichlet(np.ones(targets)), clips)
    return votes / 5, rng.random((clips, targets)).round(2) + 0.01


def test_each_is_scipys_or_scikit_learns() -> None:
    true, predicted = labels(200, 5)
    p = predicted / predicted.sum(axis=1, keepdims=True)
    found = scores(true, predicted)
    assert found["jsd"] == pytest.approx(np.mean(distance.jensenshannon(true, p, axis=1) ** 2), abs=1e-12)
    assert found["kld"] == pytest.approx(rel_entr(true, p).sum(axis=1).mean(), abs=1e-12)
    assert found["cosine"] == pytest.approx(np.mean([1 - distance.cosine(*pair) for pair in zip(true, p, strict=True)]))
    sets = np.rint(true * 5) > 1, p > 1 / 5  # more than one vote of five is more than a fifth
    for average in ("macro", "micro"):
        assert found[f"{average}_f1"] == pytest.approx(f1_score(*sets, average=average, zero_division=np.nan))
    alone = (np.sort(true, axis=1)[:, -1] - np.sort(true, axis=1)[:, -2]) > 0.1
    assert 0 < alone.sum() < 200
    assert found["top1"] == pytest.approx(accuracy_score(true[alone].argmax(axis=1), p[alone].argmax(axis=1)))


@given(VOTES, st.data())
def test_ranges_proportions_and_perfect_predictions(votes: np.ndarray, data: st.DataObject) -> None:
    true = votes.astype(np.float64)
    predicted = data.draw(arrays(np.float64, true.shape, elements=st.floats(-0.5, 2)))
    known, shares = true.sum(axis=1) > 0, true[true.sum(axis=1) > 0]
    found = scores(true, predicted)
    single = scores(true / np.maximum(true.sum(axis=1, keepdims=True), 1), predicted)
    assert found == pytest.approx(single, abs=1e-9, nan_ok=True)  # counts of votes or shares of them
    if not known.any():
        assert np.isnan([found[name] for name in ("jsd", "kld", "cosine", "top1")]).all()
        return
    assert scores(shares, predicted[known])["jsd"] == pytest.approx(found["jsd"])  # clips without votes do not count
    assert found["jsd"] + 1e-12 >= 0
    assert found["jsd"] <= np.log(2) + 1e-12
    assert -1e-12 <= found["kld"] <= -np.log(FLOOR) + 3
    assert -1e-12 <= found["cosine"] <= 1 + 1e-12
    perfect = scores(true, true)
    assert perfect["jsd"] == pytest.approx(0, abs=1e-6)
    assert perfect["kld"] == pytest.approx(0, abs=1e-5)
    assert perfect["cosine"] == pytest.approx(1)
    for name in ("macro_f1", "micro_f1", "top1"):
        assert perfect[name] == 1 or np.isnan(perfect[name])


@pytest.mark.parametrize("smallest", [1e-300, 8.56e-161, 1e-30, 1.0])
def test_the_cosine_is_of_proportions_however_small_the_shares(smallest: float) -> None:
    predicted = smallest * np.array([[0.0, 1.0, 1.0]])
    for true in (np.array([[1, 1, 1]]), smallest * np.ones((1, 3))):
        assert OURS["cosine"].score(true, predicted) == pytest.approx(np.sqrt(2 / 3))


@pytest.mark.parametrize("targets", [2, 3, 5, 7, 9])
def test_a_share_of_exactly_1_of_k_is_not_above_it_in_single_precision(targets: int) -> None:
    true = np.full((4, targets), 1 / targets, np.float32)
    predicted = np.eye(targets)[[0, 0, 0, 0]]
    assert OURS["macro_f1"].score(true, predicted)[0] == 0  # predicted in the set of every clip, in that of none
    assert np.isnan(OURS["macro_f1"].score(true, true)).all()
    assert np.isnan(OURS["top1"].score(true, predicted)).all()  # nor is it a majority


@pytest.mark.parametrize("name", SOFT)
def test_the_resampled_form_is_the_function_on_the_clips_of_each_resample(name: str) -> None:
    metric = OURS[name]
    true, predicted = labels(30, 3)
    true[3], true[4:9] = 0, [0.5, 0.5, 0]
    fast = bootstrap.replicates(true, [predicted, predicted**2], 60, clusters=None, metrics=[metric])[name]
    counts = bootstrap.draw(30, range(60), seed=0)
    for b in range(60):
        clips = np.repeat(np.arange(30), counts[:, b].astype(int))
        np.testing.assert_allclose(fast[0, :, b], metric.score(true[clips], predicted[clips]), atol=1e-12)
    slow = Metric(name, "", metric.function, overall=metric.overall)
    found = bootstrap.replicates(true, [predicted, predicted**2], 60, clusters=None, metrics=[slow])[name]
    np.testing.assert_allclose(found, fast, atol=1e-12)


def test_what_is_of_all_targets_stands_in_tables_as_the_mean_alone() -> None:
    true, predicted = labels(50, 3)
    table = score_table([OURS[name] for name in SOFT], true, predicted, "abc")
    assert {name for name in SOFT if set(table[name]) == {"mean"}} == set(OVERALL)
    assert set(table["macro_f1"]) == {"mean", *"abc"}


def test_through_training_selection_report_fusion_and_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    keys = ("data=demo", "data.clips=60", "backbone=logmel", "window.seconds=1", "logger=none")
    asked = f"metrics=[{','.join(SOFT)}]"
    learned = ("trainer.epochs=3", "trainer.precision=32-true", "trainer.progress=false", "head.output=softmax")
    mlp = emoshare.train(*keys, *learned, asked, "train.select=jsd", "loss=kl")
    svr = emoshare.train(*keys, asked, "head=svr", "head.select=top1", "head.grid=[0.01]")
    folders = [Path("outputs") / found.sweep / found.run for found in (mlp, svr)]
    with (folders[0] / "metrics.csv").open() as file:
        history = list(csv.DictReader(file))
    errors = [float(epoch["devel/jsd"]) for epoch in history]
    assert mlp.best.epoch == int(np.argmin(errors))
    assert not [name for name in history[0] if name.startswith("emotions/jsd")]
    assert mlp.score("devel", "jsd") == pytest.approx(min(errors), abs=1e-5)

    page = emoshare.report("outputs/default").page
    told = json.loads((page.parent / "summary.json").read_text())
    assert told["best/metric"] == "jsd"
    with (page.parent / "tables" / "cells.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for name in SOFT:
            assert float(row[f"{name}_low"]) - 1e-6 <= float(row[f"{name}_mean"]) <= float(row[f"{name}_high"]) + 1e-6
    with (page.parent / "tables" / "emotions.csv").open() as file:
        (header, *_) = csv.reader(file)
    assert [name for name in header if name.endswith("mean")] == ["devel_macro_f1_mean", "test_macro_f1_mean"]

    fused = emoshare.fuse(*folders, out="fused", weights="greedy")
    assert fused.score("devel", "jsd") <= max(found.score("devel", "jsd") for found in (mlp, svr))
    found = emoshare.evaluate(folders[0], "data=demo", "data.clips=60", "data.seed=1", "data.root=other")
    assert set(found.metrics["devel"]["jsd"]) == set(found.intervals["devel"]["jsd"]) == {"mean"}
    low, high = found.intervals["devel"]["jsd"]["mean"]
    assert low <= found.metrics["devel"]["jsd"]["mean"] <= high
