"""Variants of the clips that a run learns from, as further clips: rows of the store after those of the corpus.

Every epoch sees each clip and all of its variants, with the clip's own labels; so does an SVR. Devel and test are never
changed. With train.refit devel is learned from as well, and its clips have variants for that alone.

Shapes: M variants, C clips that are learned from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from emoshare.core.config import TrainConfig
from emoshare.core.variants import Variant, variants
from emoshare.data.partition import Partition
from emoshare.runs.resolved import ResolvedRun


def learning_partitions(train: TrainConfig) -> tuple[str, ...]:
    """The partitions that a run learns from."""
    return ("train", "devel") if train.refit else ("train",)


@dataclass(frozen=True, eq=False)
class Augmentation:
    """The variants of a run's clips.

    Attributes:
        variants: of every clip that is learned from.
        learned: (C,) rows of these clips in the corpus-wide order.
        clips: of the corpus: the first variant's row.
    """

    variants: list[Variant]
    learned: np.ndarray
    clips: int

    @classmethod
    def of(cls, run: ResolvedRun) -> Augmentation | None:
        """The variants of a run's config; None where it has none."""
        if not run.config.augment:
            return None
        rows = np.concatenate([run.corpus.partitions[name].rows for name in learning_partitions(run.config.train)])
        return cls(variants(run.config.augment), np.sort(rows), len(run.corpus.files))

    def without_effect(self, backbone: Mapping[str, Any]) -> list[Variant]:
        """The variants that change no frame. backbone: its identity; samples that it normalises have no level."""
        return [variant for variant in self.variants if variant.kind == "gain" and backbone.get("normalize")]

    @property
    def further(self) -> list[tuple[int, Variant]]:
        """(M · C) row of the clip and variant, in the order of the store's further rows."""
        return [(row, variant) for variant in self.variants for row in self.learned.tolist()]

    def extend(self, part: Partition) -> Partition:
        """Append the variants of its clips to a partition."""
        times = len(self.variants)
        first = self.clips + np.searchsorted(self.learned, part.rows)  # of the first variant of each clip
        rows = [part.rows, *(first + number * len(self.learned) for number in range(times))]
        shares = None if part.shares is None else np.tile(part.shares, (times + 1, 1))
        return replace(
            part, files=part.files * (times + 1), shares=shares, seconds=np.tile(part.seconds, times + 1),
            places=np.concatenate(rows), votes=None if part.votes is None else np.tile(part.votes, times + 1),
        )  # fmt: skip
