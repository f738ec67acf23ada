"""Groups and folds from the command line to the report: what runs leave, and what is added to finished ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emoshare import reporting
from emoshare.core.errors import EmoshareError
from emoshare.core.records import record_of
from emoshare.models import conformal
from emoshare.runs.groups import read_groups
from emoshare.runs.predictions import read_shares


@pytest.fixture
def demo(small: list[str]) -> list[str]:
    """Overrides of a quick run on a corpus with a table of speakers."""
    return [*small, "data.metadata=demo.csv"]


def test_folds_from_the_command_line_to_the_report(
    emoshare: Callable[..., Any], demo: list[str], tmp_path: Path
) -> None:
    sweep = ["data.folds=3", "data.fold=range(0,3)", "data.groups=[speaker,country]", "sweep.name=cv"]
    result = emoshare("train", "-m", *demo, *sweep)
    assert result.status == 0, result.err
    assert "1, 3 folds" in result.out + result.err
    assert len([path for path in (tmp_path / "cache" / "frames").iterdir() if path.is_dir()]) == 1
    folders = sorted((tmp_path / "outputs" / "cv").glob("*-fold*"))
    assert len(folders) == 3
    report = reporting.build([tmp_path / "outputs" / "cv"], resamples=50)
    (cell,) = report.study.cells
    labels = report.study.labels["devel"]
    assert len(labels.files) == len(set(labels.files)) == 38
    assert labels.cluster == "speaker"
    speakers = [set(read_groups(folder, "devel")[1]["speaker"].tolist()) for folder in folders]
    assert not speakers[0] & speakers[1] | speakers[1] & speakers[2] | speakers[0] & speakers[2]
    assert len(cell.trained_runs) == 3
    assert np.isfinite(report.score(cell, "avg").mean)


def test_results_hold_intervals_of_single_predictions(
    emoshare: Callable[..., Any], small: list[str], tmp_path: Path
) -> None:
    assert emoshare("train", *small, "intervals.level=0.8", "data.folds=2", "data.fold=0").status == 0
    (folder,) = (tmp_path / "outputs" / "default").glob("*-seed0-*")
    results = json.loads((folder / "results.json").read_text())
    found = results["intervals"]
    assert (found["level"], found["calibration"]) == (0.8, "linear")
    _, shares = read_shares(folder / "predictions" / "test.csv", results["targets"])
    _, low, high = record_of(conformal.Intervals, found).apply(shares)
    assert low.shape == high.shape == shares.shape
    _, true = read_shares(folder / "reference" / "test.csv", results["targets"])
    told = found["measured"]["test"]["coverage"]["mean"]
    assert ((low <= true + 1e-6) & (true - 1e-6 <= high)).mean() == pytest.approx(told, abs=0.02)


def test_a_finished_run_gets_the_groups_that_are_asked_for_later(
    emoshare: Callable[..., Any], demo: list[str], tmp_path: Path
) -> None:
    assert emoshare("train", *demo).status == 0
    (folder,) = (tmp_path / "outputs" / "default").glob("*-seed0-*")
    assert read_groups(folder, "devel") is None
    before = (folder / "results.json").stat().st_mtime_ns
    assert emoshare("train", *demo, "data.groups=[sex]").status == 0
    files, columns = read_groups(folder, "devel")  # type: ignore[misc]
    assert files == read_shares(folder / "predictions" / "devel.csv", ["Anger"])[0]
    assert list(columns) == ["sex"]
    assert (folder / "results.json").stat().st_mtime_ns == before
    assert not (folder / "groups" / "train.csv").exists()


def test_damaged_groups_are_written_again(emoshare: Callable[..., Any], demo: list[str], tmp_path: Path) -> None:
    assert emoshare("train", *demo, "data.groups=[sex]").status == 0
    (path,) = (tmp_path / "outputs" / "default").glob("*-seed0-*/groups/devel.csv")
    before = path.read_text()
    path.write_text(before.replace("male", "mole", 1))
    with pytest.raises(EmoshareError, match=r"devel\.csv: not readable .* delete the folder"):
        read_groups(path.parents[1], "devel")
    assert emoshare("train", *demo, "data.groups=[sex]").status == 0
    assert path.read_text() == before


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "groups").mkdir()
    for text in ("", "filename,sex\na.wav\n"):
        (tmp_path / "groups" / "devel.csv").write_text(text)
        with pytest.raises(EmoshareError, match=r"devel\.csv: not readable .* delete the folder"):
            read_groups(tmp_path, "devel")
