"""optimizer=rmsprop: RMSprop (Hinton, 2012), with momentum as an option."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from emoshare.core.bases import MomentumOptions
from emoshare.core.schema import key


@dataclass
class Options(MomentumOptions):
    """The options of every optimizer, and its momentum."""

    name: str = key("rmsprop", "the optimizer")

    label: ClassVar[str] = "RMSprop"
    torch_class: ClassVar[str] = "RMSprop"
    fused: ClassVar[bool] = False
