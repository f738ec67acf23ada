"""The report's figures of the best cell: how it learned, and how it errs. Each is a function Report → Figure.

They show devel, and the run of the best cell with the best devel score. Shapes: N clips, E targets.
"""

from __future__ import annotations

import csv
import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats

from emoshare.core.hashing import check_file
from emoshare.core.plotting import BLUE, COLOURS, INK, MARKERS, RED, canvas, line_styles
from emoshare.core.ranges import label_words, to_range, width
from emoshare.models.classes import confusion_matrix
from emoshare.reporting.analysis import Report
from emoshare.reporting.figure import ReportFigure, ink_on
from emoshare.reporting.formats import score
from emoshare.reporting.loaded import Cell, LoadedRun
from emoshare.reporting.slices import SECONDS

BINS = 10
COLUMNS = 3  # of small panels


def figures_of_errors(report: Report) -> list[ReportFigure]:
    """Figures of the best cell's errors: learning curves, predicted against true, calibration, duration, correlation.

    Without those of predictions where the best run's own are no numbers.
    """
    best = report.short_label(report.best)
    made = []
    if any(_epochs(run) for run in report.best.trained_runs):
        labels = ", ".join(metric.label for metric in report.metrics)
        caption = f"{best}: loss, and devel {labels}, over the epochs; a line per run. Dot: the epoch kept."
        made.append(ReportFigure("learning", "Learning curves", caption, lambda: learning_curves(report)))
    if not np.isfinite(_shares(report)[1]).all():
        return made
    which = f"Devel, the best run of {best}{report.run.with_seed}."
    bins = f"{BINS} bins of equally many clips"
    if report.study.labels["devel"].one_hot:
        caption = f"{which} Rows: the clip's emotion; columns: the one with the highest predicted share."
        made.append(ReportFigure("confusion", "Confusion of emotions", caption, lambda: confusion(report)))
    else:
        caption = f"{which} Dashed: predicted = true."
        made.append(ReportFigure("predicted", "Predicted against true shares", caption, lambda: density(report)))
    caption = f"{which} Mean true share against mean predicted share in {bins}; bars: 95 % interval of the mean. "
    caption += "Dashed: a calibrated model."
    made.append(ReportFigure("calibration", "Calibration of shares", caption, lambda: calibration(report)))
    caption = f"Devel, mean absolute error over all targets and runs of a cell in {bins} of increasing duration; bars: "
    caption += "95 % interval of the mean. Dotted: where a window of that length ends."
    made.append(ReportFigure("duration", "Error against clip duration", caption, lambda: durations(report)))
    if len(report.study.targets) > 1 and not report.study.labels["devel"].one_hot:
        caption = f"{which} Spearman's correlation between the shares of two targets over clips."
        made.append(ReportFigure("correlation", "Correlation between emotions", caption, lambda: correlation(report)))
    return made


def learning_curves(report: Report) -> Figure:
    """Loss on train and devel, and the devel scores, over the epochs of every run of the best cell."""
    figure, (losses, scores) = canvas(3.1, 1, 2)
    lines = [(losses, "train/loss", "train", BLUE, "-"), (losses, "devel/loss", "devel", RED, "--")]
    main, labels = report.main, {metric.name: metric.label for metric in report.metrics}
    for name, (colour, style) in line_styles(labels, main.name).items():
        lines.append((scores, f"devel/{name}", labels[name], colour, style))
    for number, run in enumerate(report.best.trained_runs):
        columns = _epochs(run)
        for axes, column, label, colour, style in lines:
            values = columns.get(column, np.array([]))
            epochs = np.arange(1, len(values) + 1)
            shown = label if number == 0 else None
            axes.plot(epochs, values, style, color=colour, lw=1.2, alpha=0.8, label=shown)
        best, averages = run.results.best.epoch, columns.get(f"devel/{main.name}", np.array([]))
        if best is not None and best < len(averages):
            scores.plot(best + 1, averages[best], "o", color=INK, ms=4)
    losses.set(xlabel="Epoch", ylabel="Loss")
    scores.set(xlabel="Epoch", ylabel="Score on devel")
    for axes in (losses, scores):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    return figure


def _epochs(run: LoadedRun) -> dict[str, np.ndarray]:
    """The numeric columns of a run's metrics.csv, an epoch per row; empty where there is none.

    Raises EmoshareError where it is not what was written.
    """
    path = run.folder / "metrics.csv"
    check_file(path, run.results.files.get(path.name), "delete it, and the report leaves this run's curves out")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        names = rows[0] if rows else ()
        return {name: np.array([float(row[name] or "nan") for row in rows]) for name in names}
    except (OSError, ValueError, TypeError, csv.Error):
        return {}


def confusion(report: Report) -> Figure:
    """Confusion: how often clips of an emotion (rows) have their highest predicted share at another (columns)."""
    true, shares = _shares(report)
    targets = report.study.targets
    counts = confusion_matrix(true, shares)
    with np.errstate(invalid="ignore"):
        parts = counts / counts.sum(axis=1, keepdims=True)  # of the row's clips
    figure, (axes,) = canvas(1.6 + 0.42 * len(targets))
    image = axes.imshow(parts, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(targets)), targets, rotation=45, ha="right")
    axes.set_yticks(range(len(targets)), targets)
    axes.set(xlabel="Highest predicted share", ylabel="Emotion of the clip")
    axes.grid(False)
    for i, j in np.ndindex(counts.shape):
        colour = ink_on(np.asarray(image.to_rgba(parts[i, j]))) if math.isfinite(parts[i, j]) else INK
        axes.text(j, i, f"{counts[i, j]:,}", ha="center", va="center", fontsize=7.5, color=colour)
    figure.colorbar(image, ax=axes, label="Part of the emotion's clips", pad=0.01, aspect=35)
    return figure


def density(report: Report) -> Figure:
    """A small panel per target: how often which predicted share meets which true one."""
    true, shares = _shares(report)
    figure, axes = _panels(len(report.study.targets))
    low, high = _limits(true, shares)
    extent = (low, high, low, high)
    colours = LinearSegmentedColormap.from_list("ink", ["#b6cfe6", BLUE, "#0a2540"])  # one clip is still seen on white
    images = []
    for e, target in enumerate(report.study.targets):
        x, y = true[:, e], shares[:, e]
        images.append(axes[e].hexbin(x, y, gridsize=28, extent=extent, mincnt=1, linewidths=0.1, cmap=colours))
        _diagonal(axes[e], low, high)
        run = report.run
        scores = [
            f"{metric.label} {score(run.results.score('devel', metric.name, target))}" for metric in report.by_target
        ]
        axes[e].set_title(f"{target}\n{', '.join(scores)}")
    top = max(2, *(int(np.max(image.get_array())) for image in images))  # type: ignore[arg-type]
    for image in images:
        image.set_norm(LogNorm(1, top))
    _entitle(figure, report, "True", "Predicted")
    ticks = [tick for power in range(7) for tick in (10**power, 2 * 10**power, 5 * 10**power) if tick <= top]
    bar = figure.colorbar(images[0], ax=axes, label="Clips", shrink=0.5, pad=0.02)
    bar.set_ticks(ticks, labels=[str(tick) for tick in ticks], minor=False)
    bar.minorticks_off()
    return figure


def calibration(report: Report) -> Figure:
    """A small panel per target: the mean true share of clips with about the same predicted one."""
    true, shares = _shares(report)
    figure, axes = _panels(len(report.study.targets))
    means = [bin_means(shares[:, e], true[:, e]) for e in range(true.shape[1])]
    ends = [y + sign * np.nan_to_num(reach) for _, y, reach in means for sign in (-1, 1)]
    low, high = _limits(*ends, *(x for x, _, _ in means))
    for e, target in enumerate(report.study.targets):
        x, y, error = means[e]
        _diagonal(axes[e], low, high)
        axes[e].errorbar(x, y, yerr=error, color=BLUE, marker="o", ms=3.5, lw=1, capsize=2)
        axes[e].set_title(target)
    _entitle(figure, report, "Mean predicted", "Mean true")
    return figure


def durations(report: Report) -> Figure:
    """Mean absolute error against the clip's duration, for the best window, the shortest and the longest."""
    figure, (axes,) = canvas(3.6)
    labels = report.study.labels["devel"]
    shown = _windows(report)
    ends = {cell.config.get(SECONDS) for cell in shown}
    for number, cell in enumerate(shown):
        predictions = [report.study.predictions(run, "devel") for run in cell.runs]  # R of (N, E)
        errors = [np.abs(shares - labels.shares).mean(axis=1) for shares in predictions if np.isfinite(shares).all()]
        if not errors:
            continue
        error = width(report.run.results.range) * np.mean(errors, axis=0)  # (N,)
        x, y, reach = bin_means(labels.seconds, error)
        shift = 0.006 * (number - (len(shown) - 1) / 2) * np.ptp(labels.seconds)  # so that bars are side by side
        axes.errorbar(
            x + shift, y, yerr=reach, color=COLOURS[number], marker=MARKERS[number], ms=4.5, lw=1.3, capsize=2,
            label=report.short_label(cell),
        )  # fmt: skip
        end = cell.config.get(SECONDS, math.nan)
        if labels.seconds.min() <= end <= labels.seconds.max():
            axes.axvline(end, color=COLOURS[number], ls=":", lw=1.2)
    axes.set(xlabel="Clip duration (s)", ylabel=f"Mean absolute error ({label_words(report.run.results.range)})")
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", ncols=1 if len(ends) > 2 else 2)
    return figure


def _windows(report: Report) -> list[Cell]:
    """The best cell, and with it the shortest and the longest window that differ from it in nothing else."""
    best = report.best
    if not report.windows or best not in report.windows.order:
        return [best]
    order = report.windows.order
    return list({cell.key: cell for cell in (best, order[0], order[-1])}.values())


def correlation(report: Report) -> Figure:
    """Two E × E matrices: which emotions go together in the labels, and in the predictions."""
    true, shares = _shares(report)
    targets = report.study.targets
    figure, axes = canvas(4.4, 1, 2, sharey=True)
    for axis, values, title in zip(axes, (true, shares), ("True shares", "Predicted shares"), strict=True):
        matrix = spearman_matrix(values)
        image = axis.imshow(matrix, cmap="PuOr", vmin=-1, vmax=1)
        axis.set_xticks(range(len(targets)), targets, rotation=90)
        axis.set_yticks(range(len(targets)), targets)
        axis.set_title(title)
        axis.grid(False)
        if len(targets) <= 12:
            for i, j in np.ndindex(matrix.shape):
                colour = ink_on(np.asarray(image.to_rgba(matrix[i, j]))) if math.isfinite(matrix[i, j]) else INK
                axis.text(j, i, _short(float(matrix[i, j])), ha="center", va="center", fontsize=6, color=colour)
    bar = figure.colorbar(image, ax=axes, label="Spearman's correlation", location="bottom", shrink=0.5, pad=0.03)
    bar.set_ticks([-1, -0.5, 0, 0.5, 1])
    return figure


def spearman_matrix(values: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each pair of columns, (N, E) → (E, E); NaN for constant columns."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.atleast_2d(np.corrcoef(stats.rankdata(values, axis=0), rowvar=False))


def bin_means(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of x, mean of y and half the 95 % interval of the latter, in bins of equally many clips by x.

    Clips with equal x share a bin, so that a constant x gives a single one. (N,) and (N,) → three times (bins,).
    """
    edges = np.unique(np.quantile(x, np.linspace(0, 1, BINS + 1)))
    places = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, max(len(edges) - 2, 0))
    groups = [np.flatnonzero(places == place) for place in np.unique(places)]
    reach = [
        stats.t.ppf(0.975, len(g) - 1) * y[g].std(ddof=1) / math.sqrt(len(g)) if len(g) > 1 else math.nan
        for g in groups
    ]
    return np.array([x[g].mean() for g in groups]), np.array([y[g].mean() for g in groups]), np.array(reach)


def _shares(report: Report) -> tuple[np.ndarray, np.ndarray]:
    """True and predicted shares on devel, (N, E) each, in the range of the labels."""
    span = report.run.results.range
    return to_range(report.study.labels["devel"].shares, span), to_range(
        report.study.predictions(report.run, "devel"), span
    )


def _entitle(figure: Figure, report: Report, x: str, y: str) -> None:
    words = label_words(report.run.results.range)
    figure.supxlabel(f"{x} {words}", fontsize=9)
    figure.supylabel(f"{y} {words}", fontsize=9)


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(COLUMNS, count)
    rows = math.ceil(count / columns)
    figure, axes = canvas(0.5 + 2.3 * rows, rows, columns, sharex=True, sharey=True)
    for spare in axes[count:]:
        spare.remove()
    return figure, axes[:count]


def _limits(*values: np.ndarray) -> tuple[float, float]:
    """Common limits of both axes, a little beyond the data."""
    low, high = min(float(np.nanmin(v)) for v in values), max(float(np.nanmax(v)) for v in values)
    margin = 0.03 * (high - low) or 0.05
    return low - margin, high + margin


def _diagonal(axes: Axes, low: float, high: float) -> None:
    axes.plot([low, high], [low, high], color=RED, ls="--", lw=1, zorder=1.5)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")


def _short(number: float) -> str:
    """A correlation in a small square: two decimals, no leading zero."""
    return f"{number:z.2f}".replace("0.", ".").replace("-", "−") if math.isfinite(number) else "–"
