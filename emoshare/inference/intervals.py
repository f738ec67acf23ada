"""A run's conformal intervals for new recordings: calibrated shares, and between what ends the true ones lie."""

from __future__ import annotations

import numpy as np

from emoshare.core.errors import EmoshareError
from emoshare.core.ranges import to_range, to_unit
from emoshare.inference.shares import Shares
from emoshare.models.conformal import FOLDS, Intervals, fewest_clips
from emoshare.runs.results import Results

SUFFIXES = ("", "_calibrated", "_low", "_high")  # of the columns of a target


def intervals_of(results: Results) -> Intervals:
    """The intervals that a run has fitted on devel.

    Raises:
        EmoshareError: it has none, or they are not those of its targets.
    """
    intervals = results.intervals
    if not intervals:
        clips, needed = results.corpus.clips.get("devel", 0), fewest_clips(results.config["intervals"]["level"])
        few = f"{needed} clips, and devel has {clips}"
        why = few if clips < needed else f"{FOLDS} speakers (data.cluster) in devel, and it has fewer"
        raise EmoshareError(f"{results.run}: has no intervals: they need {why}; predict without them")
    if list(intervals.targets) != list(results.targets):
        raise EmoshareError(f"{results.run}: its intervals are not those of its targets; train the run again")
    return intervals


def with_intervals(table: Shares, results: Results) -> Shares:
    """A table of shares with three more columns per target: `<target>_calibrated`, `<target>_low`, `<target>_high`.

    They are made for recordings like the clips of devel, each with one window that is cut as in training.

    Raises:
        EmoshareError: as `intervals_of`.
    """
    ends = intervals_of(results).apply(to_unit(table.values, results.range))
    scaled = [to_range(end, results.range) for end in ends]
    values = np.stack([table.values, *scaled], axis=2).reshape(len(table), -1).astype(np.float32)  # (N, 4 E)
    names = tuple(f"{target}{suffix}" for target in table.targets for suffix in SUFFIXES)
    return Shares(table.files, table.start, table.end, values, names)
