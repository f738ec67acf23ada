"""A run's tracker: its loggers, opened at the beginning, and the results that it gets at the end.

metrics.csv is written for every run by `training/trainer.py: History`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emoshare.data.partition import Corpus
from emoshare.runs.resolved import ResolvedRun
from emoshare.runs.results import Results
from emoshare.runs.trackers.none import Options as Nowhere

log = logging.getLogger("emoshare")


@dataclass(frozen=True)
class Finished:
    """A finished run's arrays and figures, by partition: (N, E) shares, (N, E) labels, (N,) clusters."""

    predictions: dict[str, np.ndarray]
    truth: dict[str, np.ndarray]
    clusters: dict[str, np.ndarray | None]  # as of `bootstrap.draw`
    figures: list[Path]
    folder: Path  # the run's


@contextmanager
def logging_to(resolved: ResolvedRun) -> Iterator[list[Any]]:
    """Open the run's loggers, and close them at the end, also when the run fails or is interrupted."""
    if not isinstance(resolved.config.logger, Nowhere):
        import emoshare.core.lightning  # noqa: F401  (else its loggers are silent where RANK is above 0)
    with resolved.config.logger.open(resolved) as loggers:
        yield loggers


def log_results(
    resolved: ResolvedRun, loggers: Sequence[Any], results: Results, predictions: dict[str, np.ndarray],
    corpus: Corpus, figures: list[Path],
) -> None:  # fmt: skip
    """Log a finished run's results to its tracker; a failure of that is a warning.

    predictions: partition → (N, E) shares in the order of the corpus's clips.
    """
    truth = {name: part.shares for name, part in corpus.partitions.items() if part.shares is not None}
    clusters = {name: corpus.clusters_of(name) for name in truth}
    try:
        finished = Finished(predictions, truth, clusters, figures, resolved.run.folder)
        resolved.config.logger.log_results(loggers, results, finished)
    except Exception as error:
        log.warning("%s: its results are written, but not logged: %s", results.run, error)
