"""sweep.json: the runs that a sweep consists of, over all calls. The results of each are in its own folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from emoshare.core.errors import EmoshareError
from emoshare.core.hashing import read_sealed
from emoshare.core.schema import value_text
from emoshare.runs.identity import indifferent_keys

LIST = "sweep.json"
REMEDY = "name a sweep's folder; if it is one, move this file away and start the sweep again"


@dataclass(frozen=True)
class ListedRun:
    """One run of a sweep."""

    run: str  # its folder's name
    recipe: str  # equal for runs that share stored frames
    overrides: list[str]  # of the command that makes it
    config: dict[str, Any]  # resolved
    shared: dict[str, list[Any]] = field(default_factory=dict)  # key → values of the requests that are all this run
    config_dir: str | None = None  # of the command


def listed_runs(folder: Path) -> list[ListedRun]:
    """The runs in a sweep's list, in the order of the first call that named them."""
    path = folder / LIST
    if not path.exists():
        return []
    try:
        return [ListedRun(**job) for job in read_sealed(path, REMEDY)["jobs"]]
    except (KeyError, TypeError) as error:
        raise EmoshareError(f"{path}: not readable ({error}); {REMEDY}") from None


def distinct(jobs: Sequence[ListedRun]) -> list[ListedRun]:
    """Each run once, with the values of all requests that are the same run."""
    asked: dict[str, list[ListedRun]] = {}
    for job in jobs:
        asked.setdefault(job.run, []).append(job)
    return [merge_requests(same, same[0]) for same in asked.values()]


def merge_requests(same: Sequence[ListedRun], base: ListedRun) -> ListedRun:
    """One of some requests for the same run, with the values in which they differ."""
    return replace(
        base, shared=merge_values([*(job.shared for job in same), indifferent_keys([job.config for job in same])])
    )


def merge_values(shared: Iterable[Mapping[str, list[Any]]]) -> dict[str, list[Any]]:
    """Merge several mappings of key → values; each value occurs once."""
    merged: dict[str, list[Any]] = {}
    for key, value in ((key, value) for values in shared for key, listed in values.items() for value in listed):
        merged.setdefault(key, []).extend([] if value in merged.get(key, []) else [value])
    return merged


def sharing(jobs: Iterable[ListedRun]) -> str:
    """A line for each run that several requests share: the values that make no difference to it."""
    return "".join(f"{job.run}: one run for {in_words(job.shared)}\n" for job in jobs if job.shared)


def in_words(shared: dict[str, list[Any]]) -> str:
    """`window.pad=none, zeros and seed=0, 1, which change no number of it`."""
    pairs = [f"{key}={', '.join(map(value_text, values))}" for key, values in shared.items()]
    return f"{' and '.join(pairs)}, which change no number of it"
