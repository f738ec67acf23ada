"""`emoshare bench report`: most runs are copies, whose kept scores hold, so that the report resamples none of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from emoshare.bench.report_speed import MADE
from emoshare.metrics import bootstrap


def test_the_last_line_compares_and_copies_are_not_resampled(
    emoshare: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, replicates = [], bootstrap.replicates

    def count(true: Any, predicted: list[Any], *args: Any, **options: Any) -> Any:
        if options.get("rows") is None:  # not those of a part of the clips, which the best run alone has
            drawn.append(len(predicted))
        return replicates(true, predicted, *args, **options)

    monkeypatch.setattr(bootstrap, "replicates", count)
    outcome = emoshare("bench", "report", "bench.runs=18", "bench.corpus=300", "data=demo")
    assert outcome.status == 0
    assert re.fullmatch(r"report: 18 runs \d+\.\d s, \d+\.\d × without kept scores", outcome[1].splitlines()[-1])
    assert sum(drawn) == 2 * MADE  # devel and test
