"""A workspace on W&B with what one compares in a sweep: Avg by backbone and window, all keys at once, the tables.

Its panels are queries: they show the runs that the sweep has when somebody looks. Needs the extra `workspaces`.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from emoshare.core.errors import EmoshareError
from emoshare.core.files import read_json
from emoshare.metrics.metric import Metric, OwnMetric
from emoshare.metrics.registry import STANDARD, principal, recorded_metric
from emoshare.reporting.page import WrittenReport

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Section, Workspace

log = logging.getLogger("emoshare")
BACKBONE, SECONDS = "backbone.name", "window.seconds"


def save(sweep: str, run: Any, report: WrittenReport) -> str | None:
    """Make the workspace of a sweep whose report is the W&B run `run`; its address, or None where that failed.

    It is made once: a run that knows a workspace already keeps it. A failure is a warning, as the report is there.
    """
    if made := run.summary.get("workspace"):
        return str(made)
    try:
        summary = read_json(report.page.parent / "summary.json", "write the report again")
        keys, tables = list(report.tables["varied"]["key"].unique()), sorted(report.tables)
        metrics = [
            recorded_metric(name, OwnMetric(facts["label"], facts["greater_is_better"], ""))
            for name, facts in summary["metrics"].items()
        ]
        tested = f"best/test/{metrics[0].name}" in summary
        workspace = make(sweep, run.entity, run.project, keys, tables, tested, metrics)
        run.summary["workspace"] = address = str(workspace.save().url)
    except Exception as error:  # W&B's library raises errors of many kinds
        log.warning("W&B workspace: not made: %s", str(error).strip().partition("\n")[0] or type(error).__name__)
        return None
    return address


def make(
    sweep: str, entity: str, project: str, keys: Sequence[str], tables: Sequence[str], tested: bool,
    metrics: Sequence[Metric] = STANDARD,
) -> Workspace:  # fmt: skip
    """The workspace of a sweep, not saved yet.

    Args:
        sweep: its name, which is the group of its runs on W&B.
        entity: user or team on W&B.
        project: W&B project.
        keys: dotted config keys in which the sweep's runs differ.
        tables: names of the report's tables, as the report's run holds them: `tables/<name>`.
        tested: whether the runs have test scores.
        metrics: of the runs.

    Raises:
        EmoshareError: the extra is missing.
    """
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise EmoshareError('the library is not installed; run `pip install "emoshare[workspaces]"`')
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as ws

    main = principal(metrics)
    score = panels.SummaryMetric(f"best/devel/{main.name}")
    pages: list[Any] = [panels.MediaBrowser(title=f"Devel {main.label} over windows", media_keys=["figures/windows"])]
    pages += [panels.WeavePanelSummaryTable(table_name=f"tables/{name}") for name in tables]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"emoshare sweep {sweep}",
        sections=[
            _comparison(keys, tested, metrics),
            _curves(main),
            ws.Section(name="Report", panels=pages, is_open=True, layout_settings=_grid(1)),
        ],
        settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=[ws.Metric("Group") == sweep],
            order=[ws.Ordering(ws.Summary(score.name), ascending=not main.greater_is_better)],
            pinned_columns=["run:displayName", f"summary:{score.name}", *map(_column, keys)],
        ),
    )


def _comparison(keys: Sequence[str], tested: bool, metrics: Sequence[Metric]) -> Section:
    """The main score over windows by backbone, bars of backbones with the spread of their runs, keys with scores."""
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as ws

    main, others = principal(metrics), [metric.name for metric in metrics if metric is not principal(metrics)]
    score = panels.SummaryMetric(f"best/devel/{main.name}")
    first = [f"best/test/{metrics[0].name}"] if tested else []
    scores = [*(f"best/devel/{name}" for name in others), *first, score.name]
    column = panels.ParallelCoordinatesPlotColumn
    axes = [column(metric=panels.Config(key), display_name=key) for key in dict.fromkeys([BACKBONE, SECONDS, *keys])]
    axes += [column(metric=panels.SummaryMetric(name), display_name=name.removeprefix("best/")) for name in scores]
    charts: list[Any] = [
        panels.ScatterPlot(
            title=f"Devel {main.label} over windows", x=panels.Config(SECONDS), y=score,
            legend_template="${config:backbone.name} ${config:window.seconds} s seed ${config:seed}",
        ),
        panels.BarPlot(
            title=f"Devel {main.label} of backbones, mean and standard deviation over runs", metrics=[score],
            orientation="h", groupby=panels.Config(BACKBONE), groupby_aggfunc="mean", groupby_rangefunc="stddev",
        ),
        panels.ParallelCoordinatesPlot(title="What goes with a good score", columns=axes),
    ]  # fmt: skip
    return ws.Section(name="Comparison", panels=charts, is_open=True, layout_settings=_grid(2))


def _curves(main: Metric) -> Section:
    """Learning curves, a line per backbone with the spread of its runs."""
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as ws

    charts: list[Any] = [
        panels.LinePlot(title=title, x="epoch", y=[name], groupby=panels.Config(BACKBONE), groupby_rangefunc="stddev")
        for name, title in (
            (f"devel/{main.name}", f"Devel {main.label}"),
            ("devel/loss", "Devel loss"),
            ("train/loss", "Train loss"),
        )
    ]
    return ws.Section(name="Learning curves", panels=charts, is_open=True, layout_settings=_grid(3))


def _grid(columns: int) -> Any:
    """The layout of a section's panels."""
    from wandb_workspaces.workspaces import SectionLayoutSettings

    return SectionLayoutSettings(columns=columns, rows=2)


def _column(key: str) -> str:
    """A dotted config key as W&B names the column of it: `config:window.value.seconds`."""
    first, dot, rest = key.partition(".")
    return f"config:{first}.value{dot}{rest}"
