"""The group `debug`: quick looks at whether things work, away from real runs; and `limit`, which they use."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from composed import config

from emoshare.command.compose import compose_one
from emoshare.core.errors import EmoshareError
from emoshare.data.corpus import load
from emoshare.runs.subset import take_clips


@pytest.fixture
def base(small: list[str]) -> list[str]:
    """`small` without what a debug run decides on."""
    return [line for line in small if not line.startswith(("trainer.epochs", "logger"))]


def only_result(sweep: Path) -> dict[str, Any]:
    (path,) = sweep.glob("*/results.json")
    return json.loads(path.read_text())


def test_overfit_learns_one_batch_by_heart_and_says_so(emoshare, base, tmp_path) -> None:
    result = emoshare("train", *base, "debug=overfit")
    assert result.status == 0
    first, last = map(float, re.findall(r"training loss ([\d.]+) in epoch 1, ([\d.]+) in epoch 200", result.out)[0])
    assert first > 0.5
    assert last < 0.02
    results = only_result(tmp_path / "outputs/debug_overfit")
    assert results["corpus"]["clips"] == {"train": 8, "devel": 8, "test": 8}
    best = config("experiment=best", "debug=overfit").train
    assert (best.average, best.refit) == (1, False)
    assert config("experiment=finetune", "debug=overfit").window.crop == "start"


def test_a_fast_dev_run_is_one_batch_and_one_epoch_and_runs_in_every_call(emoshare, base, tmp_path) -> None:
    for _ in range(2):
        result = emoshare("train", *base, "debug=fdr", "data.batch_size=6")
        assert result.status == 0
        assert "in epoch 1 of 1" in result.out  # it is no finished run that is skipped
    results = only_result(tmp_path / "outputs/debug_fdr")
    assert results["corpus"]["clips"] == {"train": 6, "devel": 6, "test": 6}
    assert results["config"]["logger"]["name"] == "none"


def test_a_head_without_epochs_takes_a_fast_dev_run_but_no_number_of_epochs(emoshare, base, tmp_path) -> None:
    result = emoshare("train", *base, "debug=fdr", "head=svr")
    assert result.status == 0
    assert only_result(tmp_path / "outputs/debug_fdr")["corpus"]["clips"]["train"] == 8
    result = emoshare("train", *base, "debug=fdr", "head=svr", "trainer.epochs=1")
    assert "trainer.epochs=1: is read by heads that are trained in epochs" in result.err
    assert "debug" not in emoshare("train", *base, "debug=overfit", "head=svr").out


def test_a_sweep_of_a_fast_dev_run_keeps_out_of_the_real_ones_folder(emoshare, base, tmp_path) -> None:
    result = emoshare("train", "-m", *base, "debug=fdr", "seed=0,1")
    assert result.status == 0
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["debug_fdr"]
    made = config("experiment=best", "debug=fdr")
    assert (made.sweep.name, made.train.average, made.trainer.epochs, made.logger.name) == ("debug_fdr", 1, 1, "none")
    assert config("debug=fdr", "trainer.epochs=2").trainer.epochs == 2  # the command line has the last word


def test_limit_and_default_are_short_runs() -> None:
    limit, default = config("debug=limit"), config("debug=default")
    assert (limit.limit, limit.trainer.epochs, limit.sweep.name) == (100, 3, "debug_limit")
    assert (default.limit, default.trainer.epochs, default.sweep.name) == (None, 1, "debug")
    assert (default.trainer.accelerator, default.sweep.parallel) == ("cpu", "1")


def test_the_profiler_prints_where_the_time_goes(emoshare, base, tmp_path) -> None:
    result = emoshare("train", *base, "debug=profiler")
    assert result.status == 0
    table = result.out[result.out.index("time of training and prediction") :].splitlines()
    assert "calls" in table[1]
    assert any(row.startswith("run_training_epoch ") and "%" in row for row in table)
    assert max(map(len, table[1:])) <= 80
    (log,) = tmp_path.glob("outputs/debug_profiler/*/run.log")
    assert "FIT Profiler Report" in log.read_text()


def test_help_says_what_each_is_for(emoshare) -> None:
    page = emoshare("train", "--help").out
    assert "debug=overfit     One batch for 200 epochs" in page


@pytest.mark.parametrize("folds", [[], ["data.folds=3", "data.fold=1"]])
def test_limited_clips_keep_their_labels_groups_and_sound(corpus_root: Path, tmp_path: Path, folds: list[str]) -> None:
    made = compose_one(["data=demo", f"data.root={corpus_root}", "data.clips=48", "backbone=logmel", *folds])
    whole = load(made.data, tmp_path)
    few = take_clips(whole, 5)
    assert few.fingerprint != whole.fingerprint
    for name, part in few.partitions.items():
        full = whole.partitions[name]
        places = [full.files.index(file) for file in part.files]
        assert (places[0], places[-1], len(places)) == (0, len(full.files) - 1, 5)
        np.testing.assert_array_equal(part.shares, full.shares[places])
        np.testing.assert_array_equal(part.seconds, full.seconds[places])
        assert [few.digests[row] for row in part.rows] == [whole.digests[full.rows[place]] for place in places]
        assert few.groups_of(name)["speaker"].tolist() == whole.groups_of(name)["speaker"][places].tolist()
    assert len(few.files) == len(few.digests) == 15
    assert take_clips(whole, None) is whole


def test_clips_with_equal_labels_are_too_few(corpus_root: Path, tmp_path: Path) -> None:
    made = compose_one(["data=demo", f"data.root={corpus_root}", "data.clips=48", "backbone=logmel"])
    whole = load(made.data, tmp_path)
    whole.partitions["devel"].shares[[0, -1]] = 0.5
    with pytest.raises(EmoshareError, match="limit=2: all labels of the 2 clips of devel are equal; take more"):
        take_clips(whole, 2)
