"""A sweep's summary run on W&B: the numbers, tables and figures of a report that is written."""

from __future__ import annotations

import csv
import json
from pathlib import Path


def upload(page: Path, sweep: str, project: str, mode: str) -> Path:
    """Log a report's folder as one run `<sweep>-report` in the sweep's own group.

    Args:
        page: the report's index.html; summary.json, tables/ and figures/ stand beside it.
        sweep: the sweep's name, which is the group of its runs.
        project: W&B project.
        mode: offline | online.

    Returns:
        The folder of W&B's own files.
    """
    import wandb

    folder = page.parent
    numbers = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    run = wandb.init(
        project=project,
        group=sweep,
        job_type="report",
        name=f"{sweep}-report",
        dir=folder.parent.resolve(),  # W&B's service has a working directory of its own
        mode="online" if mode == "online" else "offline",
        settings=wandb.Settings(console="off", silent=True),
    )
    try:
        run.summary.update({k: v for k, v in numbers.items() if not k.startswith(("tables/", "figures/"))})
        for path in sorted(folder.glob("figures/*.png")):
            run.log({f"figures/{path.stem}": wandb.Image(str(path))}, commit=False)
        for path in sorted(folder.glob("tables/*.csv")):
            with path.open(encoding="utf-8", newline="") as file:
                header, *rows = csv.reader(file)
            run.log({f"tables/{path.stem}": wandb.Table(columns=list(header), data=rows)}, commit=False)
        run.log({"report": wandb.Html(page.read_text(encoding="utf-8"))})
    finally:
        wandb.finish()
    return Path(run.dir).parent
