"""A few clips of a corpus, for runs that are to show in seconds whether things work (`limit`).

N clips of a partition, E targets.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from emoshare.core.errors import EmoshareError
from emoshare.core.hashing import digest
from emoshare.core.spread import is_constant
from emoshare.data.partition import Corpus, Partition


def take_clips(corpus: Corpus, limit: int | None) -> Corpus:
    """The corpus with at most `limit` clips of each partition, evenly spread over its table; None: as it is.

    It has a fingerprint of its own, so that its scores are never compared with those of all clips.

    Raises:
        EmoshareError: all labels of train or devel are equal among these clips.
    """
    if limit is None:
        return corpus
    places = {name: _spread(len(part.files), limit) for name, part in corpus.partitions.items()}
    rows = np.sort(np.concatenate([part.rows[places[name]] for name, part in corpus.partitions.items()]))
    partitions = {name: _take(part, places[name], rows) for name, part in corpus.partitions.items()}
    for name, part in partitions.items():
        if name != "test" and part.shares is not None and is_constant(part.shares).all():
            raise EmoshareError(
                f"limit={limit}: all labels of the {len(part.files)} clips of {name} are equal; take more"
            )
    return replace(
        corpus,
        partitions=partitions,
        fingerprint=digest([corpus.fingerprint, limit], 64),
        digests=tuple(corpus.digests[row] for row in rows),
        groups={column: cells[rows] for column, cells in corpus.groups.items()},
        undivided=None,
    )


def _spread(clips: int, limit: int) -> np.ndarray:
    """Places of `limit` of the clips, the first and the last among them; of all, where they are no more."""
    return np.linspace(0, clips - 1, min(clips, limit)).round().astype(int)


def _take(part: Partition, places: np.ndarray, rows: np.ndarray) -> Partition:
    """The clips of a partition at some places. rows: those of the corpus that are kept, in corpus-wide order."""
    return replace(
        part,
        files=tuple(part.files[place] for place in places),
        shares=None if part.shares is None else part.shares[places],
        seconds=part.seconds[places],
        start=0,
        places=np.searchsorted(rows, part.rows[places]),
        votes=None if part.votes is None else part.votes[places],
    )
