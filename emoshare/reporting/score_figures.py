"""The report's figures of scores: the window curve, the grid, the emotions. Each is a function Report → Figure."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, NullLocator

from emoshare.core.plotting import BLUE, COLOURS, GREY, INK, MARKERS, ORANGE, canvas
from emoshare.metrics.rank import SCC
from emoshare.metrics.registry import AVG
from emoshare.reporting import paper_columns
from emoshare.reporting.analysis import Report
from emoshare.reporting.figure import ReportFigure, ink_on
from emoshare.reporting.formats import score, value
from emoshare.reporting.loaded import Cell
from emoshare.reporting.slices import BACKBONE, SECONDS
from emoshare.runs.folder import ABSENT

AVERAGE = "Avg = (SCC + CCC) / 2"
MOST_TICKS = 16  # that fit side by side below a figure
GAPS = {"failed": "×", ABSENT: "–", "running": "…", "interrupted": "…", "waiting": "", "nan": "NaN"}


def figures_of_scores(report: Report) -> list[ReportFigure]:
    """The figures of scores that the study has the runs for, in the order of the page."""
    made = []
    if report.windows and curves(report):
        caption = _curve_caption(report)
        made.append(
            ReportFigure("windows", f"{report.main.label} against window", caption, lambda: window_curve(report))
        )
    if report.grid:
        made.append(ReportFigure("grid", "Backbones and windows", _grid_caption(report), lambda: grid(report)))
    if report.by_target:
        title = f"{report.by_target[0].meaning} per emotion"
        made.append(ReportFigure("emotions", title, _emotion_caption(report), lambda: emotions(report)))
    return made


def curves(report: Report) -> dict[str, list[Cell]]:
    """Cells with results by backbone, windows ascending: the six best backbones that have more than one."""
    piece = report.grid or report.windows
    assert piece
    by_backbone: dict[str, list[Cell]] = {}
    for cell in piece.order:
        by_backbone.setdefault(str(cell.config.get(BACKBONE)), []).append(cell)
    lines = [item for item in by_backbone.items() if len(item[1]) > 1]
    lines.sort(key=lambda item: -max(report.level(cell) for cell in item[1]))
    return dict(lines[: len(COLOURS)])


def window_curve(report: Report) -> Figure:
    """The main score on devel against the window, intervals over clips, every run a dot, and the paper's Table IV."""
    figure, (axes,) = canvas(4.0)
    lines = curves(report)
    seconds = sorted({cell.config[SECONDS] for cells in lines.values() for cell in cells})
    logarithmic = seconds[-1] / seconds[0] > 15
    for number, (name, cells) in enumerate(lines.items()):
        shift = (number - (len(lines) - 1) / 2) * 0.006  # so that error bars are side by side
        places = [_shift(cell.config[SECONDS], shift, seconds, logarithmic) for cell in cells]
        _line(axes, report, cells, places, name, COLOURS[number], MARKERS[number])
    if report.paper and report.main is AVG:
        table = report.paper["windows"]
        places, scores = list(table["seconds"]), [row[AVG.name] for row in table["seconds"].values()]
        label = f"paper: {table['backbone']}"
        axes.plot(places, scores, color=GREY, ls="--", marker="s", mfc="white", ms=4, lw=1, label=label, zorder=1)
        seconds = sorted({*seconds, *places})
    axes.set(xlabel="Window (s)", ylabel=f"{AVERAGE if report.main is AVG else report.main.label} on devel")
    if logarithmic:
        axes.set_xscale("log")
        ticks = [tick for tick in (0.032, 0.1, 0.25, 0.5, 1, 2, 3, 4, 6, 10) if seconds[0] <= tick <= seconds[-1]]
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([f"{tick:g}" for tick in ticks])
    elif min(np.diff(seconds)) * MOST_TICKS >= seconds[-1] - seconds[0]:
        axes.set_xticks(seconds, [f"{tick:g}" for tick in seconds])
    figure.legend(loc="outside lower center", ncols=min(3, len(lines) + 1))
    return figure


def _shift(place: float, part: float, places: list[float], logarithmic: bool) -> float:
    """A place moved by a part of the axis' length."""
    if logarithmic:
        return place * (places[-1] / places[0]) ** part
    return place + part * (places[-1] - places[0])


def _line(
    axes: Axes, report: Report, cells: list[Cell], places: list[float], name: str, colour: str, marker: str
) -> None:
    scores = [report.score(cell, report.main.name) for cell in cells]
    mean = np.array([item.mean for item in scores])
    reach = np.abs(np.array([(item.low, item.high) for item in scores]).T - mean)  # (2, C)
    axes.errorbar(
        places, mean, yerr=reach, color=colour, marker=marker, ms=5, lw=1.5, elinewidth=1, capsize=2.5, label=name
    )
    for place, cell in zip(places, cells, strict=True):
        if len(cell.runs) > 1:
            values = cell.scores("devel", report.main.name)
            axes.scatter(
                [place] * len(values), values, s=10, color="white", edgecolors=colour, linewidths=0.7, zorder=1.5
            )


def _curve_caption(report: Report) -> str:
    text = f"Bars: 95 % bootstrap interval over {report.units}. "
    text += "Open dots: single runs. " if any(len(cell.runs) > 1 for cell in report.everything.order) else ""
    backbones = len(report.grid.values(BACKBONE)) if report.grid else 1
    text += f"The best {len(COLOURS)} of {backbones} backbones. " if backbones > len(COLOURS) else ""
    return text + ("Dashed: the paper's Table IV, one run per window." if report.paper and report.main is AVG else "")


def grid(report: Report) -> Figure:
    """The devel score of each backbone and window; hatched where there is no result, with the reason."""
    piece = report.grid
    assert piece
    rows, columns = piece.values(BACKBONE), piece.values(SECONDS)
    rows.sort(key=lambda name: -_best_level(report, [c for c in piece.order if c.config.get(BACKBONE) == name]))
    cells = {(cell.config.get(BACKBONE), cell.config.get(SECONDS)): cell for cell in piece.cells}
    values = np.full((len(rows), len(columns)), np.nan)
    figure, (axes,) = canvas(1.3 + 0.38 * len(rows))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            cell = cells.get((row, column))
            values[i, j] = report.score(cell, report.main.name).mean if cell else np.nan
    image = axes.imshow(values, cmap="cividis", aspect="auto")
    size = min(8, 93 / len(columns))  # points
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            cell = cells.get((row, column))
            if math.isfinite(values[i, j]):
                mark = "\n≈" if cell and piece.verdict(cell) == "tied" else ""
                weight = "bold" if cell is piece.best else "normal"
                text = score(values[i, j]).replace("0.", ".", 1) + mark
                _write(axes, i, j, text, ink_on(np.asarray(image.to_rgba(values[i, j]))), size, weight)
            else:
                _gap(axes, i, j, GAPS["nan" if cell and cell.runs else cell.state if cell else "waiting"], size)
    axes.set_xticks(range(len(columns)), [value(column) for column in columns], fontsize=size)
    axes.set_yticks(range(len(rows)), [str(row) for row in rows])
    axes.grid(False)
    axes.set(xlabel="Window (s)")
    figure.colorbar(image, ax=axes, label=f"{report.main.label} on devel", pad=0.01, aspect=35)
    return figure


def _best_level(report: Report, cells: list[Cell]) -> float:
    return max((report.level(cell) for cell in cells), default=-math.inf)


def _write(axes: Axes, row: int, column: int, text: str, colour: str, size: float, weight: str) -> None:
    axes.text(column, row, text, ha="center", va="center", color=colour, weight=weight, fontsize=size, linespacing=0.9)


def _gap(axes: Axes, row: int, column: int, text: str, size: float) -> None:
    corner = (column - 0.5, row - 0.5)
    axes.add_patch(Rectangle(corner, 1, 1, facecolor="#f3f4f6", edgecolor="#c4c9d1", hatch="////", linewidth=0))
    axes.text(
        column, row, text, ha="center", va="center", color=INK, fontsize=size,
        bbox={"facecolor": "#f3f4f6", "edgecolor": "none", "pad": 0.8},
    )  # fmt: skip


def _grid_caption(report: Report) -> str:
    text = f"{report.main.label} on devel, mean over runs, without the leading 0. Bold: the best. Hatched: no result "
    text += "(×: failed, –: not at hand, …: not finished, blank: not started, NaN: no score). "
    tied = report.grid and any(report.grid.verdict(cell) == "tied" for cell in report.grid.order)
    return text + (
        f"≈: not significantly {report.side} the best, the comparisons of this figure counted." if tied else ""
    )


def emotions(report: Report) -> Figure:
    """The first metric that scores emotions, of the best cell on devel and test, and the paper's Table V."""
    targets, metric = report.study.targets, report.by_target[0]
    parts = [part for part in ("devel", "test") if part in report.study.labels]
    figure, (axes,) = canvas(1.2 + 0.36 * len(targets))
    places = np.arange(len(targets))
    thick = 0.8 / len(parts)
    for number, (part, colour) in enumerate(zip(parts, (BLUE, ORANGE), strict=False)):
        scores = [report.score(report.best, metric.name, part, target) for target in targets]
        mean = np.array([item.mean for item in scores])
        reach = np.abs(np.array([(item.low, item.high) for item in scores]).T - mean)
        at = places + (number - (len(parts) - 1) / 2) * thick
        style: dict[str, Any] = {"ecolor": INK, "error_kw": {"elinewidth": 0.9, "capsize": 2}}
        axes.barh(at, mean, thick * 0.92, xerr=reach, color=colour, label=part, **style)
    if metric is SCC and (table := paper_columns.emotions_of(report)):
        published = [table[target] for target in targets]
        axes.plot(published, places, "D", color=INK, mfc="white", ms=4.5, label="paper: hubert_large, its test set")
    axes.set_yticks(places, targets)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set(xlabel=f"{metric.meaning} ({metric.label})")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _emotion_caption(report: Report) -> str:
    text = f"{report.best_in_words}, {report.short_label(report.best)}. "
    text += f"Bars: 95 % bootstrap interval over {report.units}."
    return text + ("" if "test" in report.study.labels else " Test labels are hidden.")
