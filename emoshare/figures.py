"""The figure of a corpus, for `emoshare check`."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emoshare.errors import EmoshareError

if TYPE_CHECKING:
    from emoshare.corpus import Corpus

STYLES = {"train": ("#0072B2", "-"), "devel": ("#D55E00", "--"), "test": ("#009E73", ":")}  # Okabe and Ito's colours


def corpus_figure(corpus: Corpus, path: Path) -> None:
    """A PNG: how shares (one panel per emotion) and durations are distributed, in percent of a partition's clips."""
    from matplotlib.figure import Figure

    panels = len(corpus.targets) + 1
    columns = min(5, panels)
    rows = math.ceil(panels / columns)
    figure = Figure(figsize=(2.6 * max(columns, 2), 2.2 * rows + 0.7), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for e, target in enumerate(corpus.targets):
        known = {name: part.shares[:, e] for name, part in corpus.partitions.items() if part.shares is not None}
        histogram(axes[e], known, np.linspace(0, 1, 11), target, "share")
    top = max(axis.get_ylim()[1] for axis in axes[: panels - 1])
    for axis in axes[: panels - 1]:
        axis.set_ylim(0, top)  # one scale: shares of different emotions are compared
    longest = float(corpus.seconds.max())
    durations = {name: part.seconds for name, part in corpus.partitions.items()}
    histogram(axes[panels - 1], durations, np.linspace(0, longest, 21), "Duration", "seconds")
    for axis in axes[panels:]:
        axis.set_axis_off()
    lines, names = axes[panels - 1].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside upper center", ncols=len(names), frameon=False)
    save(figure, path)


def histogram(axis: Any, values: dict[str, np.ndarray], edges: np.ndarray, title: str, label: str) -> None:
    """One outline per partition."""
    for name, column in values.items():
        colour, line = STYLES[name]
        percent = 100 * np.histogram(column, edges)[0] / len(column)
        axis.stairs(percent, edges, color=colour, linestyle=line, linewidth=1.4, label=name)
    axis.set(title=title, xlabel=label, ylabel="% of clips", xlim=(edges[0], edges[-1]), ylim=(0, None))
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    axis.yaxis.get_major_locator().set_params(integer=True, nbins=5)


def save(figure: Any, path: Path) -> None:
    """Write a figure, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(temporary, format=path.suffix[1:], dpi=150)
        os.replace(temporary, path)
    except OSError as error:
        if temporary.exists():
            temporary.unlink()
        raise EmoshareError(f"{path}: cannot be written: {error.strerror}") from None
