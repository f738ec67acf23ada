"""optimizer=adam: Adam (Kingma and Ba, 2015)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from emoshare.core.bases import OptimizerOptions
from emoshare.core.schema import key


@dataclass
class Options(OptimizerOptions):
    """The options of every optimizer."""

    name: str = key("adam", "the optimizer")

    label: ClassVar[str] = "Adam"
    torch_class: ClassVar[str] = "Adam"
