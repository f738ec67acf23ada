"""The clips that an epoch sees, in their order: all of them shuffled, or as many that are drawn with replacement.

N clips, E targets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from torch.utils.data import Sampler

from emoshare.data.partition import Corpus

TARGETS = "targets"  # of the key `balance`
STREAM = (0, 2)  # of a seed's draws in an epoch: another than those of other things that are drawn in it


class Epochs(Protocol):
    """A dataset that knows which epoch it is."""

    epoch: int

    def __len__(self) -> int: ...


class Shuffle(Sampler[int]):
    """A permutation that depends on seed and epoch alone, so that a resumed run goes on in the same order."""

    def __init__(self, clips: Epochs, seed: int) -> None:
        self.clips, self.seed = clips, seed

    def __len__(self) -> int:
        return len(self.clips)

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before every epoch."""
        self.clips.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.clips.epoch))
        return iter(rng.permutation(len(self.clips)).tolist())


class Balanced(Shuffle):
    """As many draws as there are clips, with replacement and unequal chances; by seed and epoch, as a permutation.

    chances: (N,) of each clip, of sum 1.
    """

    def __init__(self, clips: Epochs, seed: int, chances: np.ndarray) -> None:
        super().__init__(clips, seed)
        self.chances = chances

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.clips.epoch, *STREAM))
        return iter(rng.choice(len(self.clips), len(self.clips), p=self.chances).tolist())


def target_chances(shares: np.ndarray) -> np.ndarray:
    """(N, E) shares → (N,) chances of clips: a target is drawn, each as often, then a clip in proportion to its share.

    Of labels with one target for each clip that is class-balanced sampling. A target that no clip has is not drawn.

    >>> target_chances(np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0, 1]])).round(3)
    array([0.25 , 0.25 , 0.167, 0.167, 0.167])
    """
    total = shares.sum(axis=0, dtype=np.float64)  # (E,)
    kept = shares[:, total > 0] / total[total > 0]
    return np.asarray(kept.sum(axis=1) / kept.shape[1])


def group_chances(cells: np.ndarray) -> np.ndarray:
    """(N,) text → (N,) chances of clips: a value is drawn, each as often, then one of its clips.

    Clips whose cell is empty have no value in common, and count as one more.

    >>> group_chances(np.array(["a", "a", "a", "b"])).round(3)
    array([0.167, 0.167, 0.167, 0.5  ])
    """
    _, place, sizes = np.unique(cells, return_inverse=True, return_counts=True)
    return np.asarray(1 / (len(sizes) * sizes[place]))


def train_chances(corpus: Corpus, balance: str) -> np.ndarray:
    """(N,) the chances of the clips of train, and of their variants after them, by `balance`: targets or a column."""
    train = corpus.partitions["train"]
    if balance == TARGETS:
        assert train.shares is not None
        return target_chances(train.shares)
    cells = corpus.groups[balance]
    own = train.rows[train.rows < len(cells)]  # rows of variants are further ones, in the order of the clips
    return group_chances(np.tile(cells[own], len(train.rows) // len(own)))
