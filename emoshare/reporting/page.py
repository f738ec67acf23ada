"""Writes the report's folder: tables and figures on a page, as Markdown, and as files for papers and programs."""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from emoshare.core.errors import EmoshareError
from emoshare.core.files import check_replaceable, replacing_folder, write_json
from emoshare.core.ranges import unit_lines
from emoshare.core.windows import window_name, window_of
from emoshare.metrics.error import MAE
from emoshare.metrics.scores import constant_targets, remark_lines
from emoshare.reporting import formats
from emoshare.reporting.analysis import Report
from emoshare.reporting.choices import tables_of_choices
from emoshare.reporting.class_tables import tables_of_classes
from emoshare.reporting.error_figures import figures_of_errors
from emoshare.reporting.figure import ReportFigure
from emoshare.reporting.formats import Table, interval, number, score
from emoshare.reporting.group_tables import tables_of_groups
from emoshare.reporting.label_tables import tables_of_labels
from emoshare.reporting.loaded import STATES, Cell
from emoshare.reporting.prediction_tables import WIDTH, tables_of_predictions
from emoshare.reporting.run_tables import tables_of_runs
from emoshare.reporting.score_figures import figures_of_scores
from emoshare.reporting.score_tables import tables_of_scores
from emoshare.reporting.slices import BACKBONE, SECONDS
from emoshare.runs.listing import in_words

if TYPE_CHECKING:
    from pandas import DataFrame

SUMMARY = "summary.json"
UNNAMED_SWEEP, UNNAMED_CORPUS = "default", "csv"  # names that the user did not choose, and that say nothing
FEW_CLIPS = 300  # fewer on devel are worth a warning
FEW_CLUSTERS = 20  # of speakers: the bootstrap over them needs some tens
SCORE_TABLES = (
    "backbones",
    "windows",
    "choices",
    "cells",
    "test",
    "emotions",
    "classes",
    "recalls",
    "systems",
    "groups",
    "gaps",
    "intervals",
    "entropy",
    "ceiling",
    "predictions",
)  # that the page shows first
VERDICTS = {
    "worse": "significantly below it",
    "tied": "not significantly below it",
    "unsettled": "below it by what may come from the seed",
    "untested": "without a score",
}


@dataclass(frozen=True)
class WrittenReport:
    """The written files of a report: its page, and its tables by the names of their files, every number in full."""

    page: Path
    tables: dict[str, DataFrame]


def save(report: Report, out: Path, narrow: bool = False) -> WrittenReport:
    """Write the report's folder: index.html, report.md, summary.json, tables/, figures/.

    Everything is made in a folder beside `out`, which then takes its place: at any moment the old report or
    the new one is there, also when two processes write at the same time.

    Raises:
        EmoshareError: `out` holds something that is not a report, or cannot be written.
    """
    check_replaceable(out, ("index.html", "report.md", SUMMARY, "tables", "figures"), "a report")
    try:
        with replacing_folder(out) as folder:
            tables = _fill(report, folder, out, narrow)
    except PermissionError as error:
        raise EmoshareError(f"{out}: cannot be written ({error.strerror}); name another folder with --out") from error
    return WrittenReport(out / "index.html", {table.name: table.frame for table in tables})


def all_tables(report: Report) -> list[Table]:
    """Every table that the study has the runs for, in the order of the page."""
    scores = tables_of_scores(report) + tables_of_choices(report)
    scores += tables_of_classes(report)
    scores += tables_of_groups(report) + tables_of_labels(report)
    scores += tables_of_predictions(report)
    return [with_unit(table, report) for table in scores] + tables_of_runs(report)


def with_unit(table: Table, report: Report) -> Table:
    """A table with the unit of its errors in its caption, where the corpus's labels have another than 0 to 1."""
    units = {metric.label: metric.unit for metric in (*report.metrics, MAE)}
    units |= {WIDTH: 1} if WIDTH in table.header else {}
    lines = unit_lines(units, report.run.results.range)
    return replace(table, caption=" ".join([table.caption, *(f"{line[0].upper()}{line[1:]}." for line in lines)]))


def all_figures(report: Report) -> list[ReportFigure]:
    """Every figure that the study has the runs for, in the order of the page."""
    return figures_of_scores(report) + figures_of_errors(report)


def _fill(report: Report, folder: Path, out: Path, narrow: bool) -> list[Table]:
    """Write everything into an empty folder, which is to become `out`; the tables."""
    tables, figures = all_tables(report), all_figures(report)
    for name in ("tables", "figures"):
        (folder / name).mkdir()
    for table in tables:
        (folder / "tables" / f"{table.name}.csv").write_text(formats.to_csv(table), encoding="utf-8")
    with formats.narrow() if narrow else nullcontext():
        for table in all_tables(report) if narrow else tables:
            (folder / "tables" / f"{table.name}.tex").write_text(formats.latex(table), encoding="utf-8")
    for figure in figures:
        figure.save(folder / "figures")
    (folder / "report.md").write_text(_markdown(report, tables, figures), encoding="utf-8")
    (folder / "index.html").write_text(_html(report, tables, figures, folder, out), encoding="utf-8")
    write_json(folder / SUMMARY, summary(report, out, tables, figures))
    return tables


def summary(
    report: Report, out: Path, tables: Sequence[Table] | None = None, figures: Sequence[ReportFigure] | None = None
) -> dict[str, Any]:
    """Plain numbers and the paths of the files in the report's folder `out`, for a logger or a script.

    Keys: "best/…" (cell, main metric and scores), "metrics" (name → label and direction), "runs/…" (counts),
    "<main metric>/<cell>" for every cell with results, "tables/<name>" and "figures/<name>" (paths).
    """
    cell, states = report.best, [run.state for run in report.study.runs]
    numbers: dict[str, Any] = {"best/cell": report.label(cell)}
    for part in report.study.labels:
        for metric in (metric.name for metric in report.metrics):
            item = report.score(cell, metric, part)
            numbers |= {f"best/{part}/{metric}": item.mean, f"best/{part}/{metric}_low": item.low}
            numbers |= {f"best/{part}/{metric}_high": item.high, f"best/{part}/{metric}_std": item.std}
    numbers["best/metric"] = report.main.name
    numbers["metrics"] = {metric.name: metric.facts for metric in report.metrics}
    numbers |= {f"runs/{state.replace(' ', '_')}": states.count(state) for state in ("done", *STATES)}
    numbers["runs/cells"] = len(report.study.cells)
    main = report.main.name
    numbers |= {f"{main}/{report.label(c)}": report.score(c, main).mean for c in report.everything.order}
    numbers |= {
        f"tables/{table.name}": str(out / "tables" / f"{table.name}.csv") for table in tables or all_tables(report)
    }
    figures = figures or all_figures(report)
    numbers |= {f"figures/{item.name}": str(out / "figures" / f"{item.name}.png") for item in figures}
    return {key: None if isinstance(item, float) and not math.isfinite(item) else item for key, item in numbers.items()}


def title(report: Report) -> str:
    """The sweep and the corpus; what was varied where the sweep has no name of its own."""
    study = report.study
    named = sorted({run.outcome.sweep for run in study.runs if run.outcome} - {UNNAMED_SWEEP})
    corpus = study.corpus.name
    if corpus == UNNAMED_CORPUS:
        corpus = Path(str(report.best.runs[0].config.get("data.root", corpus))).name or corpus
    return f"{', '.join(named) or _varying_text(report)} on {corpus}"


def _varying_text(report: Report) -> str:
    axes = [axis for axis in (BACKBONE, SECONDS) if axis in report.varying]
    if len(axes) == len(report.varying) > 0:
        names = {BACKBONE: "backbones", SECONDS: "windows"}
        cells = [cell for cell in report.study.cells if not cell.is_fusion]
        return " × ".join(f"{len({cell.config.get(axis) for cell in cells})} {names[axis]}" for axis in axes)
    count = len(report.study.cells)
    return f"{count} cells" if count > 1 else report.short_label(report.best)


def headline(report: Report) -> str:
    """The one sentence that a reader takes away."""
    main, first, cell = report.main, report.first, report.best
    item = report.score(cell, main.name)
    text = (
        f"{report.short_label(cell)} reaches {main.label} {score(item.mean)} {interval(item.low, item.high)} on devel"
    )
    if report.tested:
        text += f" and {first.label} {score(report.score(cell, first.name, 'test').mean)} on test"
    verdicts = [report.everything.verdict(c) for c in report.everything.order]
    words_of = {kind: words.replace("below", report.side) for kind, words in VERDICTS.items()}
    counts = [f"{verdicts.count(kind)} {words}" for kind, words in words_of.items() if kind in verdicts]
    return text + (f"; of the other cells, {', '.join(counts)}." if counts else ".")


def warnings(report: Report) -> list[str]:
    """The warnings that a reader must know before believing a number."""
    study, lines = report.study, []
    if study.corpus.name == "demo":
        lines.append("The demo corpus is synthetic: these numbers show that the pipeline works, nothing about emotion.")
    lines += [f"Of the corpus: {line}." for line in study.corpus.warnings]
    lost = [run.state for run in study.runs if run.state != "done"]
    if lost:
        counts = [f"{lost.count(state)} {words}" for state, words in STATES.items() if state in lost]
        lines.append(f"{len(lost)} of {len(study.runs)} runs have no results: {', '.join(counts)}.")
    folds = study.corpus.folds
    if folds:
        kind = "folds" if folds.by.isdigit() else f"folds, one for each {folds.by}"
        lines.append(
            f"Cross-validation with {folds.of} {kind}: devel is every clip of train and devel, predicted by the run "
            "that had not learned from it; test is predicted by the mean over the folds' runs."
        )
    for run in study.folds.missing:
        window = "" if run.is_fusion else f", {window_name(window_of(run.config))}"
        lines.append(f"{run.config.get(BACKBONE)}{window}{run.with_seed}: {run.error}.")
    for cell in (cell for cell in study.cells if cell.shared):
        lines.append(f"One model, trained and shown once: {report.short_label(cell)}, for {in_words(cell.shared)}.")
    if len(report.everything.order) > 1 and not report.everything.comparison.settled.all():
        lines.append(
            "Every cell has one run. Intervals and tests cover the choice of clips, not the training's randomness: a "
            "difference between cells (°) may come from the seed. Run seeds 0, 1 and 2."
        )
    undefined = [report.short_label(c) for c in report.everything.order if not math.isfinite(report.level(c))]
    if undefined:
        lines.append(f"No score (shown as {formats.NONE}): {'; '.join(undefined)}.")
    lines += [f"{line[0].upper()}{line[1:]}." for line in unusual(report)]
    clips = len(study.labels["devel"].files)
    if clips < FEW_CLIPS:
        lines.append(f"Devel has {number(clips, 0)} clips: intervals are wide, and small differences cannot be seen.")
    cluster = study.labels["devel"].cluster
    values = len(np.unique(study.labels["devel"].groups[cluster])) if cluster else FEW_CLUSTERS
    if values < FEW_CLUSTERS:
        text = f"Devel has {values} values of {cluster}: so few say little about others, and intervals are rough"
        few = study.labels["devel"].clusters is None
        lines.append(text + (f"; too few to draw by {cluster}: intervals are over single clips." if few else "."))
    return lines


def unusual(report: Report) -> list[str]:
    """Lines about means that are not over all targets, and about targets predicted as one share."""
    study, targets = report.study, report.study.targets
    same = {part: constant_targets(labels.shares, targets) for part, labels in study.labels.items()}
    lines = remark_lines({"undefined": {part: names for part, names in same.items() if names}}, targets)
    for names, folds in _folds_without(report).items():
        which = f"{'folds' if len(folds) > 1 else 'fold'} {', '.join(map(str, folds))}"
        text = (
            f"{which}: chosen by the mean over {len(targets) - len(names)} of {len(targets)} targets; undefined there, "
        )
        lines.append(f"{text}as all labels are equal: {', '.join(names)}")
    for cell in report.everything.order:
        constant = {part: _constant(report, cell, part, same[part]) for part in study.labels}
        told = remark_lines({"constant": {part: names for part, names in constant.items() if names}}, targets)
        lines += [f"{report.short_label(cell)}, {line}" for line in told]
    return lines


def _folds_without(report: Report) -> dict[tuple[str, ...], list[int]]:
    """Targets without a score on the devel clips of folds → those folds."""
    parts = [part.results for cell in report.everything.order for run in cell.runs for part in run.parts]
    known = {
        part.corpus.folds.fold: tuple(part.remarks.get("undefined", {}).get("devel", ()))
        for part in parts
        if part.corpus.folds
    }
    folds: dict[tuple[str, ...], list[int]] = {}
    for fold, names in sorted(known.items()):
        if names:
            folds.setdefault(names, []).append(fold)
    return folds


def _constant(report: Report, cell: Cell, partition: str, without: list[str]) -> list[str]:
    """The targets that a run of a cell predicts as one share, but for those whose labels are."""
    constant = zip(report.study.targets, report.resampled[cell.key, partition].constant, strict=True)
    return [target for target, same in constant if same and target not in without]


def _markdown(report: Report, tables: Sequence[Table], figures: Sequence[ReportFigure]) -> str:
    escape = formats.escape_markdown
    parts = [f"# {escape(title(report))}", "", escape(headline(report)), ""]
    parts += [f"> {escape(text)}\n" for text in warnings(report)]
    parts += [f"{report.not_paper}\n"] if report.not_paper else []
    parts += [formats.markdown(table) for table in tables]
    for item in figures:
        parts += [f"### {item.title}", "", f"![{item.title}](figures/{item.name}.png)", "", escape(item.caption), ""]
    return "\n".join(parts)


def _html(report: Report, tables: Sequence[Table], figures: Sequence[ReportFigure], folder: Path, out: Path) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    here = out.resolve()

    def href(link: str) -> str:
        """The target of a link on the page: a folder relative to the report, so that both can be moved together."""
        return link if link.startswith("http") else quote(os.path.relpath(link, here))

    environment = Environment(
        loader=PackageLoader("emoshare.reporting", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("page.html.j2").render(
        title=title(report),
        headline=headline(report),
        warnings=warnings(report),
        note=report.not_paper,
        score_tables={table.name: table for table in tables if table.name in SCORE_TABLES},
        run_tables=[table for table in tables if table.name not in SCORE_TABLES],
        figures={item.name: item for item in figures},
        picture=lambda name: _data_uri(folder / "figures" / f"{name}.svg"),
        href=href,
    )


def _data_uri(path: Path) -> str:
    """An SVG as an image of its own, so that its element names cannot clash with those of another."""
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()
