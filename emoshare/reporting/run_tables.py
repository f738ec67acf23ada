"""The report's tables of what was run and what it cost, each a function Report → Table."""

from __future__ import annotations

import json
import math
from typing import Any

from emoshare.reporting.analysis import BACKBONE, METRICS, Report, Slice
from emoshare.reporting.formats import NONE, Entry, Table, duration, number, score, size, value
from emoshare.reporting.study import Run

STATES = {"failed": "failed", "unfinished": "not finished", "waiting": "not started"}
LOST = ("failed", "unfinished")  # states of runs that were started


def tables(report: Report) -> list[Table]:
    """Costs, what was varied, versions, what failed if anything did, and all runs."""
    made = [costs(report), varied(report), versions(report)]
    lost = [failures(report)] if any(run.state in LOST for run in report.study.runs) else []
    return [*made, *lost, runs(report)]


def costs(report: Report) -> Table:
    """What each backbone cost: extraction (each frame store once), training, memory, disk."""
    groups: dict[str, list[Run]] = {}
    for cell in report.study.cells:
        for run in cell.runs:
            groups.setdefault(str(run.config.get(BACKBONE)), []).append(run)
    rows, records = [], []
    for name, members in groups.items():
        record = {"backbone": name, **_cost(members)}
        records.append(record)
        rows.append(
            [
                Entry(name, record["engines"]),
                Entry(number(record["parameters"] / 1e6) if record["parameters"] else NONE),
                Entry(number(record["realtime"])),
                Entry(duration(record["extract_seconds"])),
                Entry(duration(record["fit_seconds"]), f"{len(members)} runs"),
                Entry(number(record["host_peak_gb"]), _gpu(record)),
                Entry(size(record["bytes"])),
            ]
        )
    header = ("Backbone", "Parameters (M)", "× real time", "Extraction", "Training", "Peak memory (GB)", "Disk")
    caption = (
        "× real time: seconds of audio per second of extraction. Extraction and disk: all frame stores of the "
        "backbone, each counted once, also where it was reused; – where the backbone ran inside the training loop. "
        "Training: sum over the runs. Peak memory: of the host, the highest of any run."
    )
    return Table("costs", "Cost per backbone", caption, header, rows, records)


def _gpu(record: dict[str, Any]) -> str:
    return f"GPU {number(record['gpu_peak_gb'])}" if math.isfinite(record["gpu_peak_gb"]) else ""


def _cost(members: list[Run]) -> dict[str, Any]:
    stores = {run.results["frames"]["recipe"]: run.results["frames"] for run in members if _stored(run)}
    audio = sum(frames["audio_seconds"] or 0 for frames in stores.values())
    seconds = sum(frames["seconds"] or 0 for frames in stores.values())
    memory = [run.results.get("memory", {}) for run in members]
    return {
        "parameters": members[0].results.get("backbone", {}).get("parameters"),
        "engines": ", ".join(sorted({run.results["frames"].get("engine", "in the loop") for run in members})),
        "realtime": audio / seconds if seconds else math.nan,
        "extract_seconds": seconds if stores else math.nan,
        "fit_seconds": sum(run.results["timings"]["fit_seconds"] for run in members),
        "total_seconds": sum(run.results["timings"]["total_seconds"] for run in members),
        "runs": len(members),
        "host_peak_gb": max((m["host_peak_gb"] for m in memory if m.get("host_peak_gb")), default=math.nan),
        "gpu_peak_gb": max((m["gpu_peak_gb"] for m in memory if m.get("gpu_peak_gb")), default=math.nan),
        "bytes": sum(frames["bytes"] or 0 for frames in stores.values()) if stores else math.nan,
    }


def _stored(run: Run) -> bool:
    return run.results.get("frames", {}).get("source") == "store"


def varied(report: Report) -> Table:
    """What was varied: each key with its values, seeds among them."""
    runs = report.study.runs
    values = {
        key: list(dict.fromkeys(value(c.config.get(key)) for c in report.everything.cells)) for key in report.varying
    }
    values["seed"] = [value(seed) for seed in sorted({run.seed for run in runs if run.config}, key=str)]
    rows = [[Entry(key), Entry(", ".join(items))] for key, items in values.items()]
    records = [{"key": key, "value": item} for key, items in values.items() for item in items]
    return Table("varied", "What was varied", _count(report), ("Key", "Values"), rows, records, 2)


def _count(report: Report) -> str:
    study = report.study
    states = [run.state for run in study.runs]
    text = f"{len(study.cells)} cells, {states.count('done')} finished runs"
    text += "".join(f", {states.count(state)} {words}" for state, words in STATES.items()) + "."
    if study.twins:
        text += f" {len(study.twins)} of the finished runs repeat a cell and seed of another folder and count once."
    if report.grid:
        gap = len(gaps(report.grid))
        text += f" Of the grid of backbones and windows, {gap} cells were never asked for." if gap else ""
    return text


def gaps(grid: Slice) -> list[tuple[Any, Any]]:
    """(backbone, seconds) of the grid that no run was asked for."""
    there = {tuple(cell.config.get(axis) for axis in grid.axes) for cell in grid.cells}
    rows, columns = (grid.values(axis) for axis in grid.axes)
    return [(row, column) for row in rows for column in columns if (row, column) not in there]


def versions(report: Report) -> Table:
    """The software and the corpus that the numbers come from."""
    found: dict[str, dict[str, None]] = {}
    for run in report.study.runs:
        for name, version in run.results.get("versions", {}).items():
            found.setdefault(name, {})[str(version)] = None
    corpus = report.study.corpus
    lines = {"corpus": corpus["name"], "corpus fingerprint": corpus["fingerprint"]}
    lines |= {f"clips in {part}": f"{clips:,}" for part, clips in corpus.get("clips", {}).items()}
    lines |= {f"hours of {part}": number(hours, 2) for part, hours in corpus.get("hours", {}).items()}
    lines |= {name: ", ".join(items) for name, items in found.items()}
    rows = [[Entry(name), Entry(text)] for name, text in lines.items()]
    records = [{"name": name, "value": text} for name, text in lines.items()]
    mixed = [name for name, items in found.items() if len(items) > 1]
    caption = f"Runs differ in the version of {', '.join(mixed)}." if mixed else "The same for all runs."
    return Table("versions", "Corpus and versions", caption, ("What", "Value"), rows, records, 2)


def runs(report: Report) -> Table:
    """Every finished run."""
    done = [run for run in report.study.runs if run.state == "done"]
    labels = {run.folder: report.label(cell) for cell in report.study.cells for run in cell.runs}
    rows, records = [], []
    for run in done:
        avg, epoch = run.metric("devel", "avg"), run.results["best"]["epoch"] + 1  # counted from 1
        counted = run not in report.study.twins
        text = labels.get(run.folder, "repeats another folder's run, not counted")
        rows.append([Entry(item) for item in (run.folder.name, text, value(run.seed), score(avg), value(epoch))])
        record = {"folder": str(run.folder), "cell": run.results["cell"], "seed": run.seed, "counted": counted}
        record |= {metric: run.metric("devel", metric) for metric in METRICS}
        records.append(record | {"epoch": epoch})
    caption = "Devel Avg of the epoch that was best on devel, hence somewhat optimistic; nothing is selected on test."
    return Table("runs", "Runs", caption, ("Folder", "Cell", "Seed", "Avg", "Best epoch"), rows, records, 2)


def failures(report: Report) -> Table:
    """Every run that was started and has no results, why, and the command that repeats it."""
    rows, records = [], []
    for run in report.study.runs:
        if run.state not in LOST:
            continue
        rows.append([Entry(run.folder.name), Entry(STATES[run.state], state=run.state), Entry(run.error, run.command)])
        records.append({"folder": str(run.folder), "state": run.state, "error": run.error, "command": run.command})
        records[-1]["config"] = json.dumps(run.config, default=str)
    caption = "Start the sweep again: it skips what is finished and runs these."
    return Table(
        "failures", "Runs without results", caption, ("Folder", "State", "Error and command"), rows, records, 3
    )
