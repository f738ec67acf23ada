"""A metric of the user's own, from a module on the Python path through all that a run goes through."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import emoshare
from emoshare import reporting
from emoshare.core import outside as core_outside
from emoshare.core.errors import EmoshareError
from emoshare.data.partition import Corpus, Partition
from emoshare.metrics import outside, registry
from emoshare.runs.folder import Run
from emoshare.runs.predictions import read_shares
from emoshare.runs.resolved import ResolvedRun
from emoshare.training.members import read_member, score_of

MODULE = """
import numpy as np


def kendall(true, predicted):
    signs = [np.sign(values[:, None] - values) for values in (true, predicted)]  # of each pair of clips
    both, first, second = (np.einsum("ije,ije->e", x, y) for x, y in (signs, signs[:1] * 2, signs[1:] * 2))
    return both / np.sqrt(first * second)  # tau-b, as scipy's, in a tenth of the time


kendall.label = "Kendall"
kendall.correlation = True


def worst(true, predicted):
    return np.abs(true - predicted).max(axis=0)


worst.greater_is_better = False


def furthest(true, predicted):
    return np.abs(true - predicted).sum(axis=1).max()


furthest.overall, furthest.greater_is_better = True, False


def many(true, predicted):
    return predicted[0]


many.overall = True


def clips(true, predicted):
    return predicted[:, 0]


def fails(true, predicted):
    raise ZeroDivisionError("no shares")


def fails_later(true, predicted):
    if true.shape[1] > 3:
        missing = {}
        return missing["later"]
    return true.mean(axis=0)


number = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The module `own_kinds` on the Python path; what earlier tests have loaded is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_outside", {})
    outside.source_hash.cache_clear()
    sys.modules.pop("own_kinds", None)
    path = tmp_path / "own_kinds.py"
    path.write_text(MODULE)
    return path


KEYS = (
    "data=demo", "data.clips=60", "backbone=logmel", "window.seconds=1", "logger=none", "trainer.progress=false",
)  # fmt: skip
MLP = (*KEYS, "trainer.epochs=3", "trainer.precision=32-true")
ASKED = "metrics=[scc,ccc,mae,own_kinds.kendall,own_kinds.worst]"


def folder_of(results: emoshare.Results) -> Path:
    return Path("outputs") / results.sweep / results.run


def shares_of(folder: Path, part: str, targets: list[str]) -> tuple[np.ndarray, np.ndarray]:
    return tuple(read_shares(folder / kind / f"{part}.csv", targets)[1] for kind in ("reference", "predictions"))  # type: ignore[return-value]


def columns(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_through_training_report_evaluation_and_selection(own: Path) -> None:
    few = "data.targets=[Anger,Boredom,Calmness]"  # as 1,000 resamples of a slow metric take long
    keys = (*MLP, few, ASKED, "train.select=own_kinds.worst", "train.patience=3")
    results = emoshare.train(*keys)
    folder = folder_of(results)
    assert list(results.metrics["devel"]) == ["scc", "ccc", "avg", "mae", "own_kinds.kendall", "own_kinds.worst"]
    true, predicted = shares_of(folder, "devel", results.targets)
    wanted = [stats.kendalltau(true[:, e], predicted[:, e]).statistic for e in range(3)]
    assert results.score("devel", "own_kinds.kendall") == pytest.approx(np.mean(wanted), abs=1e-6)
    assert results.own_metrics["own_kinds.worst"].greater_is_better is False

    history = columns(folder / "metrics.csv")
    errors = [float(epoch["devel/own_kinds.worst"]) for epoch in history]
    assert results.best.epoch == int(np.argmin(errors))  # lower is better
    assert results.score("devel", "own_kinds.worst") == pytest.approx(min(errors), abs=1e-5)
    assert f"emotions/own_kinds.kendall/{results.targets[0]}" in history[0]

    page = emoshare.report("outputs/default", allow=["own_kinds"]).page
    (row,) = columns(page.parent / "tables" / "backbones.csv")
    low, mean, high = (float(row[f"own_kinds.worst_{name}"]) for name in ("low", "mean", "high"))
    assert low - 1e-7 <= mean <= high + 1e-7  # resampled scores are kept in float32
    assert "Kendall" in (page.parent / "report.md").read_text()
    found = emoshare.evaluate(
        folder, "data=demo", "data.clips=60", "data.seed=1", "data.root=other", allow=["own_kinds"]
    )
    assert found.metrics["devel"]["own_kinds.worst"]["mean"] > 0
    assert len(found.intervals["devel"]["own_kinds.kendall"]["mean"]) == 2

    own.write_text(MODULE.replace(".max(axis=0)", ".max(axis=0) * 1.0"))  # selected by another source: another run
    outside.source_hash.cache_clear()
    assert ResolvedRun(emoshare.compose(*keys)).run.folder != folder


def test_a_finished_run_is_scored_again_and_not_trained(own: Path) -> None:
    keys = (*KEYS, "head=svr", "head.grid=[0.1]")
    first = emoshare.train(*keys)
    assert list(first.metrics["devel"]) == ["scc", "ccc", "avg"]
    again = emoshare.train(*keys, ASKED)
    assert again.finished == first.finished
    assert again.run == first.run
    true, predicted = shares_of(folder_of(first), "test", first.targets)
    assert again.score("test", "mae") == pytest.approx(np.abs(true - predicted).mean(), abs=1e-6)
    assert {name: again.metrics["devel"][name] for name in ("scc", "ccc", "avg")} == first.metrics["devel"]
    assert Run(folder_of(first)).results() == again


def test_a_report_has_no_score_of_a_source_beside_the_interval_of_another(own: Path) -> None:
    before = emoshare.train(*KEYS, "head=svr", "head.grid=[0.1]", ASKED)
    own.write_text(MODULE.replace(".max(axis=0)", ".max(axis=0) + 1"))
    outside.source_hash.cache_clear()
    registry._outside.clear()
    sys.modules.pop("own_kinds")
    report = reporting.build([Path("outputs/default")], resamples=20)
    found = report.score(report.best, "own_kinds.worst")
    assert found.mean == pytest.approx(before.score("devel", "own_kinds.worst") + 1)
    assert found.low > 1
    member = read_member(Run(folder_of(before).resolve()))
    true = report.study.labels["devel"].shares
    known = {"devel": Partition("devel", member.files["devel"], true, np.zeros(len(true)), 0)}
    corpus = Corpus("demo", Path(), Path(), tuple(before.targets), known, "", ())
    assert score_of(member, corpus, "devel", registry.find("own_kinds.worst")) == pytest.approx(found.mean)


def test_nothing_is_imported_that_is_not_allowed(own: Path) -> None:
    results = emoshare.train(*KEYS, "head=svr", "head.grid=[0.001]", ASKED)
    registry._outside.clear()
    core_outside._ALLOWED.clear()
    sys.modules.pop("own_kinds")
    report = reporting.build([Path("outputs/default")], resamples=20)
    assert "own_kinds" not in sys.modules
    found = report.score(report.best, "own_kinds.kendall")
    assert found.mean == pytest.approx(results.score("devel", "own_kinds.kendall"))
    assert np.isnan(found.low)
    assert [metric.label for metric in report.metrics][-2:] == ["Kendall", "worst"]
    assert not report.metrics[-1].greater_is_better


def test_one_number_for_all_targets(own: Path) -> None:
    results = emoshare.train(
        *KEYS, "head=svr", "head.grid=[0.001]", "metrics=[scc,own_kinds.furthest]", "head.select=scc"
    )
    true, predicted = shares_of(folder_of(results), "devel", results.targets)
    wanted = np.abs(true - predicted).sum(axis=1).max()
    assert results.metrics["devel"]["own_kinds.furthest"] == {"mean": pytest.approx(wanted, abs=1e-5)}
    registry._outside.clear()
    core_outside._ALLOWED.clear()
    assert results.metric("own_kinds.furthest").overall


def test_reports_rank_by_a_metric_whose_lower_values_are_better(own: Path) -> None:
    keys = (*KEYS, "metrics=[own_kinds.worst]", "head=svr", "head.select=own_kinds.worst")
    found = [emoshare.train(*keys, f"head.grid=[{C}]") for C in (1e-5, 0.1)]
    scores = [results.score("devel", "own_kinds.worst") for results in found]
    assert list(found[0].metrics["devel"]) == ["own_kinds.worst"]
    report = reporting.build([Path("outputs/default")], resamples=50)
    assert report.score(report.best, "own_kinds.worst").mean == pytest.approx(min(scores))
    page = json.loads((reporting.save(report, Path("page")).page.parent / "summary.json").read_text())
    assert page["best/metric"] == "own_kinds.worst"
    fused = emoshare.fuse(*map(folder_of, found), out="fused", weights="greedy", allow=["own_kinds"])
    assert fused.best.member == found[int(np.argmin(scores))].run


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("metrics=[scc,sccc]", r"metrics=\[scc,sccc\]: sccc must be one of scc, ccc, .*did you mean 'scc'"),
        ("metrics=[]", r"metrics=\[\]: must name at least one of scc"),
        ("metrics=[scc,ccc,gone_kinds.kendall]", r"gone_kinds.kendall: no module gone_kinds on the Python path"),
        ("metrics=[scc,ccc,own_kinds.gone]", r"own_kinds.gone: nothing of that name in .*own_kinds.py"),
        ("metrics=[scc,ccc,own_kinds.number]", r"own_kinds.number: no class or function in .*own_kinds.py"),
        ("metrics=[scc,ccc,own_kinds.clips]", r"own_kinds.clips: returns the shape \(12,\) for shares \(12, 3\)"),
        (
            "metrics=[scc,ccc,own_kinds.fails]",
            r"ZeroDivisionError: no shares \(File .*own_kinds.py., line \d+",
        ),
        (
            "metrics=[scc,ccc,own_kinds.many]",
            r"own_kinds.many: returns the shape \(3,\) .* must be one number, as it is ove",
        ),
        ("metrics=[mae]", r"train.select=avg: is the mean of scc and ccc, .*; add train.select=mae, or name both"),
        ("train.select=ac", r"train.select=ac: ac must be one of scc"),
    ],
)
def test_what_no_metric_is_is_told_in_one_line_before_anything_runs(own: Path, key: str, message: str) -> None:
    with pytest.raises(EmoshareError, match=message) as caught:
        emoshare.compose(*MLP, key)
    assert len(str(caught.value).splitlines()) == 1


def test_a_crash_later_shows_the_users_own_lines(own: Path) -> None:
    with pytest.raises(EmoshareError, match=r"^own_kinds.fails_later: KeyError: 'later'") as caught:
        emoshare.train(*KEYS, "head=svr", "head.grid=[0.001]", "metrics=[scc,ccc,own_kinds.fails_later]")
    text = str(caught.value)
    assert 'return missing["later"]' in text
    assert "emoshare/metrics" not in text
