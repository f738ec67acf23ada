"""Puts tables and figures on a page, and the report's folder in its place, whole or not at all."""

from __future__ import annotations

import base64
import math
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoshare.core.errors import EmoshareError
from emoshare.core.files import write_json
from emoshare.reporting import formats
from emoshare.reporting import run_tables as ledger
from emoshare.reporting import score_figures as figures
from emoshare.reporting import score_tables as tables
from emoshare.reporting.analysis import Report
from emoshare.reporting.formats import Table, number, score, spread
from emoshare.reporting.plot import Plot

SUMMARY = "summary.json"
VERDICTS = {
    "worse": "significantly below it",
    "tied": "not significantly below it",
    "unsettled": "below it by what may be the seed's doing",
    "untested": "without a score",
}


@dataclass(frozen=True)
class Picture:
    """A drawn figure, for the template."""

    name: str
    title: str
    caption: str
    data: str  # URI of the SVG


def render(report: Report, out: Path) -> Path:
    """Write the report's folder: index.html, report.md, summary.json, tables/, figures/.

    Everything is made in a folder beside `out`, which then takes its place.

    Returns:
        The path of index.html.

    Raises:
        EmoshareError: `out` holds something that is not a report.
    """
    if out.exists() and not (out / SUMMARY).exists() and (not out.is_dir() or any(out.iterdir())):
        raise EmoshareError(f"{out}: holds something that is not a report; name another folder with --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    try:
        made.chmod(0o755)
        _fill(report, made, out)
        if out.exists():
            out.rename(made / ".old")
        made.rename(out)
        shutil.rmtree(out / ".old", ignore_errors=True)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return out / "index.html"


def _fill(report: Report, folder: Path, out: Path) -> None:
    scores, books, plots = tables.tables(report), ledger.tables(report), figures.plots(report)
    for name in ("tables", "figures"):
        (folder / name).mkdir()
    for table in scores + books:
        (folder / "tables" / f"{table.name}.csv").write_text(formats.comma(table), encoding="utf-8")
        (folder / "tables" / f"{table.name}.tex").write_text(formats.latex(table), encoding="utf-8")
    for plot in plots:
        plot.save(report, folder / "figures")
    (folder / "report.md").write_text(_markdown(report, scores + books, plots), encoding="utf-8")
    (folder / "index.html").write_text(_html(report, scores, books, plots, folder / "figures"), encoding="utf-8")
    write_json(folder / SUMMARY, summary(report, out))


def summary(report: Report, out: Path) -> dict[str, Any]:
    """Plain numbers and the paths of the files in the report's folder `out`, for a logger or a script.

    Keys: "best/…" (cell and scores), "runs/…" (counts), "avg/<cell>" for every cell with results, "tables/<name>" and
    "figures/<name>" (paths).
    """
    cell, states = report.best, [run.state for run in report.study.runs]
    numbers: dict[str, Any] = {"best/cell": report.label(cell)}
    for part in report.study.truth:
        for metric in ("scc", "ccc", "avg"):
            item = report.score(cell, metric, part)
            numbers |= {f"best/{part}_{metric}": item.mean, f"best/{part}_{metric}_low": item.low}
            numbers |= {f"best/{part}_{metric}_high": item.high, f"best/{part}_{metric}_std": item.std}
    numbers |= {f"runs/{state}": states.count(state) for state in ("done", *ledger.STATES)}
    numbers["runs/cells"] = len(report.study.cells)
    numbers |= {f"avg/{report.label(c)}": report.score(c, "avg").mean for c in report.everything.order}
    books = tables.tables(report) + ledger.tables(report)
    numbers |= {f"tables/{table.name}": str(out / "tables" / f"{table.name}.csv") for table in books}
    numbers |= {f"figures/{plot.name}": str(out / "figures" / f"{plot.name}.png") for plot in figures.plots(report)}
    return {key: None if isinstance(item, float) and not math.isfinite(item) else item for key, item in numbers.items()}


def headline(report: Report) -> str:
    """The one sentence that a reader takes away."""
    item, cell = report.score(report.best, "avg"), report.best
    text = f"{report.label(cell)} reaches Avg {score(item.mean)} {spread(item.low, item.high)} on devel"
    if "test" in report.study.truth:
        text += f" and SCC {score(report.score(cell, 'scc', 'test').mean)} on test"
    verdicts = [report.everything.verdict(c) for c in report.everything.order]
    counts = [f"{verdicts.count(kind)} {words}" for kind, words in VERDICTS.items() if kind in verdicts]
    return text + (f"; of the other cells, {', '.join(counts)}." if counts else ".")


def warnings(report: Report) -> list[str]:
    """What a reader must know before believing a number."""
    study, found = report.study, []
    if study.corpus["name"] == "demo":
        found.append("The demo corpus is synthetic: these numbers show that the pipeline works, nothing about emotion.")
    lost = [run for run in study.runs if run.state != "done"]
    if lost:
        states = [run.state for run in lost]
        counts = [f"{states.count(state)} {words}" for state, words in ledger.STATES.items() if state in states]
        found.append(f"{len(lost)} of {len(study.runs)} runs have no results: {', '.join(counts)}.")
    if len(report.everything.order) > 1 and not report.everything.comparison.freedom:
        found.append(
            "Every cell has one run. Intervals and tests cover the choice of clips, not the training's randomness: a "
            "difference between cells (°) may be the seed's. Run seed=0,1,2."
        )
    undefined = [report.label(cell) for cell in report.everything.order if math.isnan(report.score(cell, "avg").mean)]
    if undefined:
        found.append(
            f"No score where a run predicts a constant (NaN, shown as {formats.NONE}): {'; '.join(undefined)}."
        )
    clips = len(study.truth["devel"].files)
    if clips < 300:
        found.append(f"Devel has {number(clips, 0)} clips: intervals are wide, and small differences cannot be seen.")
    return found


def _title(report: Report) -> str:
    return f"{', '.join(folder.name for folder in report.study.folders)} on {report.study.corpus['name']}"


def _markdown(report: Report, listed: list[Table], plots: list[Plot]) -> str:
    parts = [f"# {_title(report)}", "", headline(report), ""]
    parts += [f"> {text}\n" for text in warnings(report)]
    parts += [formats.markdown(table) for table in listed]
    for plot in plots:
        parts += [f"### {plot.title}", "", f"![{plot.title}](figures/{plot.name}.png)", "", plot.caption, ""]
    return "\n".join(parts)


def _html(report: Report, scores: list[Table], books: list[Table], plots: list[Plot], folder: Path) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pictures = {p.name: Picture(p.name, p.title, p.caption, _uri(folder / f"{p.name}.svg")) for p in plots}
    environment = Environment(
        loader=PackageLoader("emoshare.reporting", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("page.html.j2").render(
        title=_title(report),
        headline=headline(report),
        warnings=warnings(report),
        tables={table.name: table for table in scores},
        books=books,
        pictures=pictures,
    )


def _uri(path: Path) -> str:
    """As an image of its own, an SVG's element names cannot clash with those of another."""
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()
