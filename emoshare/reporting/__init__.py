"""From run folders to tables and figures: `write` does it all; `build`, `save` and `summary` are its steps.

```python
from emoshare import reporting

report = reporting.build([Path("outputs/table4")])  # collect runs, resample, compare
written = reporting.save(report, Path("outputs/table4/report"))  # .page, and .tables as DataFrames
print(reporting.markdown(reporting.windows(report)))  # a single table
```

Floor 5. May import core, metrics, data, models, backbones, store and runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from emoshare.reporting.analysis import Report, Score, build
from emoshare.reporting.figure import ReportFigure
from emoshare.reporting.formats import Table, markdown
from emoshare.reporting.loaded import Cell, LoadedRun
from emoshare.reporting.page import WrittenReport, all_figures, all_tables, headline, save, summary
from emoshare.reporting.score_tables import backbones, cells, emotions, systems, tables_of_scores, windows
from emoshare.reporting.study import Study, collect, newest

__all__ = [
    "Cell",
    "LoadedRun",
    "Report",
    "ReportFigure",
    "Score",
    "Study",
    "Table",
    "WrittenReport",
    "all_figures",
    "all_tables",
    "backbones",
    "build",
    "cells",
    "collect",
    "emotions",
    "headline",
    "markdown",
    "newest",
    "save",
    "summary",
    "systems",
    "tables_of_scores",
    "windows",
    "write",
]  # fmt: skip


def write(
    sweeps: Sequence[Path], out: Path | None = None, resamples: int = 1000, narrow: bool = False
) -> WrittenReport:
    """Write the report of all runs below the sweeps' folders.

    Args:
        sweeps: folders to search.
        out: the report's folder; by default `report` in the first sweep.
        resamples: of the bootstrap over clips.
        narrow: whether the LaTeX tables are to fit a column: two decimals, no intervals.

    Raises:
        EmoshareError: see `study.collect` and `page.save`; nothing is written then.
    """
    report = build(sweeps, resamples, keep=out is None)  # a report elsewhere writes nothing into the sweep
    return save(report, Path(sweeps[0]) / "report" if out is None else Path(out), narrow)
