"""A tracker of Lightning's (CSVLogger, MLFlowLogger, CometLogger …) or of the user's own: a class of its Logger.

It gets the config as its hyperparameters, the metrics of every epoch, and the summary of the finished run. Where it
takes a `save_dir` and none is given, that is the run's folder. In its options {run}, {sweep}, {backbone} and {corpus}
are the names of these.
"""

from __future__ import annotations

import importlib.util
import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from emoshare.core.bases import TrackerOptions
from emoshare.core.errors import EmoshareError
from emoshare.core.kinds import Outside, values_of
from emoshare.core.outside import complete, crash, extends

if TYPE_CHECKING:
    from emoshare.core.config import Config
    from emoshare.runs.logger import Finished
    from emoshare.runs.resolved import ResolvedRun
    from emoshare.runs.results import Results

log = logging.getLogger("emoshare")
LOGGERS = ("pytorch_lightning.loggers.logger.Logger", "lightning.pytorch.loggers.logger.Logger")
PACKAGES = {  # those of conf/logger/ → the package that they need, which an extra of the same name brings
    "pytorch_lightning.loggers.MLFlowLogger": "mlflow", "emoshare.runs.trackio_logger.TrackioLogger": "trackio",
}  # fmt: skip
PLACE = "save_dir"  # the argument of Lightning's loggers that says where files go


@dataclass
class Options(Outside, TrackerOptions):
    """The dotted name of a logger from outside the package, and its options."""

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
        package = PACKAGES.get(self._target_)
        if package and importlib.util.find_spec(package) is None:
            raise EmoshareError(f'logger={package}: it is not installed; run `pip install "emoshare[{package}]"`')

    @contextmanager
    def open(self, resolved: ResolvedRun) -> Iterator[list[Any]]:
        place = {PLACE: str(resolved.run.folder)} if PLACE in self._parameters() else {}
        config = resolved.config
        names = {
            "{run}": resolved.run.name, "{sweep}": config.sweep.name, "{backbone}": config.backbone.name,
            "{corpus}": config.data.name,
        }  # fmt: skip
        try:
            logger = self.load_target()(**(place | with_names(self.arguments(), names)))
            logger.log_hyperparams(values_of(resolved.config))
        except Exception as error:
            raise crash(error, f"logger._target_={self._target_}") from error
        _count_epochs(logger)
        try:
            yield [logger]
        except BaseException:
            self._close(logger, "failed")
            raise
        self._close(logger, "success")

    def log_results(self, loggers: Sequence[Any], results: Results, more: Finished) -> None:
        from emoshare.runs.summary import summary

        known = {name: value for name, value in summary(results, more).items() if isinstance(value, int | float)}
        for logger in loggers:
            logger.log_metrics({name: value for name, value in known.items() if value == value}, results.epochs or 0)
            logger.save()

    def _close(self, logger: Any, status: str) -> None:
        try:
            getattr(logger, "end_run", logger.finalize)(status)
        except Exception as error:
            log.warning("%s: could not be closed: %s", self._target_, error)


def _count_epochs(logger: Any) -> None:
    """Make the step of what is logged the epoch, as in W&B: Lightning counts batches."""
    log_metrics = logger.log_metrics

    def log_epoch(metrics: Mapping[str, float], step: int | None = None) -> None:
        log_metrics(metrics, int(metrics["epoch"]) if "epoch" in metrics else step)

    logger.log_metrics = log_epoch


def with_names(value: Any, names: Mapping[str, str]) -> Any:
    """Options, lists and texts with what some words in them stand for."""
    if isinstance(value, dict):
        return {key: with_names(each, names) for key, each in value.items()}
    if isinstance(value, list):
        return [with_names(each, names) for each in value]
    for word, name in names.items():
        value = value.replace(word, name) if isinstance(value, str) else value
    return value
