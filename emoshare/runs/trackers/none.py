"""logger=none: metrics.csv alone."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

from emoshare.core.bases import TrackerOptions
from emoshare.core.schema import key


@dataclass
class Options(TrackerOptions):
    """It has none."""

    name: str = key("none", "where runs are logged beside metrics.csv")

    label: ClassVar[str] = "nowhere"

    def open(self, resolved: Any) -> AbstractContextManager[list[Any]]:
        return nullcontext([])
