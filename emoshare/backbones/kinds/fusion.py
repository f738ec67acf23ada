"""The placeholder of a backbone in the config of a fusion, whose members have backbones of their own."""

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
