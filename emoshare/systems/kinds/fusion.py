"""The head of a fusion, whose shares come from other runs: no head of its own, and none to be asked for by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from emoshare.core.kinds import HeadOptions
from emoshare.core.schema import key


@dataclass
class Options(HeadOptions):
    """It has none."""

    name: str = key("fusion", "what learns from frames")

    selectable: ClassVar[bool] = False
    label: ClassVar[str] = "fusion"
