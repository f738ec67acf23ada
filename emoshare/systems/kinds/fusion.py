"""The head of a fusion, whose shares come from other runs: no head of its own, and none that a config can name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from emoshare.core.kinds import HeadOptions
from emoshare.core.schema import key


@dataclass
class Options(HeadOptions):
    """It has none."""

    name: str = key("fusion", "the head, which learns from frames")

    selectable: ClassVar[bool] = False
    label: ClassVar[str] = "fusion"
