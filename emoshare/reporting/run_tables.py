"""The report's tables of what was run and what it cost, each a function Report → Table."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emoshare.reporting.analysis import Report, Slice
from emoshare.reporting.formats import NONE, Entry, Table, duration, number, score, size, value
from emoshare.reporting.loaded import STATES, Cell, LoadedRun
from emoshare.reporting.slices import BACKBONE
from emoshare.reporting.study import Study
from emoshare.runs.folder import ABSENT, Run
from emoshare.runs.listing import ListedRun, listed_runs

STARTED = ("failed", ABSENT, "running", "interrupted")  # states without results of runs that were started
PEAKS = ("host_peak_gb", "gpu_peak_gb")
ABOVE = 40  # jobs of a sweep that are not a full grid: more are not listed one by one


def tables_of_runs(report: Report) -> list[Table]:
    """Costs, what was varied, commands, versions, what failed if anything did, and all runs."""
    made = [costs(report), variations(report)]
    made += [commands(report)] if any(map(listed_runs, report.study.folders)) else []
    made.append(versions(report))
    lost = [failures(report)] if any(run.state in STARTED for run in report.study.runs) else []
    return [*made, *lost, runs(report)]


def costs(report: Report) -> Table:
    """The cost of each system: extraction (each frame store once), training, memory, disk."""
    groups: dict[str, list[LoadedRun]] = {}
    for cell in report.study.cells:
        if cell.runs:
            groups.setdefault(report.system(cell), []).extend(cell.trained_runs)
    rows, records = [], []
    for name, members in groups.items():
        record = {"system": name, "backbone": members[0].config.get(BACKBONE), **_cost(members)}
        records.append(record)
        gpu = f"GPU {number(record['gpu_peak_gb'])}" if math.isfinite(record["gpu_peak_gb"]) else ""
        rows.append(
            [
                Entry(name, record["engines"]),
                Entry(number(record["parameters"] / 1e6) if record["parameters"] else NONE),
                Entry(number(record["realtime"])),
                Entry(duration(record["extract_seconds"]), sort=record["extract_seconds"]),
                Entry(
                    duration(record["fit_seconds"]),
                    f"{len(members)} {'run' if len(members) == 1 else 'runs'}",
                    sort=record["fit_seconds"],
                ),
                Entry(number(record["host_peak_gb"]), gpu),
                Entry(size(record["bytes"]), sort=record["bytes"]),
            ]
        )
    header = ("System", "Parameters (M)", "× real time", "Extraction", "Training", "Peak memory (GB)", "Disk")
    caption = (
        "× real time: seconds of audio per second of extraction. Extraction and disk: all frame stores of the "
        "system, each counted once, also where it was reused; – where the backbone ran inside the training loop. "
        "Training: sum over the runs. Peak memory: of the host, the highest of any run."
    )
    return Table("costs", "Cost per system", caption, header, rows, records)


def _cost(members: Sequence[LoadedRun]) -> dict[str, Any]:
    results = [run.results for run in members]
    stored = [item.frames for item in results if item.frames.source == "store"]
    stores = {(frames.recipe, frames.request): frames for frames in stored}
    audio = sum(frames.audio_seconds for frames in stores.values())
    seconds = sum(frames.seconds for frames in stores.values())
    engines = {item.resolved.compute if item.frames.source == "store" else "in the loop" for item in results}
    return {
        "parameters": results[0].backbone.parameters,
        "engines": ", ".join(sorted(engines)),
        "realtime": audio / seconds if seconds else math.nan,
        "extract_seconds": seconds if stores else math.nan,
        "fit_seconds": sum(item.timings.get("fit_seconds") or 0 for item in results),
        "total_seconds": sum(item.timings.get("total_seconds") or 0 for item in results),
        "runs": len(members),
        **{name: max((item.memory.get(name) or math.nan for item in results), key=_or_worst) for name in PEAKS},
        "bytes": sum(frames.bytes for frames in stores.values()) if stores else math.nan,
    }


def _or_worst(number: float) -> float:
    return -math.inf if math.isnan(number) else number


def cost_of(cell: Cell, study: Study) -> float:
    """Seconds of extraction and training of one run of a cell; for a fusion those of its members and its own."""
    results = cell.runs[0].results
    if not cell.is_fusion:
        cost = _cost(cell.trained_runs)
        return float(np.nansum([cost["extract_seconds"], cost["fit_seconds"] / len(cell.trained_runs)]))
    fusion_seconds = results.timings.get("total_seconds") or 0.0
    names = {member.run for member in results.members}
    members = [run for run in study.runs if run.outcome and run.folder.name in names]
    if len(members) < len(
        names
    ):  # the others lie elsewhere: what they say of themselves, which may be without extraction
        return fusion_seconds + sum(member.seconds or 0.0 for member in results.members)
    cost = _cost(members)
    return fusion_seconds + float(np.nansum([cost["extract_seconds"], cost["fit_seconds"]]))


def variations(report: Report) -> Table:
    """The varied keys with their values, seeds among them."""
    runs = report.study.runs
    values = {
        key: list(dict.fromkeys(value(c.config[key]) for c in report.everything.cells if key in c.config))
        for key in report.varying
    }
    seeds = sorted({run.seed for run in runs if run.config and run.seeded}, key=str)
    values["seed"] = [value(seed) for seed in seeds] or ["any: no number depends on it"]
    rows = [[Entry(key), Entry(", ".join(items))] for key, items in values.items()]
    records = [{"key": key, "value": item} for key, items in values.items() for item in items]
    return Table("varied", "What was varied", _count(report), ("Key", "Values"), rows, records, 2)


def _count(report: Report) -> str:
    study = report.study
    states = [run.state for run in study.runs]
    text = f"{len(study.cells)} cells, {states.count('done')} finished runs"
    text += "".join(f", {states.count(state)} {words}" for state, words in STATES.items() if state in states) + "."
    if study.duplicates:
        text += f" {len(study.duplicates)} of the finished runs repeat the numbers of another folder: counted once."
    if report.grid:
        gap = len(gaps(report.grid))
        text += f" Of the grid of backbones and windows, {gap} cells were never requested." if gap else ""
    return text


def gaps(grid: Slice) -> list[tuple[Any, Any]]:
    """(backbone, seconds) of the grid that no run has."""
    present = {tuple(cell.config.get(axis) for axis in grid.axes) for cell in grid.cells}
    rows, columns = (grid.values(axis) for axis in grid.axes)
    return [(row, column) for row in rows for column in columns if (row, column) not in present]


def commands(report: Report) -> Table:
    """The commands that make the sweeps' runs, from what their lists say of every job."""
    rows, records = [], []
    for folder in report.study.folders:
        for command in sweep_commands(listed_runs(folder)):
            rows.append([Entry(folder.resolve().name), Entry("", command)])
            records.append({"sweep": folder.resolve().name, "command": command})
    caption = "Finished runs are skipped when a command is given again."
    return Table("commands", "The commands that made it", caption, ("Sweep", "Command"), rows, records, 2)


def sweep_commands(jobs: Sequence[ListedRun]) -> list[str]:
    """One multirun command per --config-dir and set of overridden keys; single jobs where they are no full grid."""
    groups: dict[tuple[str, tuple[str, ...]], list[dict[str, str]]] = {}
    for job in jobs:
        pairs = dict(override.partition("=")[::2] for override in job.overrides)
        flag = f" --config-dir {shlex.quote(job.config_dir)}" if job.config_dir else ""
        groups.setdefault((flag, tuple(pairs)), []).append(pairs)
    made = []
    for (flag, keys), members in groups.items():
        values = {key: ",".join(dict.fromkeys(pairs[key] for pairs in members)) for key in keys}
        if math.prod(len({pairs[key] for pairs in members}) for key in keys) == len(members):
            made.append(_command(f"{flag} -m", values))
        else:
            made += [_command(flag, pairs) for pairs in members[:ABOVE]]
            made += [f"… and {len(members) - ABOVE} more"] if len(members) > ABOVE else []
    return made


def _command(flags: str, pairs: Mapping[str, str]) -> str:
    return " ".join([f"emoshare train{flags}", *(f"{key}={value}" for key, value in pairs.items())])


def versions(report: Report) -> Table:
    """The software and the corpus that the numbers come from."""
    by_library: dict[str, dict[str, None]] = {}
    for run in report.study.runs:
        for name, version in (run.outcome.versions if run.outcome else {}).items():
            by_library.setdefault(name, {})[str(version)] = None
    corpus = report.study.corpus
    lines = {"corpus": corpus.name, "corpus fingerprint": corpus.fingerprint}
    lines |= {f"clips in {part}": f"{clips:,}" for part, clips in corpus.clips.items()}
    lines |= {f"hours of {part}": number(hours, 2) for part, hours in corpus.hours.items()}
    lines |= {name: ", ".join(items) for name, items in by_library.items()}
    rows = [[Entry(name), Entry(text)] for name, text in lines.items()]
    records = [{"name": name, "value": text} for name, text in lines.items()]
    mixed = [name for name, items in by_library.items() if len(items) > 1]
    caption = f"Runs differ in the version of {', '.join(mixed)}." if mixed else "The same for all runs."
    return Table("versions", "Corpus and versions", caption, ("What", "Value"), rows, records, 2)


def runs(report: Report) -> Table:
    """Every finished run, with links to its folder and, where it was logged online, its page."""
    labels = {run.folder: report.short_label(cell) for cell in report.study.cells for run in cell.trained_runs}
    left_out = (*report.study.duplicates, *report.study.folds.parted)
    labels |= {run.folder: f"fold {run.config['data.fold']}, others are missing" for run in report.study.folds.parted}
    rows, records = [], []
    for run in report.study.runs:
        if not run.outcome:
            continue
        epoch = run.outcome.best.epoch
        epochs = None if epoch is None else epoch + 1  # counted from 1; an SVR has none
        cell = labels.get(run.folder, "repeats another folder's run, not counted")
        scores = {metric.name: run.outcome.score("devel", metric.name) for metric in report.metrics}
        url = page_of(run.folder)
        shown = [
            Entry(run.folder.name, link=str(run.folder)),
            Entry(cell),
            Entry(value(run.seed) if run.seeded else "any"),
        ]
        shown += [Entry(score(scores[report.main.name])), Entry(NONE if epochs is None else str(epochs))]
        rows.append([*shown, Entry("open" if url else NONE, link=url)])
        record: dict[str, Any] = {"folder": str(run.folder), "cell": labels.get(run.folder, ""), "system": run.system}
        record |= {"seed": run.seed, "counted": run not in left_out, **scores}
        records.append(record | {"epoch": epochs, "page": url})
    caption = f"Devel {report.main.label} of the epoch that was best on devel, hence somewhat optimistic; nothing is "
    caption += "selected on test. Folders open where the report lies beside them."
    header = ["Folder", "Cell", "Seed", report.main.label, "Best epoch", "Page"]
    if not any(record["page"] for record in records):
        header, rows = header[:-1], [row[:-1] for row in rows]
    return Table("runs", "Runs", caption, tuple(header), rows, records, 2)


def page_of(folder: Path) -> str:
    """The address of a run's page, from the file that its tracker leaves; empty where it was not logged online."""
    try:
        url = Run(folder).page.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
    return url if url.startswith(("https://", "http://")) else ""


def failures(report: Report) -> Table:
    """Every run that was started and has no results, why, and the command that repeats it."""
    rows, records = [], []
    for run in report.study.runs:
        if run.state not in STARTED:
            continue
        state = Entry(STATES[run.state], state=run.state)
        rows.append([Entry(run.folder.name, link=str(run.folder)), state, Entry(run.error, run.command)])
        records.append({"folder": str(run.folder), "state": run.state, "error": run.error, "command": run.command})
        records[-1]["config"] = json.dumps(run.config, default=str)
    caption = "Start the sweep again: it skips what is finished and runs these."
    header = ("Folder", "State", "Error and command")
    return Table("failures", "Runs without results", caption, header, rows, records, 3)
