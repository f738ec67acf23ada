"""What a sweep has done and has left, read from its folder: `outputs/<sweep>/sweep.json` and the run folders.

sweep.json lists the runs that were asked for, over all calls; what became of each stands in its own folder.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from emoshare.core.errors import EmoshareError
from emoshare.core.files import read_json, write_json
from emoshare.core.text import render
from emoshare.runs.folder import ANEW, Run

LIST = "sweep.json"
REMEDY = "remove it and start the sweep again"
STATES = ("done", "running", "interrupted", "failed", "waiting")


@dataclass(frozen=True)
class Job:
    """One run that a sweep was asked for."""

    run: str  # its folder's name
    recipe: str  # equal for runs that share stored frames
    overrides: list[str]  # of the command that makes it
    config: dict[str, Any]  # resolved


def read(folder: Path) -> list[Job]:
    """The jobs of a sweep's folder: those listed, then other runs that are there, as those of a search or single ones.

    Raises:
        EmoshareError: there is neither a list nor a run, or the list cannot be read.
    """
    jobs = listed(folder)
    names = {job.run for job in jobs}
    found = [path.parent.name for path in sorted(folder.glob("*/config.yaml"))]
    jobs += [Job(name, "", [], {}) for name in found if name not in names]
    if not jobs:
        raise EmoshareError(f"{folder}: no sweep or run here; name a folder like outputs/default")
    return jobs


def listed(folder: Path) -> list[Job]:
    """The jobs that sweeps were asked for, in the order of the first call that named them."""
    path = folder / LIST
    if not path.exists():
        return []
    try:
        return [Job(**job) for job in read_json(path, REMEDY)["jobs"]]
    except (KeyError, TypeError) as error:
        raise EmoshareError(f"{path}: not readable ({error}); {REMEDY}") from None


def enlist(folder: Path, jobs: list[Job]) -> None:
    """Add jobs to the sweep's list, where those of earlier calls stay, and note in which order this call runs them."""
    known = {job.run: job for job in [*listed(folder), *jobs]}
    write_json(folder / LIST, {"call": [job.run for job in jobs], "jobs": [asdict(job) for job in known.values()]})


def states(folder: Path, jobs: list[Job]) -> dict[str, str]:
    """Run name → done | running | interrupted | failed | waiting."""
    return {job.run: Run(folder / job.run, "").state() for job in jobs}


def needed(run: Path, recipe: str, anew: bool) -> bool:
    """Whether the sweep's present call has a run beside this folder to train from the frames of a recipe.

    anew: finished runs are trained again, too. A search lists nothing, and may need everything.
    """
    path = run.parent / LIST
    call = read_json(path, REMEDY)["call"] if path.exists() else []
    if run.name not in call:  # of a search, or of a sweep beside which another was begun
        return True
    later = call[call.index(run.name) + 1 :]
    jobs = [job for job in listed(run.parent) if job.recipe == recipe and job.run in call and job.run != run.name]
    return any(
        state in ("waiting", "interrupted", "running") or (name in later and (state == "failed" or anew))
        for name, state in states(run.parent, jobs).items()
    )


def counts(found: dict[str, str]) -> str:
    """`3 done, 1 failed, 8 waiting`."""
    number = Counter(found.values())
    return ", ".join(f"{number[state]} {state}" for state in STATES if number[state]) or "no runs"


def table(done: list[dict[str, Any]]) -> str:
    """One line per cell with results, best devel Avg first; mean and, over several seeds, standard deviation."""
    from rich.table import Table

    cells: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for results in done:
        cells[results["cell"]].append(results)
    grid = Table(box=None, pad_edge=False)
    for name in ("backbone", "window", "seeds", "SCC", "CCC", "Avg", "test SCC", "first run"):
        grid.add_column(name, justify="left" if name in ("backbone", "first run") else "right")
    for runs in sorted(cells.values(), key=lambda runs: -spread(runs, "devel", "avg")[0]):
        config = runs[0]["config"]
        grid.add_row(
            config["backbone"]["name"],
            f"{config['window']['seconds']:g} s",
            str(len(runs)),
            *(number(*spread(runs, "devel", name)) for name in ("scc", "ccc", "avg")),
            number(*spread(runs, "test", "scc")) if "test" in runs[0]["metrics"] else "hidden",
            runs[0]["run"],
        )
    return render(grid)


def spread(runs: list[dict[str, Any]], part: str, name: str) -> tuple[float, float]:
    """Mean and standard deviation over runs (n − 1; 0 for one run); minus infinity where one has none."""
    values = [run["metrics"][part][name]["mean"] for run in runs]
    if None in values:
        return float("-inf"), 0.0
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def number(mean: float, deviation: float) -> str:
    """`0.5123` or `0.5123 ± 0.0012`; `–` for none."""
    if mean == float("-inf"):
        return "–"
    return f"{mean:.4f}" + (f" ± {deviation:.4f}" if deviation else "")


def outcome(folder: Path, found: dict[str, str]) -> tuple[list[dict[str, Any]], str]:
    """The results of what is done, and a line per failed run with the command that repeats it.

    found: of `states`. A file that cannot be read gets a line, too.
    """
    done, lines = [], []
    for name, state in found.items():
        run = Run(folder / name, "")
        try:
            if state == "done" and (results := run.finished()):
                done.append(results)
            elif state == "failed":
                record = read_json(run.failure, ANEW)
                lines.append(f"failed: {name}: {record['error']}\n  again: {record['command']}\n")
        except EmoshareError as error:
            lines.append(f"{error}\n")
    return done, "".join(lines)


def status(folder: Path) -> str:
    """What `emoshare status` prints: counts, time left, the cells so far, the failures."""
    found = states(folder, read(folder))
    done, failures = outcome(folder, found)
    left = sum(state in ("waiting", "running", "interrupted") for state in found.values())
    text = f"{folder.name}: {counts(found)}\n"
    if left and done:
        took = statistics.fmean(results["timings"]["total_seconds"] for results in done)
        text += f"about {left * took / 60:.0f} minutes left, one run at a time\n"
    if done:
        text += "\n" + table(done)
    text += "".join(f"running: {name}\n" for name, state in found.items() if state == "running")
    return text + failures
