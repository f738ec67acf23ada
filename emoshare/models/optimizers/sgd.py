"""optimizer=sgd: stochastic gradient descent, with momentum as an option."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from emoshare.core.bases import MomentumOptions
from emoshare.core.schema import key


@dataclass
class Options(MomentumOptions):
    """The options of every optimizer, and its momentum."""

    name: str = key("sgd", "the optimizer")

    label: ClassVar[str] = "SGD"
    torch_class: ClassVar[str] = "SGD"
