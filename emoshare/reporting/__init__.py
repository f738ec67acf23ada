"""From run folders to tables and figures: `write` does it all; `build`, `render` and `summary` are its steps.

```python
from emoshare import reporting as report

study = report.build([Path("outputs/table4")])      # collect runs, resample, compare
page = report.render(study, Path("outputs/table4/report"))
print(report.markdown(report.windows(study)))       # a single table
```
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from emoshare.reporting.analysis import Report, Score, build
from emoshare.reporting.formats import Table, markdown
from emoshare.reporting.page import render, summary
from emoshare.reporting.score_figures import plots
from emoshare.reporting.score_tables import backbones, cells, emotions, windows
from emoshare.reporting.study import Cell, Run, Study, collect

__all__ = [
    "Cell", "Report", "Run", "Score", "Study", "Table", "backbones", "build", "cells", "collect", "emotions",
    "markdown", "plots", "render", "summary", "windows", "write",
]  # fmt: skip


def write(sweeps: Sequence[Path], out: Path | None = None, resamples: int = 1000) -> Path:
    """Write the report of all runs below the sweeps' folders.

    Args:
        sweeps: folders to search.
        out: the report's folder; by default `report` in the first sweep.
        resamples: of the bootstrap over clips.

    Returns:
        The path of its index.html.

    Raises:
        EmoshareError: see `collect.collect` and `page.render`; nothing is written then.
    """
    return render(build(sweeps, resamples), Path(sweeps[0]) / "report" if out is None else Path(out))
