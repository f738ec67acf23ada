"""head=sklearn: any regressor of scikit-learn's kind on pooled frames, its parameters chosen on devel.

`head.estimator={_target_: sklearn.linear_model.Ridge, alpha: 10}` makes one; `head.grid={alpha: [1,10,100]}` tries
every combination of values. One that takes a single target is fitted once per target.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from emoshare.core import outside
from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError, NotAtHandError
from emoshare.core.kinds import SOURCE, TARGET
from emoshare.core.schema import key, value_text
from emoshare.systems.options import PooledOptions

if TYPE_CHECKING:
    from emoshare.systems.learned import LearnedHead, SavedRun
    from emoshare.training.system import Outcome, Task

MOST = 10_000  # combinations of a grid


@dataclass
class Options(PooledOptions):
    """The options of `head=sklearn`."""

    name: str = key("sklearn", "the head, which learns from frames", file_name=True)
    estimator: dict[str, Any] = key({}, "the regressor: {_target_: its dotted name, and its parameters}")
    grid: dict[str, Any] = key({}, "parameter → values to try; those that score best on devel are taken")
    scaler: str = key(
        "standard", "scaling of features: to zero mean and unit variance, to 0 to 1, or none",
        choices=("standard", "minmax", "none"),
    )  # fmt: skip
    select: str = key("avg", "metric on devel that chooses the parameters")

    @property
    def label(self) -> str:
        return self.target.rpartition(".")[2] or self.name

    @property
    def extension(self) -> str:  # type: ignore[override]
        return self.label

    @property
    def system(self) -> str:
        return self.label

    @property
    def words(self) -> str:
        return f"{self.target} on pooled frames"

    @property
    def target(self) -> str:
        """The estimator's dotted name; empty where none is given."""
        return str(self.estimator.get(TARGET) or "")

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of the estimator, as the config gives them."""
        return {name: value for name, value in self.estimator.items() if name not in (TARGET, SOURCE)}

    @property
    def seeded(self) -> bool:
        """True: some estimators draw random numbers, and none can be trusted to draw none."""
        return True

    def settle(self, prefix: str) -> None:
        """Check the parameters with the estimator, and note the hash of a source that is no library's.

        Raises:
            EmoshareError: there is no such estimator, or it has no such parameters; a line for each.
        """
        if not self.target:
            raise EmoshareError(
                f"{prefix}estimator: names no {TARGET}, as in {{{TARGET}: sklearn.linear_model.Ridge, alpha: 10}}"
            )
        target = outside.locate(self.target)
        tried = dict.fromkeys(self.grid) | self.parameters
        complete = outside.complete(target, tried, 0, f"{prefix}estimator.", self.target)
        self.estimator = {TARGET: self.target, **{n: v for n, v in complete.items() if n not in self.grid}}
        if not outside.is_library(target):
            self.estimator[SOURCE] = outside.source_hash(target)

    def problems(self, config: Config) -> Iterator[str]:
        for name, values in self.grid.items():
            if not isinstance(values, list) or not values:
                yield f"head.grid.{name}={value_text(values)}: must be a list of values"
        if math.prod(len(values) for values in self.grid.values() if isinstance(values, list)) > MOST:
            yield f"head.grid: more than {MOST:,} combinations; name fewer values"

    def check(self, config: Config) -> None:
        """Raise EmoshareError unless it is a regressor that can be fitted, and skops is installed."""
        self.check_packages()
        from emoshare.systems.estimator import try_out

        try_out(self)

    def check_packages(self) -> None:
        """Raise NotAtHandError where skops, which saves it, is not installed."""
        import importlib.util

        if importlib.util.find_spec("skops") is None:
            raise NotAtHandError(
                'head=sklearn: skops saves it, and is not installed; run `pip install "emoshare[skops]"`'
            )

    def make_estimator(self, **changed: Any) -> Any:
        """A new estimator. changed: parameters of the grid."""
        try:
            return outside.locate(self.target)(**{**self.parameters, **changed})
        except EmoshareError:
            raise
        except Exception as error:
            raise outside.crash(error, self.target) from error

    def fit_predict(self, task: Task) -> Outcome:
        from emoshare.systems.estimator import fit_predict

        return fit_predict(task, self)

    def load(self, run: SavedRun) -> LearnedHead:
        from emoshare.systems.learned import load_estimator

        return load_estimator(run)
