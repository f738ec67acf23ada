"""`logger=mlflow` and `logger=trackio`: the sweep as group, the run's name, metrics.csv's names, W&B's summary."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from types import ModuleType
from typing import Any

import pytest
from composed import config

import emoshare as package
from emoshare.core.errors import EmoshareError
from emoshare.core.validate import check
from emoshare.runs.trackers.outside import with_names

KEYS = [
    "data=compare23", "backbone=logmel", "window.seconds=1", "trainer.epochs=2", "trainer.progress=false",
    "sweep.name=some",
]  # fmt: skip
LOGGED = ("devel/avg", "train/loss", "best/devel/avg", "best/devel/avg_low", "cost/total_seconds", "best/epoch")


class Trackio(ModuleType):
    """What trackio is told."""

    def __init__(self) -> None:
        super().__init__("trackio")
        self.__spec__ = importlib.machinery.ModuleSpec("trackio", None)
        self.began: list[dict[str, Any]] = []
        self.logged: dict[str, list[tuple[int | None, float]]] = {}
        self.finished = 0

    def init(self, **options: Any) -> Trackio:
        self.began.append(options)
        return self

    def log(self, metrics: dict[str, float], step: int | None = None) -> None:
        for name, value in metrics.items():
            self.logged.setdefault(name, []).append((step, value))

    def finish(self) -> None:
        self.finished += 1


def test_trackio_gets_what_wandb_gets(corpus_root, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "trackio", told := Trackio())
    results = package.train(*KEYS, f"data.root={corpus_root}", "logger=trackio", "logger.project=mine")
    [began] = told.began
    assert (began["project"], began["group"], began["name"]) == ("mine", "some", results.run)
    assert began["config"]["window"]["seconds"] == 1
    assert began["resume"] == "allow"
    assert set(LOGGED) <= set(told.logged)
    assert [step for step, _ in told.logged["devel/avg"]] == [0, 1]
    assert told.logged["best/devel/avg"][-1][1] == results.metrics["devel"]["avg"]["mean"]
    assert told.finished == 1


def test_mlflow_gets_what_wandb_gets(corpus_root, tmp_path, monkeypatch) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.chdir(tmp_path)
    results = package.train(*KEYS, f"data.root={corpus_root}", "logger=mlflow")
    from mlflow.tracking import MlflowClient

    client = MlflowClient("sqlite:///mlflow.db")
    experiment = client.get_experiment_by_name("some")
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == results.run
    assert run.info.status == "FINISHED"
    assert set(LOGGED) <= set(run.data.metrics)
    assert run.data.tags["backbone"] == "logmel"
    assert [value.step for value in client.get_metric_history(run.info.run_id, "devel/avg")] == [0, 1]


@pytest.mark.parametrize("name", ["mlflow", "trackio"])
def test_a_preset_whose_package_is_missing_is_one_line(name, monkeypatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda word, *more: None if word == name else found(word, *more))
    made = config(f"logger={name}")
    check(made)
    with pytest.raises(EmoshareError) as error:
        made.logger.check(made)
    assert str(error.value) == f'logger={name}: it is not installed; run `pip install "emoshare[{name}]"`'


def test_names_stand_in_options_of_every_kind() -> None:
    given = {"a": "{run} of {sweep}", "b": {"c": ["{run}", 3]}, "d": None, "e": "{other}"}
    assert with_names(given, {"{run}": "r", "{sweep}": "s"}) == {
        "a": "r of s", "b": {"c": ["r", 3]}, "d": None, "e": "{other}"
    }  # fmt: skip
