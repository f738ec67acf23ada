"""The members of a fusion: finished runs with their predictions, and checks that they belong together.

Shapes: N clips, E emotions.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from emoshare.core.config import AVERAGED
from emoshare.core.errors import EmoshareError
from emoshare.core.hashing import digest
from emoshare.data.partition import Corpus
from emoshare.metrics.metric import Metric
from emoshare.metrics.outside import may_import
from emoshare.metrics.scores import mean_score
from emoshare.models.fusion import FITS
from emoshare.runs.folder import Run
from emoshare.runs.predictions import verified_shares
from emoshare.runs.results import Results

log = logging.getLogger("emoshare")

Weights = Literal["mean", "learned", "greedy"] | Sequence[float]


@dataclass(frozen=True)
class Member:
    """A finished run and its predictions."""

    run: Run
    results: Results
    identity: str
    files: dict[str, tuple[str, ...]]  # partition → clips
    shares: dict[str, np.ndarray]  # partition → (N, E) predicted

    @property
    def fingerprint(self) -> str:
        """A hash of its predictions, which change where the run is trained again."""
        return digest({name: shares.tolist() for name, shares in self.shares.items()})

    @property
    def fold(self) -> int | None:
        """The fold that is its devel; None where there are no folds."""
        folds = self.results.corpus.folds
        return None if folds is None else folds.fold


def read_members(folders: Sequence[Path]) -> list[Member]:
    """Read the runs of the folders. EmoshareError names all mistakes."""
    members: list[Member] = []
    problems: list[str] = []
    for folder in folders:
        try:
            members.append(read_member(Run(Path(folder).resolve())))
        except EmoshareError as error:
            problems.append(str(error))
    seen: dict[str, Member] = {}
    for member in members:
        first = seen.setdefault(member.identity, member)
        if first is not member:
            same = f"the same run as {first.run.folder}; name it once"
            same = "named twice, by itself or with its sweep" if member.run.folder == first.run.folder else same
            problems.append(f"{member.run.folder}: {same}")
        elif member is not members[0]:
            problems += differences(members[0], member)
    problems += several_folds(members, Path(folders[0]).parent)
    if problems:
        raise EmoshareError("\n".join(problems))
    return members


def read_member(run: Run) -> Member:
    """Read a finished run with its predictions.

    Raises:
        EmoshareError: it is not finished, or a table is missing, unreadable or holds a value that is no finite number.
    """
    results = run.results()
    identity = run.identity()
    if results is None or identity is None:
        what = "no finished run" if run.folder.is_dir() else "no such folder"
        raise EmoshareError(f"{run.folder}: {what}; name folders of runs that have a results.json")
    names = sorted(path.stem for path in run.folder.glob("predictions/*.csv"))
    tables = {name: verified_shares(run.folder, f"predictions/{name}.csv", results) for name in names}
    if "devel" not in tables or "devel" not in results.metrics:
        raise EmoshareError(f"{run.folder}: without predictions or scores of devel; train the run again")
    files, shares = ({name: table[i] for name, table in tables.items()} for i in (0, 1))
    return Member(run, results, digest(identity), files, shares)  # type: ignore[arg-type]


def differences(first: Member, other: Member) -> list[str]:
    """The reasons why two runs cannot be fused, a line each."""
    ours, theirs, where = first.results, other.results, f"{other.run.folder}"
    if ours.targets != theirs.targets:
        return [f"{where}: predicts {', '.join(theirs.targets)}, and {first.run.name} {', '.join(ours.targets)}"]
    if ours.corpus.fingerprint != theirs.corpus.fingerprint:
        return [
            f"{where}: of the corpus {theirs.corpus.name}, and {first.run.name} of {ours.corpus.name}, or of "
            "another state of it; fuse runs of one corpus"
        ]
    if first.fold != other.fold:
        return []  # `several_folds` says it once for all runs
    if first.shares.keys() != other.shares.keys():
        names = [" and ".join(sorted(member.shares)) for member in (other, first)]
        return [f"{where}: has predictions of {names[0]}, and {first.run.name} of {names[1]}; train the run again"]
    return [
        f"{where}: its {name} predictions are not of the clips of {first.run.name}; train the run again"
        for name in first.files
        if first.files[name] != other.files[name]
    ]


def several_folds(members: Sequence[Member], sweep: Path) -> list[str]:
    """A line where runs of one division into folds are of several folds. sweep: the folder of the first run."""
    corpora = [member.results.corpus for member in members]
    same = [m for m, corpus in zip(members, corpora, strict=True) if corpus.fingerprint == corpora[0].fingerprint]
    folds = sorted({member.fold for member in same if member.fold is not None})
    if len(folds) < 2 or not corpora[0].folds:
        return []
    names = f"{', '.join(map(str, folds[:-1]))} and {folds[-1]}"
    return [
        f"runs of the folds {names} of data.folds={corpora[0].folds.by}: fuse runs of one fold "
        f"({sweep}/*-fold{folds[0]}-*), or let the sweep do it with sweep.fuse"
    ]


def usable_metrics(members: Sequence[Member]) -> list[str]:
    """The metrics of the members' configs that can be computed here, each once; a warning for the others."""
    names = dict.fromkeys(name for member in members for name in member.results.config["metrics"])
    for name in names:
        if "." in name and not may_import(name):
            log.warning("%s: not scored, as it is code from outside; --allow %s", name, name.partition(".")[0])
    return [name for name in names if "." not in name or may_import(name)] or list(AVERAGED)


def score_of(member: Member, corpus: Corpus, part: str, metric: Metric) -> float:
    """A member's score from its results, or computed where they lack it."""
    if not member.results.lacks(part, metric):
        return member.results.score(part, metric.name)
    true = corpus.partitions[part].shares
    assert true is not None
    return float(mean_score(metric.score(true, member.shares[part])))


def check_arguments(folders: Sequence[Path], weights: Weights, given: list[float] | None) -> None:
    """Raise EmoshareError where the folders or weights cannot make a fusion, whatever is in the folders."""
    problems = []
    if len(folders) < 2:
        problems.append(f"a fusion needs two runs or more, not {len(folders)}")
    if given is None and weights not in ("mean", *FITS):
        problems.append(f"weights={weights}: must be mean, {', '.join(FITS)}, or a number for each run")
    if given is not None:
        shown = ", ".join(f"{weight:g}" for weight in given)
        if len(given) != len(folders):
            problems.append(f"weights={shown}: {len(given)} weights for {len(folders)} runs; give one for each run")
        if not math.isfinite(sum(map(abs, given))):
            problems.append(f"weights={shown}: must be finite numbers")
        elif abs(sum(given)) <= 1e-9 * sum(map(abs, given)):
            problems.append(f"weights={shown}: they add up to 0; give weights whose sum is another number")
    if problems:
        raise EmoshareError("\n".join(problems))
