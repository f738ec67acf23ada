"""logger=tensorboard: event files in the run's folder."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from emoshare.core.bases import TrackerOptions
from emoshare.core.errors import EmoshareError
from emoshare.core.schema import key

if TYPE_CHECKING:
    from emoshare.core.config import Config
    from emoshare.runs.resolved import ResolvedRun


@dataclass
class Options(TrackerOptions):
    """It has none."""

    name: str = key("tensorboard", "where runs are logged beside metrics.csv")

    label: ClassVar[str] = "TensorBoard"

    def check(self, config: Config) -> None:
        if not any(map(importlib.util.find_spec, ("tensorboard", "tensorboardX"))):
            raise EmoshareError('logger=tensorboard: it is not installed; run `pip install "emoshare[tensorboard]"`')

    @contextmanager
    def open(self, resolved: ResolvedRun) -> Iterator[list[Any]]:
        from pytorch_lightning.loggers import TensorBoardLogger

        yield [TensorBoardLogger(resolved.run.folder, name="tensorboard", version="")]
