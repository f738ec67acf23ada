"""Figures of a corpus and of a run, and the style that these and the report's share.

matplotlib takes a second to import: import this module where a figure is drawn.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from emoshare.files import replacing

if TYPE_CHECKING:
    from emoshare.corpus import Corpus

# Okabe and Ito's colours stay apart for colour-blind readers; their yellow is too light for paper.
BLUE, ORANGE, GREEN, RED, PINK, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
COLOURS = (BLUE, RED, GREEN, PINK, ORANGE, SKY)
MARKERS = "osD^vP"
INK, GREY, PALE = "#1b1f24", "#6b7280", "#e5e7eb"
WIDTH = 7.2  # inches

RC: dict[Any, Any] = {
    "font.size": 9, "axes.titlesize": 9.5, "axes.labelsize": 9, "legend.fontsize": 8.5,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": GREY, "axes.linewidth": 0.8,
    "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.grid": True, "grid.color": PALE, "grid.linewidth": 0.7, "axes.axisbelow": True,
    "figure.facecolor": "white", "axes.facecolor": "white", "legend.frameon": False,
    "svg.hashsalt": "emoshare", "hatch.linewidth": 0.6, "text.parse_math": False,  # a label may hold a $
}  # fmt: skip
STYLES = {"train": (BLUE, "-"), "devel": (RED, "--"), "test": (GREEN, ":")}


def canvas(
    height: float, rows: int = 1, columns: int = 1, sharex: bool = False, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure of the page's width and its axes, row by row."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False)
    return figure, list(axes.ravel())


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=160)


def corpus_figure(corpus: Corpus, path: Path) -> None:
    """A PNG: how shares (one panel per emotion) and durations are distributed, in percent of a partition's clips."""
    panels = len(corpus.targets) + 1
    columns = min(5, panels)
    rows = math.ceil(panels / columns)
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(2.6 * max(columns, 2), 2.2 * rows + 0.7), layout="constrained")
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for e, target in enumerate(corpus.targets):
            known = {name: part.shares[:, e] for name, part in corpus.partitions.items() if part.shares is not None}
            histogram(axes[e], known, np.linspace(0, 1, 11), target, "Share")
        top = max(axis.get_ylim()[1] for axis in axes[: panels - 1])
        for axis in axes[: panels - 1]:
            axis.set_ylim(0, top)  # one scale: shares of different emotions are compared
        longest = float(corpus.seconds.max())
        durations = {name: part.seconds for name, part in corpus.partitions.items()}
        histogram(axes[panels - 1], durations, np.linspace(0, longest, 21), "Duration", "Seconds")
        for axis in axes[panels:]:
            axis.set_axis_off()
        lines, names = axes[panels - 1].get_legend_handles_labels()
        figure.legend(lines, names, loc="outside upper center", ncols=len(names))
        save(figure, path)


def histogram(axis: Axes, values: dict[str, np.ndarray], edges: np.ndarray, title: str, label: str) -> None:
    """One outline per partition."""
    for name, column in values.items():
        colour, line = STYLES[name]
        percent = 100 * np.histogram(column, edges)[0] / len(column)
        axis.stairs(percent, edges, color=colour, linestyle=line, linewidth=1.4, label=name)
    axis.set(title=title, xlabel=label, ylabel="% of clips", xlim=(edges[0], edges[-1]), ylim=(0, None))
    axis.yaxis.set_major_locator(MaxNLocator(5, integer=True))


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by column."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def learning_curve(metrics: Path, path: Path) -> None:
    """Loss on train and devel, and devel SCC, CCC and Avg, over the epochs of a metrics.csv."""
    table = rows(metrics)
    epochs = [int(row["epoch"]) + 1 for row in table]
    with matplotlib.rc_context(RC):
        figure, (losses, scores) = canvas(3.0, 1, 2)
        for name, colour, style in (("train/loss", BLUE, "-"), ("devel/loss", RED, "--")):
            losses.plot(epochs, [float(row[name]) for row in table], style, color=colour, label=name.split("/")[0])
        losses.set(xlabel="Epoch", ylabel="Loss")
        for name, colour, style in (("scc", BLUE, "--"), ("ccc", RED, ":"), ("avg", INK, "-")):
            label = "Avg" if name == "avg" else name.upper()
            scores.plot(epochs, [float(row[f"devel/{name}"]) for row in table], style, color=colour, label=label)
        averages = np.array([float(row["devel/avg"]) for row in table])
        if np.isfinite(averages).any():
            best = int(np.nanargmax(averages))
            scores.plot(epochs[best], averages[best], "o", color=INK, label=f"best: epoch {epochs[best]}")
        scores.set(xlabel="Epoch", ylabel="Devel score")
        for axes in (losses, scores):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.legend()
        save(figure, path)


def predicted_true(predictions: Path, reference: Path, path: Path) -> None:
    """Predicted against true shares, a small panel per emotion."""
    predicted, true = rows(predictions), rows(reference)
    targets = [name for name in predicted[0] if name != "filename"]
    x, y = (np.array([[float(row[t]) for t in targets] for row in table]) for table in (true, predicted))
    columns = min(len(targets), 3)
    count = math.ceil(len(targets) / columns)
    top = max(x.max(), y.max())
    with matplotlib.rc_context(RC):
        figure, panels = canvas(2.3 * count + 0.4, count, columns, sharex=True, sharey=True)
        for panel, target, true_shares, shares in zip(panels, targets, x.T, y.T, strict=False):
            panel.plot([0, top], [0, top], "--", color=RED, linewidth=0.8)
            panel.scatter(true_shares, shares, s=5, color=BLUE, alpha=min(1.0, 60 / len(x) + 0.15), linewidths=0)
            panel.set_title(target)
        for panel in panels[len(targets) :]:
            panel.set_visible(False)
        figure.supxlabel("True share", fontsize=9)
        figure.supylabel("Predicted share", fontsize=9)
        save(figure, path)
