"""Progress: what a bar and a log file hear of a long loop, and the words of a duration."""

import itertools
import logging
from types import SimpleNamespace

import pytest

from emoshare.core import progress
from emoshare.core.progress import Meter, duration


@pytest.fixture
def clock(monkeypatch):
    """A clock that every look at moves on by 0.1 seconds."""
    ticks = itertools.count(0, 0.1)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(ticks)))  # other threads keep theirs


def test_a_meter_tells_a_log_every_tenth_and_a_bar_four_times_a_second(clock, caplog):
    caplog.set_level(progress.BAR, "emoshare")
    meter = Meter(logging.getLogger("emoshare"), "frames")
    for done in range(1, 1001):
        meter.report(f"{done}/1000", done / 1000)
    lines = [record for record in caplog.records if record.levelno == logging.DEBUG]
    assert [line.step.done for line in lines] == [tenth / 10 for tenth in range(1, 11)]
    assert lines[4].step.text == "frames · 500/1000 · 50 s left"
    assert lines[-1].step.text == "frames · 1000/1000"
    assert 300 <= len(caplog.records) <= 350  # in 100 seconds, at every third look


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (59, "59 s"), (61, "1 min"), (3599, "1 h 00"), (4200, "1 h 10"), (183_600, "2 d 3 h")],
)
def test_durations_are_as_exact_as_somebody_who_waits_needs_them(seconds, words):
    assert duration(seconds) == words
