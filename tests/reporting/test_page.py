"""The report's folder: safe to open, safe to write, readable whatever was varied."""

from __future__ import annotations

import csv
import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import fakes
import pytest

from emoshare import reporting
from emoshare.core.errors import EmoshareError
from emoshare.core.files import write_text
from emoshare.core.hashing import SEAL, write_sealed
from emoshare.reporting import formats, loaded, page, run_tables
from emoshare.runs.folder import Run
from emoshare.runs.sweep import ListedRun

CLIPS = 60
NASTY = '=HYPERLINK("http://x")\x1b[31m <img src=x onerror=1> [a](http://x) ![b](http://x) | `c`'


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "all_figures", lambda report: [])


@pytest.mark.usefixtures("undrawn")
def test_files_of_a_report_are_safe_to_open(tmp_path: Path) -> None:
    """Text from files is text: no HTML, no link, no formula, no command to a terminal."""
    fakes.run(tmp_path / "a", fakes.config(), clips=CLIPS, targets=("@SUM(A1)", "\x1b[2Jjoy"))
    fakes.failed(tmp_path / "b", fakes.config("logmel"), NASTY)
    out = reporting.write([tmp_path], resamples=5).page.parent
    texts = {path.name: path.read_text() for path in out.rglob("*") if path.suffix in (".md", ".csv", ".tex")}
    assert not any(letter in text for text in texts.values() for letter in ("\x1b", "\x07"))
    assert "<img src=x" not in (out / "index.html").read_text().replace("&lt;img", "")
    assert not re.search(r"(?<!\\)<img|\]\(http", texts["report.md"])
    for name in ("failures.csv", "emotions.csv", "runs.csv"):
        with (out / "tables" / name).open(newline="") as file:
            fields = [field for row in csv.reader(file) for field in row]
        assert not any(field.startswith(("=", "+", "@")) for field in fields)
    assert "'=HYPERLINK" in texts["failures.csv"]


def test_errors_do_not_echo_what_a_terminal_would_obey(tmp_path: Path) -> None:
    fakes.failed(tmp_path / "b", fakes.config(), "\x1b]0;title\x07 gone")
    with pytest.raises(EmoshareError, match="no run is finished") as raised:
        reporting.build([tmp_path], 5)
    assert "\x1b" not in str(raised.value)
    assert "\x07" not in str(raised.value)


def test_negative_numbers_stay_numbers() -> None:
    table = formats.Table("t", "T", "", ("A",), [], [{"a": -0.5, "b": "-1+2", "c": float("nan"), "d": "x"}])
    assert formats.to_csv(table).splitlines()[1] == "-0.5,'-1+2,,x"


@pytest.mark.usefixtures("undrawn")
def test_two_reports_at_once_leave_a_whole_one(tmp_path: Path) -> None:
    fakes.run(tmp_path / "s" / "a", fakes.config(), clips=CLIPS)
    report = reporting.build([tmp_path / "s"], 5)
    out = tmp_path / "s" / "report"
    with ThreadPoolExecutor(4) as pool:
        pages = list(pool.map(lambda _: reporting.save(report, out).page, range(12)))
    assert pages == [out / "index.html"] * 12
    assert {path.name for path in out.iterdir()} == {"index.html", "report.md", "summary.json", "tables", "figures"}
    assert [path.name for path in (tmp_path / "s").iterdir() if path.name.startswith(".")] == []


@pytest.mark.usefixtures("undrawn")
def test_unfinished_reports_of_killed_processes_are_removed(tmp_path: Path) -> None:
    fakes.run(tmp_path / "a", fakes.config(), clips=CLIPS)
    long_ago = time.time() - 7200
    name = ".report-0123456789abcdef.part"
    (tmp_path / name / "tables").mkdir(parents=True)
    for path in (tmp_path / name / "tables", tmp_path / name):
        os.utime(path, (long_ago, long_ago))
    reporting.write([tmp_path], resamples=5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "report"]


@pytest.mark.usefixtures("undrawn")
def test_a_report_elsewhere_writes_nothing_into_the_sweep(tmp_path: Path) -> None:
    """So that a sweep on read-only storage can be reported."""

    def listing() -> list[tuple[str, int]]:
        return sorted((str(path), path.stat().st_mtime_ns) for path in [sweep, *sweep.rglob("*")])

    sweep = tmp_path / "sweep"
    fakes.run(sweep / "a", fakes.config(), clips=CLIPS)
    fakes.failed(sweep / "b", fakes.config("logmel"))
    fakes.write_config(sweep / "c", fakes.config("logmel", 2.0))
    fakes.listed(sweep, {"d": fakes.config("logmel", 3.0)})
    before = listing()
    reporting.write([sweep], tmp_path / "elsewhere", resamples=5)
    assert listing() == before


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(page, "_fill", refuse)
    fakes.run(tmp_path / "s" / "a", fakes.config(), clips=CLIPS)
    with pytest.raises(EmoshareError, match=r"out: cannot be written \(Permission denied\); name another folder"):
        reporting.write([tmp_path / "s"], tmp_path / "out", resamples=5)


@pytest.mark.parametrize(
    ("sweeps", "corpus", "root", "title"),
    [
        (("table4", "table4"), "demo", "", "table4 on demo"),
        (("a", "b"), "demo", "", "a, b on demo"),
        (("default", "default"), "compare23", "", "2 backbones on compare23"),
        (("default", "default"), "csv", "/data/acted_speech", "2 backbones on acted_speech"),
    ],
)
def test_the_title_names_sweep_and_corpus(
    tmp_path: Path, sweeps: tuple[str, str], corpus: str, root: str, title: str
) -> None:
    for name, sweep in zip(("tiny", "logmel"), sweeps, strict=True):
        config = fakes.config(name, sweep__name=sweep, data__name=corpus, data__root=root)
        fakes.run(tmp_path / name, config, clips=CLIPS)
    assert page.title(reporting.build([tmp_path], 5)) == title


def test_the_headline_is_one_line_however_many_keys_vary(tmp_path: Path) -> None:
    for number in range(3):
        keys = {f"optimizer__{key}": 0.1 * number for key in ("lr", "weight_decay", "warmup", "clip")}
        config = fakes.config("tiny", 1.0, head__hidden=8 + number, head__dropout=0.1 * number, **keys)
        fakes.run(tmp_path / f"{number}", config, 0.2 * (1 + number), clips=CLIPS)
    report = reporting.build([tmp_path], 5)
    assert len(report.varying) == 6
    text = page.headline(report)
    assert text.startswith("tiny, 1 s, head.hidden=10, head.dropout=0.2, and 4 more keys reaches Avg")
    assert len(text) < 200
    assert page.title(report) == "3 cells on demo"
    (table,) = (table for table in page.all_tables(report) if table.name == "cells")
    assert table.text_columns == 1  # the keys stand below the name, and the scores on the page
    assert "optimizer.lr=0.2" in table.rows[0][0].small
    assert report.label(report.best).count("=") == 6  # in full in summary.json


def test_links_lead_to_run_folders_and_to_wandb(tmp_path: Path) -> None:
    folder = fakes.run(tmp_path / "run #1", fakes.config(), clips=CLIPS)
    write_text(Run(folder).page, "https://wandb.ai/me/emoshare/runs/a\n")
    other = fakes.run(tmp_path / "b", fakes.config("logmel"), clips=CLIPS)
    write_text(Run(other).page, "javascript:alert(1)\n")
    table = run_tables.runs(reporting.build([tmp_path], 5))
    assert [row[-1].link for row in table.rows] == ["", "https://wandb.ai/me/emoshare/runs/a"]
    assert [row[0].link for row in table.rows] == [str(other), str(folder)]


@pytest.mark.usefixtures("undrawn")
def test_a_link_keeps_odd_letters_of_a_folder(tmp_path: Path) -> None:
    fakes.run(tmp_path / "run #1", fakes.config(), clips=CLIPS)
    assert 'href="../run%20%231"' in reporting.write([tmp_path], resamples=5).page.read_text()


def job(*overrides: str) -> ListedRun:
    return ListedRun("-".join(overrides), "", list(overrides), {})


def test_the_command_that_made_a_sweep() -> None:
    grid = [job("backbone=a", f"seed={seed}", f"window.seconds={w}") for w in (1, 2) for seed in (0, 1)]
    single = job("backbone=b", "head.dropout=0.1")
    assert run_tables.sweep_commands([*grid, single]) == [
        "emoshare train -m backbone=a seed=0,1 window.seconds=1,2",
        "emoshare train -m backbone=b head.dropout=0.1",
    ]
    named = [replace(run, config_dir="my conf") for run in grid]
    assert run_tables.sweep_commands(named) == [
        "emoshare train --config-dir 'my conf' -m backbone=a seed=0,1 window.seconds=1,2"
    ]
    assert run_tables.sweep_commands(grid[:3]) == [
        "emoshare train backbone=a seed=0 window.seconds=1",
        "emoshare train backbone=a seed=1 window.seconds=1",
        "emoshare train backbone=a seed=0 window.seconds=2",
    ]


@pytest.mark.usefixtures("undrawn")
def test_the_page_says_the_unit_of_errors_and_what_makes_scores_too_good(tmp_path: Path) -> None:
    """Below every table of scores, in each format; nothing of labels from 0 to 1."""
    texts = {}
    for name, keys in {"unit": {}, "own": {"data__range": [1, 7]}}.items():
        run = fakes.run(tmp_path / name / "a", fakes.config(**keys), clips=CLIPS)
        content = json.loads((run / "results.json").read_text())
        content["corpus"]["warnings"] = ["2 × speaker in two partitions: scores there are too good"]
        write_sealed(run / "results.json", {key: value for key, value in content.items() if key != SEAL})
        out = reporting.write([tmp_path / name], resamples=5).page.parent
        texts[name] = [(out / file).read_text() for file in ("index.html", "report.md", "tables/emotions.tex")]
        assert all("Of the corpus: 2 × speaker in two partitions" in text for text in texts[name][:2])
    sentence = "rrors are those of labels scaled from 1 to 7 onto 0 to 1; in the labels"
    assert all(sentence in text for text in texts["own"])
    assert "MAE $\\times$ 6" in texts["own"][2]
    assert not any("labels scaled" in text for text in texts["unit"])
    assert texts["own"][2].startswith("% needs \\usepackage{booktabs}\n")


@pytest.mark.usefixtures("undrawn")
def test_the_page_shows_the_command(tmp_path: Path) -> None:
    fakes.run(tmp_path / "a", fakes.config(), clips=CLIPS)
    fakes.listed(tmp_path, {"a": fakes.config()}, {"a": ["backbone=tiny", "seed=0"]})
    assert "emoshare train -m backbone=tiny seed=0" in reporting.write([tmp_path], resamples=5).page.read_text()


@pytest.mark.usefixtures("undrawn")
def test_the_page_can_be_sorted_read_in_the_dark_and_on_a_phone(tmp_path: Path) -> None:
    fakes.sweep(tmp_path, {"tiny": 0.5, "logmel": 0.4}, [1.0], clips=CLIPS)
    text = reporting.write([tmp_path], resamples=5).page.read_text()
    assert "prefers-color-scheme: dark" in text
    assert re.search(r"tr > :first-child {[^}]*position: sticky", text)
    assert text.count("<script>") == 1
    assert re.findall(r'data-sort="([\d.]+)"', text)[:2] == ["30.0", "40.0"]  # seconds of extraction and training


def test_every_state_has_words_and_a_mark() -> None:
    from emoshare.reporting.score_figures import GAPS
    from emoshare.runs import sweep

    assert {*loaded.STATES, "done", sweep.UNREADABLE} == set(sweep.STATES)  # a damaged file ends a report
    assert set(loaded.STATES) < set(GAPS)


def test_the_width_of_intervals_has_its_unit_where_labels_have_a_range(tmp_path: Path) -> None:
    config = fakes.config()
    fakes.run(tmp_path / "a", config | {"data": config["data"] | {"range": [1.0, 7.0]}}, clips=CLIPS)
    report = reporting.build([tmp_path], 5)
    table = formats.Table("predictions", "", "Told.", ("Partition", "Mean width", "MAE"), [], [])
    assert page.with_unit(table, report).caption.endswith("in the labels' own unit: MAE × 6, Mean width × 6.")
    assert page.with_unit(replace(table, header=("MAE",)), report).caption.endswith("unit: MAE × 6.")
