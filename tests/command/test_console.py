"""What is printed where: progress without a terminal, and what an encoding has no character for."""

from __future__ import annotations

import io
import itertools
import logging
import os
import subprocess
import sys

import pytest

from emoshare.command import cli, console
from emoshare.command.console import LineHandler
from emoshare.core.progress import report

log = logging.getLogger("emoshare")


def handled(monkeypatch: pytest.MonkeyPatch, progress: bool, seconds: list[float]) -> list[float]:
    """When a report of progress was printed, of one at each of these times; a line stands at the start."""
    now = 0.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    handler = LineHandler(progress)
    monkeypatch.setattr(log, "handlers", [handler])
    monkeypatch.setattr(log, "propagate", False)
    log.setLevel(logging.DEBUG)
    printed: list[float] = []
    monkeypatch.setattr(handler, "_print", lambda line: (printed.append(now), setattr(handler, "printed", now)))
    for now in seconds:
        report(log, "epoch 1/3", now / seconds[-1])
    return printed


def test_without_a_terminal_progress_is_a_line_a_minute_and_fewer_in_a_long_command(monkeypatch) -> None:
    every_second = [float(second) for second in range(1, 24 * 3600)]
    printed = handled(monkeypatch, True, every_second)
    assert printed[:3] == [60, 120, 180]
    gaps = [later - earlier for earlier, later in itertools.pairwise(printed)]
    assert max(gaps) <= 600
    assert len(printed) < 300  # in a day
    assert handled(monkeypatch, False, every_second) == []


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "cp932", "cp1252", "latin-1", "utf-8"])
def test_what_an_encoding_lacks_is_spelled_otherwise(monkeypatch, tmp_path, encoding) -> None:
    """In every verb, and in what is logged; a name of no valid characters, too."""
    monkeypatch.setattr(sys, "stdout", out := io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    monkeypatch.setattr(sys, "stderr", err := io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    assert cli.main(["train", "--help"]) == 0
    assert cli.main(["status", str(tmp_path / "größe \udcff →")]) == 1
    handler = LineHandler(progress=False)
    handler.emit(logging.LogRecord("emoshare", logging.INFO, "", 0, "Avg 0.5 ± 0.1 – \U0001f600", None, None))
    for stream in (out, err):
        stream.flush()
    printed, errors = (stream.buffer.getvalue().decode(encoding) for stream in (out, err))
    assert "group=option" in printed or "data.batch_size=8" in printed
    assert "Avg 0.5 ± 0.1 " in printed or "Avg 0.5 +- 0.1 " in printed
    assert errors.startswith("emoshare: ")
    assert "\\udcff" in errors


def test_a_run_goes_on_where_nobody_reads_of_it(monkeypatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        handler = LineHandler(progress=False)
        for _ in range(2):
            handler.emit(logging.LogRecord("emoshare", logging.INFO, "", 0, "a line", None, None))
        assert print("a table", flush=True) is None  # it goes nowhere, and raises nothing


@pytest.mark.parametrize("words", [["train", "--help"], ["cache"], ["--version"]])
def test_a_pipe_that_nobody_reads_is_no_error(tmp_path, words) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", "emoshare", *words], cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, b"")


LINE = "run 2 of 30  hubert_large 5.5 s seed 1 head.hidden=512 optimizer.lr=0.001 loss=kl + 0.5 ccc"
SCORE = " · devel Avg 0.5123 in epoch 7 · test SCC 0.5000 · 12 s"


def test_a_runs_line_is_cut_in_its_name_on_a_terminal_alone(monkeypatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(console.shutil, "get_terminal_size", lambda: os.terminal_size((80, 24)))
    handler = LineHandler(progress=False)
    record = logging.LogRecord("emoshare", logging.INFO, "", 0, LINE + SCORE, None, None)
    handler.emit(record)
    assert out.getvalue() == f"{LINE}{SCORE}\n"
    monkeypatch.setattr(out, "isatty", lambda: True)
    handler.emit(record)
    cut = out.getvalue().splitlines()[1]
    assert cut == f"run 2 of 30  hubert_larg…{SCORE}"
    assert len(cut) == 80


@pytest.mark.parametrize("line", ["short · devel Avg 0.5", "x" * 100, "name · " + "x" * 90])
def test_other_lines_are_not_cut(line) -> None:
    assert console.fit(line, 80) == line
