"""A tracker of Lightning's (CSVLogger, MLFlowLogger, CometLogger …) or of the user's own: a class of its Logger.

It gets the config as its hyperparameters, the metrics of every epoch, and the scores of the finished run. Where it
takes a `save_dir` and none is given, that is the run's folder.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from emoshare.core.bases import TrackerOptions
from emoshare.core.errors import EmoshareError
from emoshare.core.kinds import Outside, values_of
from emoshare.core.outside import complete, crash, extends

if TYPE_CHECKING:
    from emoshare.core.config import Config
    from emoshare.runs.resolved import ResolvedRun

log = logging.getLogger("emoshare")
LOGGERS = ("pytorch_lightning.loggers.logger.Logger", "lightning.pytorch.loggers.logger.Logger")
PLACE = "save_dir"  # the argument of Lightning's loggers that says where files go


@dataclass
class Options(Outside, TrackerOptions):
    """Its dotted name and its options."""

    def settle(self, prefix: str) -> None:
        """Import it, and check its options; their defaults stay with the class, as some are secrets of a machine."""
        cls = self.load_target()
        if not extends(cls, *LOGGERS):
            raise EmoshareError(f"{self._target_}: must be a class of Lightning's Logger")
        complete(cls, self.arguments(), 0, prefix, self._target_, (PLACE,))

    def arguments(self) -> dict[str, Any]:
        """The arguments of its class; `logger.name` where it is given and the class has such an argument, too."""
        named = self.name != self._target_.rpartition(".")[2] and "name" in self._parameters()
        return ({"name": self.name} if named else {}) | self.options

    def _parameters(self) -> set[str]:
        return set(inspect.signature(self.load_target()).parameters)

    def check(self, config: Config) -> None:
        self.load_target()  # that of a fusion's member is not allowed

    @contextmanager
    def open(self, resolved: ResolvedRun) -> Iterator[list[Any]]:
        place = {PLACE: str(resolved.run.folder)} if PLACE in self._parameters() else {}
        try:
            logger = self.load_target()(**(place | self.arguments()))
            logger.log_hyperparams(values_of(resolved.config))
        except Exception as error:
            raise crash(error, f"logger._target_={self._target_}") from error
        try:
            yield [logger]
        except BaseException:
            self._close(logger, "failed")
            raise
        self._close(logger, "success")

    def _close(self, logger: Any, status: str) -> None:
        try:
            logger.finalize(status)
        except Exception as error:
            log.warning("%s: could not be closed: %s", self._target_, error)
