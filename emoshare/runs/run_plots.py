"""The figures of a run: its learning curve, and predicted against true shares."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ticker import MaxNLocator

from emoshare.core.plotting import BLUE, INK, RC, RED, canvas, line_styles, save
from emoshare.core.ranges import label_words
from emoshare.metrics.metric import Metric
from emoshare.metrics.registry import STANDARD, principal


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by column."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def learning_curve(history: Path, path: Path, metrics: Sequence[Metric] = STANDARD) -> None:
    """Plot the loss on train and devel, and the devel scores by the metrics, over the epochs of a metrics.csv."""
    table, main = rows(history), principal(metrics)
    labels = {metric.name: metric.label for metric in metrics}
    epochs = [int(row["epoch"]) + 1 for row in table]
    with matplotlib.rc_context(RC):
        figure, (losses, scores) = canvas(3.0, 1, 2)
        for name, colour, style in (("train/loss", BLUE, "-"), ("devel/loss", RED, "--")):
            losses.plot(epochs, [float(row[name]) for row in table], style, color=colour, label=name.split("/")[0])
        losses.set(xlabel="Epoch", ylabel="Loss")
        for name, (colour, style) in line_styles(labels, main.name).items():
            values = [float(row[f"devel/{name}"]) for row in table]
            scores.plot(epochs, values, style, color=colour, label=labels[name])
        values = [float(row[f"devel/{main.name}"]) for row in table]
        if np.isfinite(values).any():
            best = main.best(values)
            scores.plot(epochs[best], values[best], "o", color=INK, label=f"best: epoch {epochs[best]}")
        scores.set(xlabel="Epoch", ylabel="Devel score")
        for axes in (losses, scores):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.legend()
        save(figure, path)


def share_scatter(predictions: Path, reference: Path, path: Path, span: Sequence[float] = (0, 1)) -> None:
    """Plot predicted against true shares, a small panel per emotion; span: the range of the labels."""
    predicted, true = rows(predictions), rows(reference)
    targets = [name for name in predicted[0] if name != "filename"]
    x, y = (np.array([[float(row[t]) for t in targets] for row in table]) for table in (true, predicted))
    columns = min(len(targets), 3)
    count = math.ceil(len(targets) / columns)
    low, top = min(x.min(), y.min(), span[0]), max(x.max(), y.max())
    with matplotlib.rc_context(RC):
        figure, panels = canvas(2.3 * count + 0.4, count, columns, sharex=True, sharey=True)
        for panel, target, true_shares, shares in zip(panels, targets, x.T, y.T, strict=False):
            panel.plot([low, top], [low, top], "--", color=RED, linewidth=0.8)
            panel.scatter(true_shares, shares, s=5, color=BLUE, alpha=min(1.0, 60 / len(x) + 0.15), linewidths=0)
            panel.set_title(target)
        for panel in panels[len(targets) :]:
            panel.set_visible(False)
        figure.supxlabel(f"True {label_words(span)}", fontsize=9)
        figure.supylabel(f"Predicted {label_words(span)}", fontsize=9)
        save(figure, path)
