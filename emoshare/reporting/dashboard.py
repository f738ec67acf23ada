"""A sweep's summary run on W&B: the numbers, tables and figures of a report that is written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from emoshare.core.files import read_json
from emoshare.reporting import workspace
from emoshare.reporting.page import WrittenReport
from emoshare.runs.trackers.wandb import one_line_errors, wandb_id, wandb_mode

if TYPE_CHECKING:
    from pandas import DataFrame


@one_line_errors()
def upload(report: WrittenReport, sweep: str, project: str, mode: str) -> tuple[Path, str | None]:
    """Log a report as one run `<sweep>-report` in the sweep's own group.

    Args:
        report: beside its page are summary.json and figures/.
        sweep: the sweep's name, which is the group of its runs.
        project: W&B project.
        mode: offline | online.

    Returns:
        The folder of W&B's own files; online the address of the sweep's workspace, where it could be made.

    Raises:
        EmoshareError: online without a key.
    """
    mode = wandb_mode(mode)
    import wandb

    folder = report.page.parent
    summary = read_json(folder / "summary.json", "write the report again")
    run = wandb.init(
        project=project,
        group=sweep,
        job_type="report",
        name=f"{sweep}-report",
        id=wandb_id(f"{sweep}-report"),
        dir=folder.parent.resolve(),  # W&B's service has a working directory of its own
        mode=mode,  # type: ignore[arg-type]
        resume="allow" if mode == "online" else None,  # a later report of the sweep takes the place of this one
        settings=wandb.Settings(console="off", silent=True),
    )
    try:
        run.summary.update({k: v for k, v in summary.items() if not k.startswith(("tables/", "figures/"))})
        for path in sorted(folder.glob("figures/*.png")):
            run.log({f"figures/{path.stem}": wandb.Image(str(path))}, commit=False)
        for name, frame in report.tables.items():
            run.log({f"tables/{name}": wandb.Table(dataframe=plain(frame))}, commit=False)
        run.log({"report": wandb.Html(report.page.read_text(encoding="utf-8"))})
        address = workspace.save(sweep, run, report) if mode == "online" else None
    finally:
        wandb.finish()
    return Path(run.dir).parent, address


def plain(frame: DataFrame) -> DataFrame:
    """A table as W&B takes it: None where nothing is, and columns of several types, which it refuses, as texts."""
    texts = frame.apply(lambda column: column.map(str, na_action="ignore") if column.dtype == object else column)
    return texts.astype(object).where(frame.notna(), None)
