"""What the bar of a run says: its place, epoch, scores, and the time that it and its sweep still take."""

from types import SimpleNamespace
from typing import Any

import pytest
from composed import config

from emoshare.runs.resolved import ResolvedRun
from emoshare.runs.sweep import Place
from emoshare.training import progress
from emoshare.training.progress import ProgressReport, label

KEYS = ("backbone=hubert_large", "window.seconds=5.5", "seed=1", "trainer.epochs=30")


@pytest.fixture
def told(monkeypatch) -> list[tuple[str, float]]:
    """What was reported: texts, and how much is done. An epoch takes 10 seconds."""
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    reports: list[tuple[str, float]] = []
    monkeypatch.setattr(progress, "report", lambda log, text, done, level: reports.append((text, done)))
    return reports


def follow(place: Place | None, scores: list[float], first: int = 0) -> None:
    """Let a run of 30 epochs go through some, from `first` on."""
    callback, module = ProgressReport(ResolvedRun(config(*KEYS)), place), Any
    trainer: Any = SimpleNamespace(current_epoch=first, callback_metrics={})
    callback.on_train_start(trainer, module)
    for epoch, score in enumerate(scores, first):
        trainer.current_epoch, trainer.callback_metrics = epoch, {"devel/avg": score}
        callback.on_train_epoch_end(trainer, module)


def test_a_run_of_a_sweep_tells_its_place_and_what_is_left(told) -> None:
    follow(Place(7, 30, later=23, mean_seconds=180), [0.43, *[0.41] * 11])
    text, done = told[-1]
    assert text == (
        "run 7 of 30  hubert_large 5.5 s seed 1 · epoch 12/30 · devel Avg .41 (best .43) · 3 min left, "
        "sweep 1 h 12 left"  # 18 epochs of 10 s and 23 runs of 3 min
    )
    assert done == 12 / 30


def test_before_a_first_run_is_done_the_sweep_is_estimated_from_the_epochs(told) -> None:
    follow(Place(1, 3, later=2, mean_seconds=None), [0.1])
    assert told[0][0].endswith(" · 5 min left, sweep 15 min left")


def test_a_run_alone_has_no_number_and_at_its_end_nothing_left(told) -> None:
    follow(None, [0.1, -0.02], first=28)
    assert told[-1] == ("hubert_large 5.5 s seed 1 · epoch 30/30 · devel Avg -.02 (best .10)", 1)


def test_long_epochs_tell_how_far_they_are(told) -> None:
    """The clock goes on by 10 s at every look."""
    callback, module = ProgressReport(ResolvedRun(config(*KEYS)), None), Any
    trainer: Any = SimpleNamespace(current_epoch=0, num_training_batches=20, callback_metrics={})
    callback.on_train_start(trainer, module)
    for batch in range(5):
        callback.on_train_batch_end(trainer, module, None, None, batch)
    assert told[-1] == (
        "hubert_large 5.5 s seed 1 · epoch 1/30, 25% of it · 1 h 39 left",
        0.25 / 30,
    )  # 50 s for a quarter of one


def test_training_again_has_no_scores(told) -> None:
    callback = ProgressReport(ResolvedRun(config(*KEYS)), None, 4)
    trainer: Any = SimpleNamespace(current_epoch=0, callback_metrics={})
    callback.on_train_start(trainer, Any)
    callback.on_train_epoch_end(trainer, Any)
    assert told[-1] == ("hubert_large 5.5 s seed 1 · train + devel · epoch 1/4 · 30 s left", 1 / 4)


def test_another_head_is_named() -> None:
    assert label(ResolvedRun(config(*KEYS, "head=svr")), None) == "hubert_large svr 5.5 s", "no seed counts"


def test_a_fold_is_named() -> None:
    assert label(ResolvedRun(config(*KEYS, "data.folds=3", "data.fold=0")), None) == "hubert_large 5.5 s seed 1 fold 0"
