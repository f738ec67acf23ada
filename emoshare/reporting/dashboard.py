"""A sweep's summary run on W&B: the numbers, tables and figures of a report that is written."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from emoshare.core.files import read_json
from emoshare.reporting import workspace
from emoshare.runs.trackers.wandb import one_line_errors, wandb_id, wandb_mode


@one_line_errors()
def upload(page: Path, sweep: str, project: str, mode: str) -> tuple[Path, str | None]:
    """Log a report's folder as one run `<sweep>-report` in the sweep's own group.

    Args:
        page: the report's index.html; summary.json, tables/ and figures/ stand beside it.
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

    folder = page.parent
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
        for path in sorted(folder.glob("tables/*.csv")):
            with path.open(encoding="utf-8", newline="") as file:
                header, *rows = csv.reader(file)
            columns = [values(name, column) for name, column in zip(header, zip(*rows, strict=True), strict=False)]
            data = [list(row) for row in zip(*columns, strict=True)]
            run.log({f"tables/{path.stem}": wandb.Table(columns=list(header), data=data)}, commit=False)
        run.log({"report": wandb.Html(page.read_text(encoding="utf-8"))})
        address = workspace.save(sweep, run, folder) if mode == "online" else None
    finally:
        wandb.finish()
    return Path(run.dir).parent, address


def values(name: str, column: Sequence[str]) -> list[float | str | None]:
    """A column of a CSV file as numbers, None where one is absent; as it is where it holds words or hashes."""
    try:
        if name == "cell":  # 8 hex, which may well be digits alone
            return list(column)
        return [float(text) if text else None for text in column]
    except ValueError:
        return list(column)
