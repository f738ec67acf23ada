"""head=svr: one linear support vector regression per emotion on pooled frames, as the challenge's baselines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from emoshare.core.config import Config
from emoshare.core.schema import key, value_text
from emoshare.systems.options import PooledOptions

if TYPE_CHECKING:
    from emoshare.systems.learned import LearnedHead, SavedRun
    from emoshare.training.system import Outcome, Task

SOLVER = 2  # counts in the identity: raise it when the code gives other numbers


@dataclass
class Options(PooledOptions):
    """The options of `head=svr`."""

    name: str = key("svr", "the head, which learns from frames", file_name=True)
    select: str = key("avg", "metric on devel that chooses the setting of the grid")
    grid: list[float] = key([1e-2, 1e-3, 1e-4, 1e-5, 1e-6], "values of C", more_than=0)
    scalers: list[str] = key(
        ["standard", "minmax"], "scalings of features to try: to zero mean and unit variance, or to 0 to 1",
        choices=("standard", "minmax"),
    )  # fmt: skip
    losses: list[str] = key(
        ["epsilon_insensitive", "squared_epsilon_insensitive"], "losses to try: absolute or squared error",
        choices=("epsilon_insensitive", "squared_epsilon_insensitive"),
    )  # fmt: skip

    label: ClassVar[str] = "SVR"
    extension: ClassVar[str] = "svr"

    @property
    def words(self) -> str:
        return "support vector regression"

    def problems(self, config: Config) -> Iterator[str]:
        lists: dict[str, list[Any]] = {"grid": self.grid, "scalers": self.scalers, "losses": self.losses}
        for name, items in lists.items():
            if not items or len(set(items)) < len(items):
                yield f"head.{name}={value_text(items)}: must hold at least one value, each once"

    def canonical_values(self, vector: bool, voiced: bool) -> dict[str, Any]:
        return {**super().canonical_values(vector, voiced), "head.solver": SOLVER}

    def fit_predict(self, task: Task) -> Outcome:
        from emoshare.training.classical import fit_predict

        return fit_predict(task)

    def load(self, run: SavedRun) -> LearnedHead:
        from emoshare.systems.learned import load_regression

        return load_regression(run)
