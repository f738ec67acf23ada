"""run.log holds what a run and its libraries said, and why it failed; the terminal is spared."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from emoshare.runs.folder import lock
from emoshare.runs.log import progress_of, run_log


def only(folder: Path) -> Path:
    [run] = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return run


def test_a_run_keeps_its_details_in_its_log_alone(emoshare, small, tmp_path) -> None:
    result = emoshare("train", *small)
    assert result.status == 0, result.err
    log = (only(tmp_path / "outputs/default") / "run.log").read_text()
    for words in ("epoch 1/2", "epoch 2/2", "pytorch_lightning", "extracting: "):
        assert words in log
    for words in ("epoch 1/2", "GPU available", "Trainer", "LightningModule"):
        assert words not in result.out + result.err


def test_status_says_where_a_running_run_stands(emoshare, small, tmp_path) -> None:
    assert emoshare("train", *small).status == 0
    run = only(tmp_path / "outputs/default")
    (run / "results.json").unlink()
    with lock(run):
        found = emoshare("status", "outputs/default")
    assert re.search(rf"^running: {run.name}  epoch 2/2 · devel Avg .* \(\d+ s ago\)$", found.out, re.M)
    with (run / "run.log").open("a", encoding="utf-8") as file:
        file.write("2026-01-01 00:00:00,000 DEBUG emoshare.store.extract: x · extracting: 3/9 clips, 0.1 h\n")
        file.write("2026-01-01 00:00:00,000 INFO emoshare: something else · epoch 7/9\n")
    assert progress_of(run / "run.log").startswith("extracting: 3/9 clips, 0.1 h (")
    assert progress_of(run / "none.log") == ""


def test_a_failed_run_says_why_in_its_log(emoshare, small, tmp_path) -> None:
    result = emoshare("train", *small, "optimizer.lr=1e30")
    assert result.status == 1
    log = (only(tmp_path / "outputs/default") / "run.log").read_text()
    assert "Traceback" in log
    assert "Traceback" not in result.out + result.err
    assert result.err.strip().removeprefix("emoshare: ") in log


def test_the_log_of_a_program_that_calls_us_is_spared(tmp_path, caplog, monkeypatch) -> None:
    log = logging.getLogger("emoshare")
    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(log, "propagate", True)
    monkeypatch.setattr(log, "level", logging.NOTSET)
    caplog.set_level(logging.INFO)  # of the root, as logging.basicConfig does
    with run_log(tmp_path / "run.log"):
        log.debug("a detail")
        log.info("a line")
    assert [record.message for record in caplog.records] == ["a line"]
    assert "a detail" in (tmp_path / "run.log").read_text()
    assert log.propagate
    assert not log.handlers


def test_details_are_printed_when_they_are_asked_for(emoshare, small) -> None:
    result = emoshare("-v", "train", *small)
    assert result.status == 0, result.err
    assert "epoch 1/2" in result.out
