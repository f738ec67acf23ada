"""The report from made-up run folders: numbers, gaps, marks, errors, and the files it leaves."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import drawing
import fakes
import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from emoshare import reporting
from emoshare.core.config import EMOTIONS
from emoshare.core.errors import EmoshareError
from emoshare.core.hashing import write_sealed
from emoshare.reporting import (
    analysis,
    dashboard,
    error_figures,
    formats,
    page,
    paper,
    run_tables,
    score_figures,
    score_tables,
)
from emoshare.reporting.figure import ReportFigure, ink_on
from emoshare.runs.results import FORMAT, BackboneRecord, FramesRecord, Resolved

CLIPS = 80


def made(folder: Path, *, resamples: int = 40) -> reporting.Report:
    return reporting.build([folder], resamples)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as handle:
        return list(csv.DictReader(handle))


def draw_all(study: reporting.Report) -> list[str]:
    """Draw every figure without saving it; their names."""
    for figure in page.all_figures(study):
        assert isinstance(figure.draw(), Figure)
    return [plot.name for plot in page.all_figures(study)]


def edit(results: Path, **changes: Any) -> None:
    write_sealed(results, json.loads(results.read_text()) | changes)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports with empty pictures, in no time."""

    def save(self: ReportFigure, folder: Path) -> None:
        for kind in ("png", "svg"):
            (folder / f"{self.name}.{kind}").touch()

    monkeypatch.setattr(ReportFigure, "save", save)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two backbones, three windows, two seeds; one cell failed, one unfinished, one never started."""
    root = tmp_path_factory.mktemp("outputs") / "table34"
    fakes.sweep(root, {"hubert_large": 0.6, "tiny": 0.3}, [0.5, 2.0, 5.5], seeds=2, clips=CLIPS, epochs=15)
    for seed in range(2):
        shutil.rmtree(root / f"tiny-5.5s-seed{seed}")
        shutil.rmtree(root / f"tiny-2s-seed{seed}")
        fakes.failed(root / f"x{seed}", fakes.config("tiny", 5.5, seed), "out of memory <b>")
    fakes.write_config(root / "y", fakes.config("logmel", 2.0))
    return root


@pytest.fixture(scope="module")
def written(sweep: Path) -> Path:
    with drawing.real():
        return reporting.write([sweep], resamples=40).page.parent


def test_the_report_is_whole_and_stands_alone(written: Path, sweep: Path) -> None:
    assert written == sweep / "report"
    text = (written / "index.html").read_text()
    assert "http" not in re.sub(r'src="data:[^"]*"', "", text)
    assert not re.search(r'src="(?!data:)', text)
    links = [unquote(link) for link in re.findall(r'href="([^#"]+)"', text)]
    assert len(links) == 11  # runs with results, failed and interrupted: relative, and there
    assert all((written / link / "config.yaml").exists() and not Path(link).is_absolute() for link in links)
    assert "out of memory &lt;b&gt;" in text
    assert "viewport" in text
    for table in re.findall(r"<tbody>.*?</tbody>", text, re.S):
        assert re.findall(r"<tr><(\w+ \w+)", table) == ["th scope"] * table.count("<tr>")
    assert text.count('class="scroll" tabindex="0" role="region" aria-label="') == text.count('class="scroll"') > 10
    for name in ("windows", "grid", "emotions", "learning", "predicted", "calibration", "duration", "correlation"):
        assert (written / "figures" / f"{name}.png").stat().st_size > 5000
        assert f'id="figure-{name}"' in text
    names = {"backbones", "windows", "cells", "test", "emotions", "entropy", "costs", "varied", "versions", "runs"}
    names |= {"failures"}
    assert {path.stem for path in (written / "tables").glob("*.csv")} == names
    assert {path.stem for path in (written / "tables").glob("*.tex")} == names
    assert "figures/grid.png" in (written / "report.md").read_text()
    assert not [path for path in sweep.iterdir() if path.name.startswith(".")]


def test_the_same_runs_give_the_same_page(written: Path, sweep: Path, tmp_path: Path, drawn: None) -> None:
    before = {name: (written / "figures" / name).read_bytes() for name in ("windows.svg", "windows.png", "windows.pdf")}
    study = made(sweep)
    page.all_figures(study)[0].save(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_a_cell_is_the_mean_over_its_seeds(written: Path, sweep: Path) -> None:
    record = next(row for row in rows(written / "tables" / "windows.csv") if row["window.seconds"] == "2.0")
    results = [json.loads((sweep / f"hubert_large-2s-seed{seed}" / "results.json").read_text()) for seed in range(2)]
    for metric in ("scc", "ccc", "avg"):
        values = [result["metrics"]["devel"][metric]["mean"] for result in results]
        assert float(record[f"{metric}_mean"]) == pytest.approx(np.mean(values))
        assert float(record[f"{metric}_std"]) == pytest.approx(abs(values[0] - values[1]) / np.sqrt(2))
        assert float(record[f"{metric}_low"]) < np.mean(values) < float(record[f"{metric}_high"])


def test_the_window_effect_is_seen(written: Path) -> None:
    verdicts = {row["window.seconds"]: row["verdict"] for row in rows(written / "tables" / "windows.csv")}
    assert verdicts["0.5"] == "worse"
    assert verdicts["5.5"] == "best"


def test_gaps_are_shown(sweep: Path) -> None:
    study = made(sweep)
    states = {study.label(cell): cell.state for cell in study.study.cells}
    assert states["tiny, 5.5 s"] == "failed"
    assert states["logmel, 2 s"] == "interrupted"
    assert study.grid
    assert set(run_tables.gaps(study.grid)) == {("tiny", 2.0), ("logmel", 0.5), ("logmel", 5.5)}
    shown = [row for row in score_tables.cells(study).rows if row[-3].state]
    assert sorted(row[-3].text for row in shown) == ["failed", "not finished"]
    lost = run_tables.failures(study)
    assert [row[2].text for row in lost.rows] == ["out of memory <b>"] * 2 + [""]
    assert lost.rows[0][2].small.startswith("emoshare train")
    assert "2 failed" in run_tables.variations(study).caption


def test_runs_that_were_never_started_are_shown(tmp_path: Path) -> None:
    """On the sweep's folder, on the one above, on both of two sweeps; a run that another sweep has done is no gap."""
    first, second = tmp_path / "outputs" / "table3", tmp_path / "outputs" / "table4"
    fakes.run(first / "a", fakes.config("tiny", 1.0), clips=CLIPS)
    fakes.failed(first / "b", fakes.config("logmel", 1.0))
    asked = {"a": fakes.config("tiny"), "b": fakes.config("logmel"), "c": fakes.config("hubert_large", 2.0)}
    fakes.listed(first, asked | {"d": fakes.config("tiny", seed=1)})
    (first / "c").mkdir()  # where a machine went down just then
    study = made(first)
    assert {study.label(c): (c.state, len(c.others)) for c in study.study.cells} == {
        "tiny, 1 s": ("done", 1), "logmel, 1 s": ("failed", 1), "hubert_large, 2 s": ("waiting", 1),
    }  # fmt: skip
    assert sorted(row[-3].text for row in score_tables.cells(study).rows if row[-3].state) == ["failed", "not started"]
    assert "3 cells, 1 finished runs, 1 failed, 2 not started." in run_tables.variations(study).caption
    assert any("3 of 4 runs have no results: 1 failed, 2 not started." in text for text in page.warnings(study))
    assert [row[0].text for row in run_tables.failures(study).rows] == ["b"]
    assert reporting.summary(study, tmp_path)["runs/waiting"] == 2

    fakes.listed(second, {"e": fakes.config("tiny"), "f": fakes.config("tiny", 4.0)})
    for folders in ([first.parent], [first, second]):
        cells = analysis.collect(folders).cells
        found = sorted((c.state, len(c.others)) for c in cells)
        assert found == [("done", 1), ("failed", 1), *[("waiting", 1)] * 2]


def test_a_run_with_results_is_done_whatever_failed_later(tmp_path: Path) -> None:
    fakes.run(tmp_path / "a", fakes.config("tiny"), clips=CLIPS)
    fakes.run(tmp_path / "b", fakes.config("logmel"), clips=CLIPS)
    fakes.failed(tmp_path / "b", fakes.config("logmel"))
    assert [run.state for run in made(tmp_path).study.runs] == ["done", "done"]


@pytest.mark.usefixtures("undrawn")
def test_a_window_of_each_backbone_is_no_curve(tmp_path: Path) -> None:
    for backbone in ("tiny", "logmel"):
        fakes.run(tmp_path / f"{backbone}1", fakes.config(backbone, 1.0), clips=CLIPS)
        fakes.failed(tmp_path / f"{backbone}2", fakes.config(backbone, 2.0))
    text = reporting.write([tmp_path], resamples=5).page.read_text()
    assert 'id="windows"' in text  # the table
    assert 'id="figure-grid"' in text
    assert 'id="figure-windows"' not in text


def test_the_grid_keeps_signs_and_tells_why_cells_are_empty(tmp_path: Path) -> None:
    fakes.sweep(tmp_path, {"tiny": 0.6, "logmel": -0.3}, [1.0, 2.0], clips=CLIPS)
    fakes.failed(tmp_path / "f", fakes.config("tiny", 4.0))
    fakes.write_config(tmp_path / "u", fakes.config("logmel", 4.0))
    fakes.listed(tmp_path, {"w": fakes.config("tiny", 5.0)})
    study = made(tmp_path)
    shown = texts(score_figures.grid(study))
    assert len([text for text in shown if re.match(r"−\.\d{3}", text)]) == 2
    assert len([text for text in shown if re.match(r"\.\d{3}", text)]) == 2
    assert sorted(text for text in shown if "." not in text) == ["", "", "×", "…"]
    assert study.grid
    assert run_tables.gaps(study.grid) == [("logmel", 5.0)]


@pytest.mark.parametrize("colours", ["cividis", "PuOr"])
def test_numbers_stand_out_from_their_squares(colours: str) -> None:
    def light(rgb: Any) -> float:
        parts = np.array(rgb[:3])
        return float(
            np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
        )

    for colour in colormaps[colours](np.linspace(0, 1, 256)):
        low, high = sorted(light(to_rgb(c)) for c in (colour, ink_on(colour)))
        assert (high + 0.05) / (low + 0.05) > 4


def test_summary_is_plain_and_names_files_that_exist(written: Path, sweep: Path) -> None:
    stored = json.loads((written / "summary.json").read_text())
    assert stored == json.loads(json.dumps(reporting.summary(made(sweep), written)))
    assert stored["best/cell"] == "hubert_large, 5.5 s"
    assert stored["runs/failed"] == 2
    assert 0 < stored["best/devel/avg_low"] < stored["best/devel/avg"] < 1
    assert all(Path(value).is_file() for key, value in stored.items() if key.startswith(("tables/", "figures/")))


def test_a_failed_report_leaves_the_old_one(written: Path, sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (written / "index.html").read_bytes()
    monkeypatch.setattr(page, "all_figures", lambda study: [])
    monkeypatch.setattr(page, "_html", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        reporting.save(made(sweep), written)
    assert (written / "index.html").read_bytes() == before
    assert not [path for path in sweep.iterdir() if path.name.startswith(".")]


def test_a_report_replaces_a_report_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "all_figures", lambda study: [])
    monkeypatch.setattr(page, "_html", lambda *arguments: "page")
    fakes.run(tmp_path / "s" / "a", fakes.config(), clips=CLIPS)
    study = made(tmp_path / "s")
    out = tmp_path / "mine"
    out.mkdir()
    reporting.save(study, out)
    (out / "tables" / "old.csv").touch()
    assert reporting.save(study, out).page == out / "index.html"
    assert not (out / "tables" / "old.csv").exists()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").touch()
    with pytest.raises(EmoshareError, match=r"thesis: holds something that is not a report"):
        reporting.save(study, tmp_path / "thesis")
    assert (tmp_path / "thesis" / "thesis.tex").exists()
    (out / "notes.txt").touch()
    with pytest.raises(EmoshareError, match=r"mine: holds something that is not a report, as notes.txt; name another"):
        reporting.save(study, out)


def test_one_run(tmp_path: Path) -> None:
    fakes.run(tmp_path / "only", fakes.config("hubert_large", 5.5), clips=CLIPS, sizes=fakes.HUME)
    study = made(tmp_path)
    assert [table.name for table in score_tables.tables_of_scores(study)] == ["systems", "backbones", "emotions"]
    assert "windows" not in draw_all(study)
    record = score_tables.backbones(study).records[0]
    assert record["avg_paper"] == 0.5491
    assert record["avg_difference"] == pytest.approx(record["avg_mean"] - 0.5491)
    assert np.isnan(record["avg_std"])
    assert "±" not in score_tables.backbones(study).rows[0][2].text


def test_windows_alone_with_one_seed_claim_nothing(tmp_path: Path) -> None:
    fakes.sweep(tmp_path, {"hubert_large": 0.6}, [0.5, 5.5, 6.0], clips=CLIPS)
    study = made(tmp_path)
    assert study.grid is None
    verdicts = {record["window.seconds"]: record["verdict"] for record in score_tables.windows(study).records}
    assert verdicts[0.5] == "unsettled"
    assert verdicts[5.5] in ("tied", "best")
    assert "°" in score_tables.windows(study).rows[0][4].text
    assert any("Every cell has one run" in text for text in page.warnings(study))


@pytest.mark.parametrize(
    ("sizes", "compared"),
    [
        (fakes.HUME, True),
        (fakes.HUME | {"train": 31_745 + 68}, True),  # the paper's own total, 51,881
        (fakes.HUME | {"devel": 9_000}, False),
        ({"train": 31_745, "devel": 9_925}, False),
        (None, False),
    ],
)
@pytest.mark.usefixtures("undrawn")
def test_the_papers_corpus_alone_is_compared_with_the_paper(
    tmp_path: Path, sizes: dict[str, int] | None, compared: bool
) -> None:
    """Recognised by its size, whatever the config calls it."""
    fakes.sweep(
        tmp_path, {"hubert_large": 0.6}, [5.5, 5.75], clips=CLIPS, sizes=sizes, keys={"data__name": "compare23"}
    )
    study = made(tmp_path)
    table = score_tables.windows(study)
    assert ("Paper Avg (SCC, CCC)" in table.header) == compared
    assert ("avg_difference" in table.records[0]) == compared
    if compared:
        assert [row[-2].text for row in table.rows] == ["0.551", formats.NONE]
        assert table.records[0]["avg_difference"] == pytest.approx(table.records[0]["avg_mean"] - 0.5509)
    curve = next(figure for figure in page.all_figures(study) if figure.name == "windows")
    assert ("Dashed: the paper" in curve.caption) == compared
    text = reporting.write([tmp_path], resamples=5).page.read_text()
    assert ("This is not the paper&#39;s corpus" in text) != compared
    assert ("paper: hubert" in str([t.get_text() for legend in curve.draw().legends for t in legend.texts])) == compared


def test_other_targets_have_no_paper(tmp_path: Path) -> None:
    fakes.sweep(tmp_path, {"tiny": 0.6, "logmel": 0.4}, [1.0, 2.0], targets=("valence", "arousal"), clips=CLIPS)
    study = made(tmp_path)
    assert study.paper == {}
    assert "other targets" in study.not_paper
    assert not any("Paper" in text for table in score_tables.tables_of_scores(study) for text in table.header)
    assert "grid" in draw_all(study)


@pytest.mark.usefixtures("undrawn")
def test_one_target(tmp_path: Path) -> None:
    fakes.sweep(tmp_path, {"tiny": 0.6}, [1.0, 2.0], seeds=2, targets=("Anger",), clips=CLIPS)
    assert draw_all(made(tmp_path)) == ["windows", "emotions", "predicted", "calibration", "duration"]
    assert "Anger" in reporting.write([tmp_path], resamples=5).page.read_text()


def test_hidden_test_labels(tmp_path: Path) -> None:
    fakes.run(tmp_path / "a", fakes.config(), test=False, clips=CLIPS)
    study = made(tmp_path)
    assert score_tables.emotions(study).header == ("Emotion", "SCC devel", "CCC devel")
    assert "test" not in [table.name for table in page.all_tables(study)]
    assert "hidden" in score_tables.emotions(study).caption
    assert "best/test/scc" not in reporting.summary(study, tmp_path)


def test_a_constant_prediction_counts_0_and_is_named(tmp_path: Path) -> None:
    for seconds, constant in ((1.0, None), (2.0, "Anger")):
        fakes.run(tmp_path / f"{seconds}", fakes.config("tiny", seconds), 0.6, clips=CLIPS, constant=constant)
    study = made(tmp_path)
    assert study.label(study.best) == "tiny, 1 s"
    record = score_tables.windows(study).records[1]
    assert record["avg_low"] < record["avg_mean"] < record["avg_high"] < 0.95 * record["avg_high"] + 1
    shares = study.study.predictions(study.everything.order[1].runs[0], "devel")
    assert np.ptp(shares[:, study.study.targets.index("Anger")]) == 0
    said = [text for text in page.warnings(study) if "constant predictions" in text]
    assert said[0] == "Tiny, 2 s, devel: constant predictions, one share for all clips, scored 0: Anger."


def test_a_run_without_a_score_is_never_best(tmp_path: Path) -> None:
    for seed in range(2):
        fakes.run(tmp_path / f"a{seed}", fakes.config("tiny", 1.0, seed), 0.3, clips=CLIPS)
        broken = fakes.config("tiny", 2.0, seed)
        fakes.run(tmp_path / f"b{seed}", broken, 0.9, clips=CLIPS, diverged=True)
    study = made(tmp_path)
    assert study.label(study.best) == "tiny, 1 s"
    record = score_tables.windows(study).records[1]
    assert (record["verdict"], np.isnan(record["avg_mean"])) == ("untested", True)
    assert score_tables.windows(study).rows[1][2].text == formats.NONE
    assert "nan" not in formats.to_csv(score_tables.windows(study)).lower()
    assert any("tiny, 2 s" in text for text in page.warnings(study))
    draw_all(study)


def test_the_best_is_bold_after_a_row_without_a_score(tmp_path: Path) -> None:
    fakes.run(tmp_path / "a", fakes.config("tiny", 1.0), diverged=True, clips=CLIPS)
    for seconds in (2.0, 4.0):
        fakes.run(tmp_path / f"{seconds}", fakes.config("tiny", seconds), seconds / 8, clips=CLIPS)
    shown = score_tables.windows(made(tmp_path)).rows
    assert [[entry.bold for entry in row[2:5]] for row in shown] == [[False] * 3, [False] * 3, [True] * 3]


def test_the_headline_counts_every_verdict(tmp_path: Path) -> None:
    skills = {"best": 0.7, "tied": 0.7, "worse": 0.2}
    for number, (name, quality) in enumerate(skills.items()):
        for seed in range(3):
            fakes.run(tmp_path / f"{name}{seed}", fakes.config(name, 1.0, seed), quality, CLIPS, noise=number)
    assert page.headline(made(tmp_path)).endswith(
        "; of the other cells, 1 significantly below it, 1 not significantly below it."
    )
    for seed in range(1, 3):
        for name in skills:
            shutil.rmtree(tmp_path / f"{name}{seed}")
    fakes.run(tmp_path / "nan", fakes.config("nan"), diverged=True, clips=CLIPS)
    text = page.headline(made(tmp_path))
    assert "1 below it by what may come from the seed, 1 without a score." in text
    assert "significantly below it, 1 below" in text


@pytest.mark.usefixtures("undrawn")
def test_a_diverged_run_is_reported_without_its_predictions(tmp_path: Path) -> None:
    for seconds in (1.0, 2.0):
        for backbone in ("tiny", "logmel"):
            fakes.run(tmp_path / f"{backbone}{seconds}", fakes.config(backbone, seconds), diverged=True, clips=CLIPS)
    study = made(tmp_path)
    assert draw_all(study) == ["windows", "grid", "emotions"]
    assert "NaN" in texts(score_figures.grid(study))
    assert 'id="errors"' not in reporting.write([tmp_path], resamples=5).page.read_text()


def test_a_diverged_seed_is_left_out_of_the_errors(tmp_path: Path) -> None:
    for seed in range(2):
        fakes.run(tmp_path / f"{seed}", fakes.config(seed=seed), diverged=seed == 0, clips=CLIPS)
    figure = error_figures.durations(made(tmp_path))
    assert np.isfinite(figure.axes[0].lines[0].get_ydata()).all()


def test_dollars_in_names_are_letters(tmp_path: Path) -> None:
    """matplotlib would take what stands between two of them for a formula, and stumble over it."""
    fakes.run(tmp_path / "a", fakes.config(), targets=("$a_{$", "b$c^$"), clips=CLIPS)
    study = made(tmp_path)
    for figure in page.all_figures(study):
        figure.draw().draw_without_rendering()
    assert r"\$a\_\{\$" in formats.latex(score_tables.emotions(study))


def test_only_nan(tmp_path: Path) -> None:
    fakes.run(tmp_path / "a", fakes.config(), diverged=True, clips=CLIPS)
    study = made(tmp_path)
    assert score_tables.backbones(study).rows[0][4].text == formats.NONE
    draw_all(study)


def test_heads_are_told_apart_by_the_keys_that_vary(tmp_path: Path) -> None:
    for number, (backbone, pooling) in enumerate(
        [("tiny", "mean"), ("tiny", "max"), ("logmel", "mean"), ("logmel", "max")]
    ):
        config = fakes.config(backbone, 1.0, number, head__pooling=pooling)
        fakes.run(tmp_path / f"{number}", config, 0.3 + 0.1 * number, clips=CLIPS)
    study = made(tmp_path)
    assert study.varying == ("backbone.name", "head.pooling")  # not backbone.path, which the name says
    assert study.backbones.fixed == {"head.pooling": "max"}
    assert "At head.pooling=max." in score_tables.backbones(study).caption
    assert score_tables.cells(study).header[:2] == ("System", "head.pooling")
    assert study.label(study.best) == "logmel, 1 s, head.pooling=max"


def test_a_run_of_two_sweeps_counts_once(tmp_path: Path) -> None:
    for sweep, day in (("table3", 1), ("table4", 2)):
        config = fakes.config("tiny", 1.0, 0, sweep__name=sweep, paths__outputs=sweep)
        fakes.run(tmp_path / sweep / "x", config, clips=CLIPS, finished=f"2026-01-0{day}")
    study = reporting.build([tmp_path / "table3", tmp_path / "table4", tmp_path / "table4"], 10)
    assert [len(cell.runs) for cell in study.study.cells] == [1]
    assert study.best.runs[0].folder == (tmp_path / "table4" / "x").resolve()
    assert "1 of the finished runs repeat" in run_tables.variations(study).caption
    assert [record["counted"] for record in run_tables.runs(study).records] == [False, True]


def test_a_failed_seed_belongs_to_its_cell(tmp_path: Path) -> None:
    fakes.run(tmp_path / "a", fakes.config("tiny", 1.0, 0), clips=CLIPS)
    fakes.failed(tmp_path / "b", fakes.config("tiny", 1.0, 1))
    study = made(tmp_path)
    assert [(len(cell.runs), len(cell.others)) for cell in study.study.cells] == [(1, 1)]
    assert score_tables.backbones(study).rows[0][1].small == "+ 1 without results"


def test_a_failure_without_a_config_is_listed(tmp_path: Path) -> None:
    fakes.run(tmp_path / "a", fakes.config(), clips=CLIPS)
    fakes.failed(tmp_path / "b", fakes.config())
    (tmp_path / "b" / "config.yaml").unlink()
    study = made(tmp_path)
    assert len(study.study.cells) == 1
    assert len(run_tables.failures(study).rows) == 1
    assert study.varying == ()


def test_configs_of_other_tools_are_no_runs(tmp_path: Path) -> None:
    fakes.run(tmp_path / "s" / "a", fakes.config(), clips=CLIPS)
    for folder in (tmp_path / "s" / ".hydra", tmp_path / "s" / "wandb" / "files", tmp_path / "s" / "a" / "wandb"):
        fakes.write_config(folder, fakes.config("logmel"))
    assert len(made(tmp_path / "s").study.runs) == 1


def test_each_store_costs_once(tmp_path: Path) -> None:
    fakes.sweep(tmp_path, {"tiny": 0.5}, [1.0, 2.0], seeds=3, clips=CLIPS)
    (record,) = run_tables.costs(made(tmp_path)).records
    assert record["extract_seconds"] == 30 + 60
    assert record["bytes"] == 6_000_000 + 12_000_000
    assert record["realtime"] == pytest.approx(30)
    assert record["fit_seconds"] == 6 * 40


def test_epochs_count_from_one_and_a_run_without_a_store_says_so(tmp_path: Path) -> None:
    path = fakes.run(tmp_path / "a", fakes.config(), clips=CLIPS) / "results.json"
    assert run_tables.runs(made(tmp_path)).rows[0][-1].text == "13"  # epoch 12 of Lightning's count
    assert run_tables.costs(made(tmp_path)).rows[0][0].small == "float32"
    edit(path, frames={"source": "backbone"})
    (row,) = run_tables.costs(made(tmp_path)).rows
    assert (row[0].small, row[3].text) == ("in the loop", formats.NONE)


def corrupt(root: Path) -> None:
    for name in ("a", "b"):
        (root / name / "results.json").write_text("{")


def unknown_format(root: Path) -> None:
    path = root / "a" / "results.json"
    path.write_text(path.read_text().replace(f'"format": {FORMAT}', '"format": 99'))


def other_clips(root: Path) -> None:
    path = root / "a" / "predictions" / "devel.csv"
    path.write_text(path.read_text().replace("devel_00003.wav", "other.wav"))


def no_results(root: Path) -> None:
    for name in ("a", "b"):
        (root / name / "results.json").unlink()
    fakes.failed(root / "b", fakes.config(), "no space")


ERRORS: list[tuple[Any, list[str]]] = [
    (lambda root: [shutil.rmtree(root / name) for name in "ab"], ["no runs there"]),
    (corrupt, ["a/results.json: not readable", "b/results.json: not readable"]),
    (unknown_format, [f"a/results.json: not results of format {FORMAT}"]),
    (lambda root: (root / "b" / "predictions" / "test.csv").unlink(), ["b/predictions/test.csv: not readable"]),
    (other_clips, ["a/predictions/devel.csv: not the clips"]),
    (
        lambda root: [(root / name / "reference" / "devel.csv").unlink() for name in "ab"],
        ["reference/devel.csv: missing"],
    ),
    (no_results, ["no run is finished", "a: interrupted", "b: failed no space"]),
    (
        lambda root: fakes.run(root / "c", fakes.config("logmel"), clips=CLIPS, fingerprint="e" * 64),
        ["runs of 2 corpora cannot be compared", "e" * 64, "root/c"],
    ),
    (
        lambda root: fakes.run(root / "c", fakes.config("logmel"), clips=CLIPS, targets=EMOTIONS[:3]),
        ["runs of 2 targets cannot be compared", "Anger, Boredom, Calmness: first in"],
    ),
]


@pytest.mark.parametrize(("damage", "messages"), ERRORS)
def test_errors_name_the_file(tmp_path: Path, damage: Any, messages: list[str]) -> None:
    root = tmp_path / "root"
    for seed, name in enumerate("ab"):
        fakes.run(root / name, fakes.config(seed=seed), clips=CLIPS)
    damage(root)
    with pytest.raises(EmoshareError) as raised:
        reporting.write([root], resamples=5)
    for message in messages:
        assert message in str(raised.value)
    assert not (root / "report").exists()


def test_the_papers_numbers_hold_together() -> None:
    numbers = paper.load()
    for row in [*numbers["backbones"].values(), *numbers["windows"]["seconds"].values()]:
        if "avg" in row:
            assert row["avg"] == pytest.approx((row["scc"] + row["ccc"]) / 2, abs=1.01e-4)
    assert numbers["test"]["mean"] == pytest.approx(np.mean([numbers["test"][name] for name in EMOTIONS]), abs=1e-4)
    assert numbers["approaches"]["HuBERT large + MLP"]["devel"] == round(numbers["backbones"]["hubert_large"]["scc"], 3)


def test_latex_and_markdown_escape() -> None:
    entry = formats.Entry("a_b & 5 % ≈", "[−0.1, x|y]", bold=True)
    table = formats.Table("t", "Title", "Note.", ("A", "B"), [[entry, formats.Entry("1")]], [])
    small = r"{\scriptsize [$-$0.1, x\textbar{}y]}"  # below, or the tables are wider than a page
    first = rf"\begin{{tabular}}[t]{{@{{}}l@{{}}}}\textbf{{a\_b \& 5 \% $\approx$}} \\ {small}\end{{tabular}}"
    assert rf"{first} & 1 \\" in formats.latex(table)
    assert r"| **a_b & 5 % ≈** [−0.1, x\|y] | 1 |" in formats.markdown(table)
    assert formats.escape("< > | →") == r"$<$ $>$ \textbar{} $\to$"
    entry = formats.Entry("p < 0.001", "<b>")
    assert r"| p \< 0.001 \<b> |" in formats.markdown(formats.Table("t", "T", "", ("A",), [[entry]], []))


def test_latex_breaks_what_is_longer_than_a_page() -> None:
    for count, floating in ((40, True), (41, False)):
        table = formats.Table(
            "t", "Title", "Note.", ("A", "B"), [[formats.Entry("[x]"), formats.Entry("1")]] * count, []
        )
        text = formats.latex(table)
        assert (r"\begin{table}" in text, r"\begin{longtable}" in text) == (floating, not floating)
        assert r"\endhead" in text or floating
        assert not re.search(r"(\\\\|rule)\s*\[", text)  # LaTeX would take the bracket for an option


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (formats.score(0.55066), "0.551"), (formats.score(-0.1), "−0.100"), (formats.score(np.nan), "–"),
        (formats.score(-0.0004), "0.000"),
        (formats.delta(0.0008), "+0.001"), (formats.delta(-0.02), "−0.020"), (formats.p_value(0.0004), "< 0.001"),
        (formats.size(999), "999 B"), (formats.size(2.5e9), "2.5 GB"), (formats.size(7e15), "7,000.0 TB"),
        (formats.duration(59), "59.0 s"), (formats.duration(3600), "60.0 min"), (formats.duration(36000), "10.0 h"),
        (formats.p_value(0.0496), "0.0496"), (formats.p_value(0.0504), "0.050"), (formats.p_value(0.0516), "0.052"),
        (formats.value(0.001), "0.001"), (formats.value(None), "null"),
    ],
)  # fmt: skip
def test_formats(shown: str, text: str) -> None:
    assert shown == text


def test_a_latex_table_of_words_breaks_its_last_column() -> None:
    row = [formats.Entry("run"), formats.Entry("out of memory", "emoshare train")]
    text = formats.latex(formats.Table("t", "Title", "Note.", ("Folder", "Error (why)"), [row] * 21, [], 2))
    assert r"{lp{0.55\linewidth}}" in text
    assert r"out of memory \newline {\scriptsize emoshare train} \\" in text
    assert "longtable" in text  # 21 rows of two lines


def test_intervals_lie_within_the_panels(tmp_path: Path) -> None:
    fakes.run(tmp_path / "a", fakes.config(), clips=CLIPS)
    for axes in error_figures.calibration(made(tmp_path)).axes:
        (bars,) = axes.collections
        ends = np.concatenate([segment[:, 1] for segment in bars.get_segments()])
        assert axes.get_ylim()[0] < ends.min() < ends.max() < axes.get_ylim()[1]


def test_errors_are_the_mean_over_the_runs_of_a_cell(tmp_path: Path) -> None:
    for seed in range(2):
        fakes.run(tmp_path / f"{seed}", fakes.config(seed=seed), 0.3 + 0.4 * seed, clips=CLIPS)
    study = made(tmp_path)
    truth = study.study.labels["devel"]
    errors = [np.abs(study.study.predictions(run, "devel") - truth.shares).mean(1) for run in study.best.runs]
    (line, *_) = error_figures.durations(study).axes[0].lines
    np.testing.assert_allclose(line.get_ydata(), error_figures.bin_means(truth.seconds, sum(errors) / 2)[1])


def test_numbers_go_to_the_dashboard_as_numbers() -> None:
    records = [
        {"avg": 0.5, "epoch": 3, "value": 0.5, "cell": "12345678", "at": [1]},
        {"avg": math.nan, "value": "hubert", "cell": "1"},
        {"avg": 0.001, "epoch": 4, "value": None, "cell": ""},
    ]
    frame = formats.Table("t", "T", "", ("A",), [], records).frame
    assert frame.dtypes.astype(str).tolist() == ["float64", "Int64", "object", "str", "object"]
    assert dashboard.plain(frame).to_numpy().tolist() == [
        [0.5, 3, "0.5", "12345678", "[1]"], [None, None, "hubert", "1", None], [0.001, 4, None, "", None],
    ]  # fmt: skip


def test_bins_hold_equally_many() -> None:
    binned, spearman_matrix = error_figures.bin_means, error_figures.spearman_matrix
    x = np.arange(100.0)
    middle, mean, reach = binned(x, 2 * x)
    np.testing.assert_allclose(mean, 2 * middle)
    assert len(middle) == 10
    assert reach[0] == pytest.approx(2.262157 * np.std(2 * x[:10], ddof=1) / np.sqrt(10))  # Student, 9 degrees
    middle, _, _ = binned(np.full(50, 0.3), x[:50])
    assert middle == pytest.approx([0.3])
    matrix = spearman_matrix(np.stack([x, -(x**3), np.ones(100)], axis=1))
    assert matrix[0, 1] == pytest.approx(-1)
    assert np.isnan(matrix[0, 2])


def test_frames_of_other_windows_in_the_same_store_cost_something_too() -> None:
    def run(request: str, seconds: float) -> SimpleNamespace:
        frames = FramesRecord("store", recipe="r", request=request, seconds=seconds, audio_seconds=10.0)
        made = SimpleNamespace(
            frames=frames, backbone=BackboneRecord("tiny"), timings={}, memory={}, resolved=Resolved()
        )
        return SimpleNamespace(results=made)

    cost = run_tables._cost([run("1 s", 2.0), run("1 s", 2.0), run("5 s", 3.0)])
    assert cost["extract_seconds"] == 5.0
    assert cost["realtime"] == 4.0


def test_native_windows_are_called_so(tmp_path: Path, undrawn: None) -> None:
    native = {"window__pad": "none", "window__normalize": "checkpoint"}
    for seconds in (1.0, 2.0):
        for name, keys in {"paper": {}, "native": native}.items():
            made_of, noise = fakes.config(seconds=seconds, **keys), len(name) + 10 * int(seconds)
            fakes.run(tmp_path / "s" / f"{name}-{seconds:g}", made_of, clips=CLIPS, noise=noise)
    report = made(tmp_path / "s", resamples=5)
    labels = {report.label(cell) for cell in report.study.cells}
    assert labels == {"tiny, 1 s", "tiny, 2 s", "tiny, 1 s native", "tiny, 2 s native"}
    table = score_tables.cells(report)
    assert table.header[:3] == ("System", "window.seconds", "window")
    assert {row[2].text for row in table.rows} == {"native", "paper"}
    for cell in report.study.cells:
        cell.config["window.normalize"] = "none"  # then two cells are neither, and all keys are shown
    odd = made(tmp_path / "s", resamples=5)
    odd.study.cells[0].config["window.pad"] = "other"
    assert "window.pad=other" in odd.label(odd.study.cells[0])


def test_latex_breaks_a_long_small_line() -> None:
    members = " and ".join(["hubert_large + MLP, 5.5 s"] * 4)
    row = [formats.Entry("Fusion of 4 runs", members), formats.Entry("0.5", "any seed")]
    text = formats.latex(formats.Table("t", "T", "C", ("System", "Avg"), [row], []))
    assert r"\begin{tabular}[t]{@{}p{0.4\linewidth}@{}}Fusion of 4 runs \\ {\scriptsize hubert" in text
    assert r"\begin{tabular}[t]{@{}r@{}}0.5" in text


def test_latex_for_a_column(tmp_path: Path, undrawn: None) -> None:
    for seed in (0, 1):
        for name, quality in {"tiny": 0.5, "logmel": 0.7}.items():
            fakes.run(tmp_path / "s" / f"{name}{seed}", fakes.config(name, seed=seed), quality, clips=CLIPS, noise=seed)
    wide, narrow = (
        reporting.write([tmp_path / "s"], tmp_path / kind, 5, narrow=kind == "narrow").page.with_name("tables")
        for kind in ("wide", "narrow")
    )
    wide, narrow = wide / "backbones.tex", narrow / "backbones.tex"
    assert re.search(r"0\.\d{3} \$\\pm\$ 0\.\d{3}", wide.read_text())
    text = narrow.read_text()
    assert not re.search(r"pm|scriptsize 0|\[[\d$]", text)
    numbers = [float(number) for number in re.findall(r"& (?:\\textbf\{)?(0\.\d\d)\b(?!\d)", text)]
    exact = {row["backbone.name"]: row for row in rows(tmp_path / "narrow/tables/backbones.csv")}
    for row in exact.values():
        for metric in ("scc_mean", "ccc_mean", "avg_mean"):
            assert round(float(row[metric]), 2) in numbers
    names = [f"{kind}/tables/backbones.csv" for kind in ("wide", "narrow")]
    assert len({(tmp_path / name).read_text() for name in names}) == 1  # numbers for machines stay whole
    assert "longtable" not in text
