"""optimizer=rmsprop: RMSprop (Hinton, 2012), with momentum if asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from emoshare.core.bases import OptimizerOptions
from emoshare.core.schema import key


@dataclass
class Options(OptimizerOptions):
    """Its momentum, beside the options of every optimizer."""

    name: str = key("rmsprop", "the optimizer")
    momentum: float = key(0.0, "share of the last step that the next one keeps", at_least=0, less_than=1)

    label: ClassVar[str] = "RMSprop"
    torch_class: ClassVar[str] = "RMSprop"
    fused: ClassVar[bool] = False

    def arguments(self) -> dict[str, Any]:
        return {**super().arguments(), "momentum": self.momentum}
