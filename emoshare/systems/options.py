"""The base classes of the options of networks, and of heads that are fitted at once on pooled frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from emoshare.core.kinds import HeadOptions
from emoshare.core.schema import key

if TYPE_CHECKING:
    from emoshare.systems.learned import LearnedHead, SavedRun
    from emoshare.training.system import Outcome, Task


@dataclass
class NetworkOptions(HeadOptions):
    """The options of a head of PyTorch, trained in epochs."""

    network: ClassVar[bool] = True

    def fit_predict(self, task: Task) -> Outcome:
        from emoshare.training.neural import fit_predict

        return fit_predict(task)

    def load(self, run: SavedRun) -> LearnedHead:
        from emoshare.systems.learned import load_network

        return load_network(run)


@dataclass
class PooledOptions(HeadOptions):
    """The options of a head that is fitted at once on one vector per clip."""

    pooling: str = key(
        "auto", "pooling over the frames of a clip", choices=("auto", "mean", "std", "mean_std", "functionals"),
    )  # fmt: skip

    def canonical_values(self, vector: bool, voiced: bool) -> dict[str, Any]:
        if vector:
            return {"head.pooling": None}
        return {"head.pooling": "functionals" if voiced else "mean_std"} if self.pooling == "auto" else {}
