"""A run on W&B: devel scores come first, and the summary has the run's scores, cost, or the reason of its failure.

W&B makes a section of charts of the part before the first `/` of a name, and sorts them by it: `devel` comes first,
then the charts of single `emotions`. Names are those of metrics.csv. Imported only where W&B is the logger.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import wandb

from emoshare.core.errors import EmoshareError
from emoshare.core.files import write_text
from emoshare.core.kinds import values_of
from emoshare.runs.logger import Finished
from emoshare.runs.resolved import ResolvedRun
from emoshare.runs.results import FUSION, Results
from emoshare.runs.summary import summary


@contextmanager
def start_run(resolved: ResolvedRun, mode: str, tags: Sequence[str], **options: Any) -> Iterator[Any]:
    """Start a run on W&B, which ends with the block, as failed where that raises.

    tags: beside those of the run. options: project, entity and id of `wandb.init`.
    """
    config, run = resolved.config, resolved.run
    fusion = config.head.name == FUSION  # whose members have windows
    standard = [config.backbone.name, *([] if fusion else [f"{config.window.seconds:g}s"]), config.data.name]
    # Lightning would start the run with options that W&B warns of, and leave WANDB_MODE set for the runs to come.
    experiment = wandb.init(
        name=run.name,
        group=config.sweep.name,
        job_type=FUSION if fusion else "train",
        tags=[*standard, *tags],
        config=values_of(config),
        dir=run.folder.resolve(),  # W&B's service has a working directory of its own
        mode=mode,  # type: ignore[arg-type]
        resume="allow" if mode == "online" else None,
        settings=wandb.Settings(console="off", silent=True),
        **options,
    )
    if mode == "online":  # offline there is no page that the report could link to
        write_text(run.page, f"{experiment.url}\n")
    experiment.define_metric("*", step_metric="epoch")
    if mode == "offline" and run.last.exists():
        for epoch in history(run.folder / "metrics.csv"):  # so that the newest of two offline folders is complete
            experiment.log(epoch)
    try:
        yield experiment
    except BaseException as error:
        experiment.summary["failure"] = reason(error)
        experiment.finish(exit_code=1)
        raise
    experiment.finish(exit_code=0)


def reason(error: BaseException) -> str:
    """The reason of a run's failure, in one line."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    first = str(error).strip().partition("\n")[0]
    return first if isinstance(error, EmoshareError) else f"{type(error).__name__}: {first}".rstrip(": ")


def history(metrics: Path) -> Iterator[dict[str, float]]:
    """The epochs that a run has behind it."""
    with metrics.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield {name: float(value) for name, value in row.items() if value}


def log_results(experiment: Any, results: Results, more: Finished) -> None:
    """Put a finished run's summary, its table per emotion, a fusion's members and its figures on W&B."""
    metrics = results.metrics
    experiment.summary.update(summary(results, more))
    names = list(metrics["devel"])
    columns: list[str | int] = ["emotion", *(f"{part}/{name}" for part in metrics for name in names)]
    rows = [[t, *(metrics[part][name].get(t) for part in metrics for name in names)] for t in results.targets]
    images = {f"figures/{path.stem}": wandb.Image(str(path)) for path in more.figures}
    tables = {"tables/emotions": wandb.Table(columns=columns, data=rows)}
    if results.members:
        weights = {member.run: member.weight for member in results.members}
        experiment.config.update({"members": weights, "weights": results.resolved.weights})
        tables["tables/members"] = members_table(results)
    experiment.log({**tables, **images})


def members_table(results: Results) -> wandb.Table:
    """A table of a fusion's members: backbone, system and seed, weights, and scores beside those of the fusion."""
    known, names = ("run", "backbone", "system", "seed", "weight"), [metric.name for metric in results.scoring_metrics]
    scores = [(part, name) for part in results.metrics for name in names]
    rows = [
        [*(getattr(member, key) for key in known), *(member.score(*score) for score in scores)]
        for member in results.members
    ]
    rows.append([FUSION, results.backbone.name, FUSION, None, None, *(results.score(*s) for s in scores)])
    return wandb.Table(columns=[*known, *("/".join(score) for score in scores)], data=rows)
