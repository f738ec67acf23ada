"""Annotation dropout: a network learns in every epoch from another part of the votes that a clip has.

Shapes: N clips, E targets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emoshare.data.partition import Partition

STREAM = (0, 1)  # of a seed's draws in an epoch: another than those of the order of clips and of their crops


@dataclass(frozen=True, eq=False)
class VoteDropout:
    """Labels without some of the votes: they depend on seed and epoch alone, so that a resumed run has the same.

    Each vote is left out with the probability `share`, and the shares are those of the others; where all would be left
    out, one of them stays, each with the same chance. Annotation dropout as in SAILER (Feng et al., 2025, Interspeech,
    arXiv 2505.22133), which leaves out 20 %.

    Attributes:
        counts: (N, E) votes.
        share: probability that a vote is left out.
        seed: of the run.
    """

    counts: np.ndarray
    share: float
    seed: int

    def shares(self, epoch: int) -> np.ndarray:
        """(N, E) float32, the shares that an epoch learns from."""
        rng = np.random.default_rng((self.seed, epoch, *STREAM))
        kept = rng.binomial(self.counts, 1 - self.share)
        one = rng.random(len(kept)) * self.counts.sum(axis=1)  # the vote that stays where no other does
        empty = np.flatnonzero(kept.sum(axis=1) == 0)
        kept[empty, (np.cumsum(self.counts, axis=1) <= one[:, None]).sum(axis=1)[empty]] = 1
        return (kept / kept.sum(axis=1, keepdims=True)).astype(np.float32)


def vote_dropout(part: Partition, share: float, seed: int) -> VoteDropout | None:
    """The annotation dropout of a partition; None where no vote is left out."""
    counts = part.counts if share else None
    return None if counts is None else VoteDropout(counts, share, seed)
