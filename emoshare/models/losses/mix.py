"""The loss of conf/loss/: a weighted mix of 1 − CCC, mean squared and mean absolute error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from emoshare.core.bases import LossOptions
from emoshare.core.schema import key

if TYPE_CHECKING:
    from emoshare.core.config import Config


@dataclass
class Options(LossOptions):
    """Its weights."""

    ccc: float = key(1.0, "weight of 1 - CCC", at_least=0)
    mse: float = key(0.0, "weight of the mean squared error", at_least=0)
    mae: float = key(0.0, "weight of the mean absolute error", at_least=0)
    released: bool = key(
        False, "CCC with the moments of the paper's released code in place of Lin's", unless={"loss.ccc": (0,)},
    )  # fmt: skip

    label: ClassVar[str] = "CCC, MSE and MAE"

    @property
    def least_batch(self) -> int:
        return 2 if self.ccc else 1

    def problems(self, config: Config) -> Iterator[str]:
        if not any((self.ccc, self.mse, self.mae)):
            yield "loss: all weights are 0; set at least one of loss.ccc, loss.mse, loss.mae"

    def make(self) -> Any:
        from emoshare.models.loss import ShareLoss

        return ShareLoss(self)
