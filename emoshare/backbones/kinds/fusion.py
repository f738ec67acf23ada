"""What stands in the backbone's place in the config of a fusion: its members have backbones of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from emoshare.core.backbones import BackboneOptions
from emoshare.core.schema import key


@dataclass
class Options(BackboneOptions):
    """It has none."""

    type: str = key("fusion", "the kind of backbone")

    path = "fusion"
    dim = 0
    selectable: ClassVar[bool] = False
