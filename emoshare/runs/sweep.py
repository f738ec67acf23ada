"""The state of a sweep, read from its folder: `outputs/<sweep>/sweep.json` and the run folders.

sweep.json lists the runs of all calls; the results of each are in its own folder.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError, NoRunError, is_read_only
from emoshare.core.hashing import digest, read_sealed, write_sealed
from emoshare.models.losses.mix import ALL, mix_text
from emoshare.runs.folder import ABSENT, Run, lock
from emoshare.runs.identity import short_hash, without_seed
from emoshare.runs.listing import LIST, REMEDY, ListedRun, listed_runs, merge_requests, sharing
from emoshare.runs.log import progress_of
from emoshare.runs.places import member_folder
from emoshare.runs.results import Results
from emoshare.runs.sweep_table import Cell, cell_table

LABEL = ("backbone", "window", "window.seconds", "head", "seed", "data.fold")  # keys that a run's label tells of
UNREADABLE = "unreadable"  # the state of a finished run of which a file cannot be read
STATES = ("done", "running", "interrupted", "failed", UNREADABLE, ABSENT, "waiting")


def recipe_key(config: Config) -> str:
    """A key that configs share which train from the same stored frames; it needs neither corpus nor checkpoint.

    Without padding, windows of any length share the frames of the clips that are shorter.
    """
    seed = config.seed if config.backbone.seeded else None
    sections = {name: asdict(getattr(config, name)) for name in ("window", "backbone", "extract")}
    del sections["extract"]["workers"]
    if config.window.pad == "none":
        del sections["window"]["seconds"]
    return digest([config.data.name, config.data.root, sections, seed], 8)


def read(folder: Path) -> list[ListedRun]:
    """Read the jobs of a sweep's folder: those of its list, then other runs in it, as those of a search or single ones.

    Raises:
        EmoshareError: there is neither a list nor a run, or the list cannot be read.
    """
    jobs = listed_runs(folder)
    names = {job.run for job in jobs}
    folders = [path.parent.name for path in sorted(folder.glob("*/config.yaml"))]
    jobs += [ListedRun(name, "", [], {}) for name in folders if name not in names]
    if not jobs:
        below = sorted({path.relative_to(folder).parts[0] for path in folder.glob("[!.]*/[!.]*/config.yaml")})
        if below:
            raise EmoshareError(f"{folder}: holds the sweeps {', '.join(below)}; name one, as {folder / below[0]}")
        if Run(folder).config_path.exists():
            raise EmoshareError(f"{folder}: a run; name its sweep, {folder.parent}")
        raise EmoshareError(f"{folder}: no sweep or run here; name a folder like outputs/default")
    return jobs


def with_fusions(folder: Path, jobs: Sequence[ListedRun]) -> list[ListedRun]:
    """The jobs, and the fusions that lie in the sweep's folder."""
    runs = (Run(path.parent) for path in sorted(folder.glob("fusion-*/results.json")))
    return [*jobs, *(ListedRun(run.name, "", [], {}) for run in runs)]


def enlist(folder: Path, jobs: Sequence[ListedRun]) -> None:
    """Add jobs to the sweep's list, which keeps those of earlier calls, and note the order of this call.

    A finished sweep can be repeated in a folder that is read-only: nothing is written where nothing changes, and a
    failure to write is ignored where all runs are done.
    """

    def merge() -> dict[str, Any]:
        known: dict[str, ListedRun] = {}
        for job in [*listed_runs(folder), *jobs]:
            known[job.run] = job if job.run not in known else merge_requests([known[job.run], job], job)
        return {"call": [job.run for job in jobs], "jobs": [asdict(job) for job in known.values()]}

    path = folder / LIST
    if path.exists() and read_sealed(path, REMEDY) == merge():
        return
    try:
        with lock(path):  # another call may add jobs of its own at the same time
            write_sealed(path, merge())
    except OSError as error:
        if not is_read_only(error) or any(state != "done" for state in states(folder, jobs).values()):
            raise


def states(folder: Path, jobs: Sequence[ListedRun]) -> dict[str, str]:
    """Run name → done | running | interrupted | failed | not at hand | waiting, by the files that there are."""
    return {job.run: Run(folder / job.run).state() for job in jobs}


def read_states(folder: Path, jobs: Sequence[ListedRun]) -> dict[str, str]:
    """As `states`; and a finished run of which a file cannot be read is unreadable."""
    by_run = states(folder, jobs)
    return by_run | dict.fromkeys(cells(folder, by_run)[1], UNREADABLE)


def is_needed(run: Path, recipe: str, restart: bool) -> bool:
    """Whether the sweep's present call still has another run to train from the frames of a recipe.

    restart: finished runs are trained again, too. A search lists nothing, and may need everything.
    """
    path = run.parent / LIST
    call = read_sealed(path, REMEDY)["call"] if path.exists() else []
    if run.name not in call:  # of a search, or of a sweep beside which another was begun
        return True
    later = call[call.index(run.name) + 1 :]
    jobs = [job for job in listed_runs(run.parent) if job.recipe == recipe and job.run in call and job.run != run.name]
    return any(
        state in ("waiting", "interrupted", "running") or (name in later and (state in ("failed", ABSENT) or restart))
        for name, state in states(run.parent, jobs).items()
    )


def requests(run: Path, recipe: str) -> set[str]:
    """The requests to the frame store of the present call's finished runs that share the frames of a recipe."""
    path = run.parent / LIST
    call = read_sealed(path, REMEDY)["call"] if path.exists() else []
    names = {job.run for job in listed_runs(run.parent) if job.recipe == recipe and job.run in call} | {run.name}
    results = (Run(run.parent / name).results() for name in names)
    return {result.frames.request for result in results if result and result.frames.request}


@dataclass(frozen=True)
class Place:
    """A run's place in the present call of its sweep: number `number` of `total`, counted from 1."""

    number: int
    total: int
    later: int  # runs after it that are not finished yet
    mean_seconds: float | None  # that the call's finished runs took; None where there are none
    beside: int = 1  # runs that go on at the same time, this one among them
    varied: str = ""  # ` key=value` of the keys that the call varies, but for those that a run's label names anyway


def place_of(run: Path, beside: int = 1) -> Place | None:
    """A run's place in the present call of its sweep; None where the call does not list it."""
    path = run.parent / LIST
    call = read_sealed(path, REMEDY)["call"] if path.exists() else []
    if run.name not in call:
        return None
    number = call.index(run.name)
    took = []
    for name in call:
        with suppress(EmoshareError):  # of another run's file; the sweep's end tells of it
            if results := Run(run.parent / name).results():
                took.append(results.timings["total_seconds"])
    later = sum(not Run(run.parent / name).is_finished() for name in call[number + 1 :])
    mean = statistics.fmean(took) if took else None
    return Place(number + 1, len(call), later, mean, beside, _varied_keys(run, call))


def _varied_keys(run: Path, call: Sequence[str]) -> str:
    """The field `varied` of a run's place, from the overrides of all runs of the call."""
    jobs = [job for job in listed_runs(run.parent) if job.run in call]
    pairs = {job.run: dict(override.partition("=")[::2] for override in job.overrides) for job in jobs}
    keys = [key for key in pairs[run.name] if key not in LABEL and len({p.get(key) for p in pairs.values()}) > 1]
    return "".join(f" {key}={_as_in_tables(pairs[run.name][key])}" for key in keys)


def _as_in_tables(value: str) -> str:
    """An override's value as the tables of a sweep show it: `kl + 0.5 ccc` for {kl:1,ccc:0.5}."""
    weights = dict(re.findall(r"(\w+): ?([\d.eE+-]+)\s*[,}]", value))
    if not weights or value.count(":") != len(weights) or not weights.keys() <= set(ALL):
        return value
    return mix_text({name: float(weight) for name, weight in weights.items()})


def finished_runs(folder: Path) -> list[Path]:
    """The finished runs of a sweep's folder, fusions apart; empty for the folder of a run."""
    if Run(folder).config_path.exists():
        return []
    found = []
    for path in sorted(folder.glob("[!.]*/results.json")):
        with suppress(NoRunError):
            found += [path.parent] if not Results.read(path).is_fusion else []
    return found


def counts(by_run: dict[str, str]) -> str:
    """`3 done, 1 failed, 8 waiting`."""
    number = Counter(by_run.values())
    return ", ".join(f"{number[state]} {state}" for state in STATES if number[state]) or "no runs"


def cells(folder: Path, by_run: dict[str, str]) -> tuple[list[Cell], dict[str, str]]:
    """The cells of the finished runs, best devel score first; and run name → which file of it cannot be read.

    by_run: of `states`.
    """
    done: dict[str, tuple[dict[str, Any], Results]] = {}
    unreadable = {}
    for name in (name for name, state in by_run.items() if state == "done"):
        run = Run(folder / name)
        try:
            results, identity = run.results(), run.identity()
        except EmoshareError as error:
            unreadable[name] = str(error)
            continue
        if results and identity:
            done[name] = without_seed(identity), results
    groups: dict[str | tuple[str, ...], list[str]] = defaultdict(list)
    keys = {name: (short_hash(shared), results.seed) for name, (shared, results) in done.items()}
    keys = _members_elsewhere(folder, [results for _, results in done.values()]) | keys
    for name, (_, results) in done.items():
        groups[results.fusion_key(keys) or keys[name][0]].append(name)
    made = [Cell(done[names[0]][0]["config"], tuple(done[name][1] for name in names)) for names in groups.values()]
    return sorted(made, key=_rank), unreadable


def _members_elsewhere(folder: Path, done: Sequence[Results]) -> dict[str, tuple[str, Any]]:
    """Name → cell and seed of the members of folds' fusions, read from their own folders; those that are gone differ.

    A folder that cannot be read is left out.
    """
    keys: dict[str, tuple[str, Any]] = {}
    for results in done:
        for member in results.members if results.corpus.folds else ():
            with suppress(EmoshareError):
                keys[member.run] = Run(member_folder(folder / results.run, member)).cell(), member.seed
    return keys


def _rank(cell: Cell) -> float:
    main = cell.runs[0].main
    return -main.goodness(cell.score("devel", main.name)[0])


def any_failed(folder: Path, names: Iterable[str]) -> bool:
    """Whether the last attempt of any run failed, for another reason than a missing checkpoint or package."""
    last = (Run(folder / name).failure() for name in names)
    return any(failure is not None and not failure.not_at_hand for failure in last)


def failures(folder: Path, by_run: dict[str, str]) -> str:
    """Two lines per run whose last attempt failed: the reason, and the command that repeats it."""
    text = ""
    for name in by_run:
        if failure := Run(folder / name).failure():
            state = ABSENT if failure.not_at_hand else "failed"
            text += f"{state}: {name}: {failure.error}\n" + f"  again: {failure.command}\n" * bool(failure.command)
    return text


def status(folder: Path) -> str:
    """The text of `emoshare status`: counts, remaining time, the cells so far, the failures."""
    jobs = read(folder)
    by_run = states(folder, jobs)
    done, unreadable = cells(folder, by_run)
    by_run |= dict.fromkeys(unreadable, UNREADABLE)
    remaining = sum(state in ("waiting", "running", "interrupted") for state in by_run.values())
    text = f"{folder}: {counts(by_run)}\n"
    if remaining and done:
        took = statistics.fmean(run.timings["total_seconds"] for cell in done for run in cell.runs)
        beside = max(list(by_run.values()).count("running"), 1)
        minutes = max(round(remaining * took / beside / 60), 1)
        pace = f"{beside} runs" if beside > 1 else "one run"
        text += f"about {minutes} minute{'s' * (minutes > 1)} left, {pace} at a time\n"
    if done:
        text += "\n" + cell_table(done)
    text += sharing(jobs)
    going = (name for name, state in by_run.items() if state == "running")
    text += "".join(f"running: {name}  {progress_of(folder / name / 'run.log')}".rstrip() + "\n" for name in going)
    return text + "".join(f"{line}\n" for line in unreadable.values()) + failures(folder, by_run)
