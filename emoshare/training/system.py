"""Input and output of a system's training: `Task` and `Outcome`.

Shapes: N clips of a partition, E emotions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from emoshare.core.config import Config
from emoshare.data.partition import Corpus
from emoshare.runs.folder import Run
from emoshare.runs.resolved import ResolvedRun
from emoshare.runs.sweep import Place
from emoshare.training.source import Source

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger


@dataclass(frozen=True)
class Task:
    """The input of a system's training."""

    resolved: ResolvedRun
    source: Source  # stored frames, or the backbone that gives them
    place: Place | None = None  # in a sweep
    loggers: Sequence[Logger] = ()  # of epochs; results are logged for every system

    @property
    def config(self) -> Config:
        return self.resolved.config

    @property
    def corpus(self) -> Corpus:
        return self.resolved.corpus

    @property
    def run(self) -> Run:
        """The run, whose folder holds all that a system needs to be resumed."""
        return self.resolved.run

    @property
    def device(self) -> torch.device:
        return self.resolved.device

    @property
    def precision(self) -> str:
        """Lightning's precision."""
        return self.resolved.precision


@dataclass(frozen=True)
class Outcome:
    """The result of a system's training."""

    predictions: dict[str, np.ndarray]  # devel and, where the corpus has it, test → (N, E) float32, in clip order
    best_epoch: int | None = None  # counted from 0; None where there are no epochs
    epochs: int | None = None  # that were trained
    timings: dict[str, float] = field(default_factory=dict)  # name_seconds → seconds, beside those of every run
    refit: bool = False  # whether weights from train + devel predict test and new clips
    predicted_by: dict[str, str] = field(default_factory=dict)  # partition → file of the weights
    choices: dict[str, Any] = field(default_factory=dict)  # other choices of the system, for results.json
    weights: tuple[str, ...] = ()  # files in the run's folder that predict
