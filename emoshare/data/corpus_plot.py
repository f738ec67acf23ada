"""The figure of a corpus: how shares and durations are distributed."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from emoshare.core.plotting import RC, STYLES, save
from emoshare.core.ranges import to_range
from emoshare.data.partition import Corpus


def corpus_figure(corpus: Corpus, path: Path) -> None:
    """A PNG: how shares (one panel per emotion) and durations are distributed, in percent of a partition's clips."""
    panels = len(corpus.targets) + 1
    columns = min(5, panels)
    rows = math.ceil(panels / columns)
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(2.6 * max(columns, 2), 2.2 * rows + 0.7), layout="constrained")
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for e, target in enumerate(corpus.targets):
            shares = {name: part.shares[:, e] for name, part in corpus.partitions.items() if part.shares is not None}
            known = {name: to_range(column, corpus.range) for name, column in shares.items()}
            label = "Share" if list(corpus.range) == [0, 1] else "Label"
            histogram(axes[e], known, np.linspace(corpus.range[0], corpus.range[1], 11), target, label)
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
        if not len(column):
            continue
        colour, line = STYLES[name]
        percent = 100 * np.histogram(column, edges)[0] / len(column)
        axis.stairs(percent, edges, color=colour, linestyle=line, linewidth=1.4, label=name)
    axis.set(title=title, xlabel=label, ylabel="% of clips", xlim=(edges[0], edges[-1]), ylim=(0, None))
    axis.yaxis.set_major_locator(MaxNLocator(5, integer=True))
