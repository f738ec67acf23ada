"""Print the tables of docs/losses.md from two sweeps: `python docs/losses.py outputs/losses outputs/losses-votes`.

Devel, means over the seeds of a cell with their 95 % bootstrap interval.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from emoshare import reporting
from emoshare.reporting.loaded import Cell

LOSSES = ("ccc", "mse", "mae", "kl", "js", "bce", "focal_bce")


def loss_of(cell: Cell) -> str:
    """`kl`, or `kl + 0.5 ccc`: the losses of a cell with their weights."""
    weights = {name: cell.config.get(f"loss.{name}", 0) for name in LOSSES}
    return " + ".join(f"{weight:g} {name}".removeprefix("1 ") for name, weight in weights.items() if weight)


def rows(report: reporting.Report) -> Iterator[str]:
    """The lines of a Markdown table, a row for each loss and output."""
    yield " | ".join(["| Loss | Output", *(metric.label for metric in report.metrics if not metric.parts)]) + " |"
    metrics = [metric for metric in report.metrics if not metric.parts]
    yield "| --- | ---" + " | ---:" * len(metrics) + " |"
    cells = sorted(
        report.everything.order,
        key=lambda cell: (str(cell.config["head.output"]), LOSSES.index(loss_of(cell).split()[-1])),
    )
    for cell in cells:
        scores = [report.score(cell, metric.name) for metric in metrics]
        texts = [f"{item.mean:.3f} [{item.low:.3f}, {item.high:.3f}]" for item in scores]
        yield " | ".join([f"| `{loss_of(cell)}`", str(cell.config["head.output"]), *texts]) + " |"


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        print(f"\n{folder}\n", *rows(reporting.build([Path(folder)])), sep="\n")
