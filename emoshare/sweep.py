"""What a sweep has done and has left, read from its folder: `outputs/<sweep>/sweep.json` and the run folders.

sweep.json lists the runs that were asked for, over all calls; what became of each stands in its own folder.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from emoshare.errors import EmoshareError
from emoshare.runs import Run, write_json

STATES = ("done", "running", "interrupted", "failed", "waiting")


@dataclass(frozen=True)
class Job:
    """One run that a sweep was asked for."""

    run: str  # its folder's name
    recipe: str  # equal for runs that share stored frames
    overrides: list[str]  # of the command that makes it


def read(folder: Path) -> list[Job]:
    """The jobs of a sweep's folder, in the order of the first call that named them.

    A search lists nothing ahead: its jobs are the run folders that are there.

    Raises:
        EmoshareError: there is neither a list nor a run, or the list cannot be read.
    """
    path = folder / "sweep.json"
    if not path.exists() and (runs := sorted(folder.glob("*/config.yaml"))):
        return [Job(run.parent.name, "", []) for run in runs]
    try:
        return [Job(**job) for job in json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        raise EmoshareError(f"{folder}: no sweep or run here; name a folder like outputs/default") from None
    except (ValueError, TypeError) as error:
        raise EmoshareError(f"{path}: not readable ({error}); remove it and start the sweep again") from None


def enlist(folder: Path, jobs: list[Job]) -> None:
    """Add jobs to the sweep's list; those of earlier calls stay."""
    known = {job.run: job for job in read(folder)} if (folder / "sweep.json").exists() else {}
    known |= {job.run: job for job in jobs}
    write_json(folder / "sweep.json", [asdict(job) for job in known.values()])


def states(folder: Path, jobs: list[Job]) -> dict[str, str]:
    """Run name → done | running | interrupted | failed | waiting."""
    return {job.run: Run(folder / job.run, "").state() for job in jobs}


def needed(folder: Path, recipe: str, but: str) -> bool:
    """Whether a run of the sweep other than `but` still has to be trained from the frames of a recipe."""
    if not (folder / "sweep.json").exists():
        return True
    jobs = [job for job in read(folder) if job.recipe == recipe and job.run != but]
    return any(state in ("waiting", "interrupted", "running") for state in states(folder, jobs).values())


def counts(found: dict[str, str]) -> str:
    """`3 done, 1 failed, 8 waiting`."""
    number = Counter(found.values())
    return ", ".join(f"{number[state]} {state}" for state in STATES if number[state]) or "no runs"


def table(folder: Path, jobs: list[Job]) -> str:
    """One line per cell with results, best devel Avg first; mean and, over several seeds, standard deviation."""
    from rich.table import Table

    cells: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for job in jobs:
        if results := Run(folder / job.run, "").finished():
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


def render(grid: Any) -> str:
    """A rich table as text, as wide as it needs."""
    from rich.console import Console

    console = Console(width=160)
    with console.capture() as capture:
        console.print(grid)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def failures(folder: Path, names: list[str]) -> str:
    """A line per failed run: what went wrong, and the command that repeats it."""
    lines = []
    for name in names:
        record = json.loads((folder / name / "failure.json").read_text(encoding="utf-8"))
        lines.append(f"failed: {name}: {record['error']}\n  again: {record['command']}\n")
    return "".join(lines)


def status(folder: Path) -> str:
    """What `emoshare status` prints: counts, time left, the cells so far, the failures."""
    jobs = read(folder)
    found = states(folder, jobs)
    took = [r["timings"]["total_seconds"] for job in jobs if (r := Run(folder / job.run, "").finished())]
    left = sum(state in ("waiting", "running", "interrupted") for state in found.values())
    text = f"{folder.name}: {counts(found)}\n"
    if left and took:
        text += f"about {left * statistics.fmean(took) / 60:.0f} minutes left, one run at a time\n"
    if took:
        text += "\n" + table(folder, jobs)
    text += "".join(f"running: {name}\n" for name, state in found.items() if state == "running")
    return text + failures(folder, [name for name, state in found.items() if state == "failed"])
