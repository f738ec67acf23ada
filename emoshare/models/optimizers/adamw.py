"""optimizer=adamw: Adam with weight decay apart from the gradients (Loshchilov and Hutter, 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from emoshare.core.bases import OptimizerOptions
from emoshare.core.schema import key


@dataclass
class Options(OptimizerOptions):
    """The options of every optimizer."""

    name: str = key("adamw", "the optimizer")

    label: ClassVar[str] = "AdamW"
    torch_class: ClassVar[str] = "AdamW"
