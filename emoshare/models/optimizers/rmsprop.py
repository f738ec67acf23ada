"""optimizer=rmsprop: RMSprop (Hinton, 2012), with momentum if asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from emoshare.core.bases import MomentumOptions
from emoshare.core.schema import key


@dataclass
class Options(MomentumOptions):
    """Those of every optimizer, and its momentum."""

    name: str = key("rmsprop", "the optimizer")

    label: ClassVar[str] = "RMSprop"
    torch_class: ClassVar[str] = "RMSprop"
    fused: ClassVar[bool] = False
