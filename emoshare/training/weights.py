"""The weights of a finished run: its head, and its backbone where that was trained.

They are read without Lightning, which takes seconds to import and which prediction does not need.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emoshare.core.config import Config, TrainConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.hashing import check_file
from emoshare.core.kinds import HeadOptions
from emoshare.models.head import Head
from emoshare.runs.folder import Run
from emoshare.runs.results import REMEDY, Results


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Name the checkpoint that cannot be read, and the remedy."""
    try:
        yield
    except Exception as error:  # zip's, pickle's and torch's own
        reason = str(error).partition("\n")[0]
        raise EmoshareError(f"{path}: not readable ({reason}); resume=false trains the run from its start") from error


def read(path: Path, known: str | None = None) -> dict[str, Any]:
    """Read a checkpoint, on the CPU. known: its digest in results.json.

    Raises EmoshareError where it cannot be read, or is damaged.
    """
    with readable(path):
        if known is None:
            verify(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    check_file(path, known, REMEDY)
    return content


def verify(path: Path) -> None:
    """Raise ValueError where a checkpoint is damaged: PyTorch writes checksums, and does not look at them."""
    with zipfile.ZipFile(path) as archive:
        if archive.testzip() is not None:
            raise ValueError("damaged: its bytes are not what was written")


def path_of(run: Run, train: TrainConfig, partition: str = "new") -> Path:
    """The checkpoint whose weights predict a partition of the run's corpus, or new clips."""
    if train.refit and partition != "devel":
        return run.refit
    return run.best if train.average == 1 else run.average


def load_head(run: Run, config: Config, results: Results) -> Head:
    """The head of a finished run that predicts new clips, on the CPU in evaluation mode.

    Raises:
        EmoshareError: the checkpoint cannot be read.
    """
    return make_head(config.head, results, part_of(run, config.train, results, "head."))


def load_backbone_weights(run: Run, train: TrainConfig, results: Results) -> dict[str, Tensor]:
    """The backbone's tensors of a run that trained it, for new clips. EmoshareError where they cannot be read."""
    return part_of(run, train, results, "backbone.")


def part_of(run: Run, train: TrainConfig, results: Results, prefix: str) -> dict[str, Tensor]:
    """The tensors that predict new clips and whose names begin with `prefix`, by the rest of their names."""
    path = path_of(run, train)
    weights = read(path, results.files.get(str(path.relative_to(run.folder)))).get("state_dict")
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise EmoshareError(f"{path}: not the weights of a run; {REMEDY}")
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def make_head(options: HeadOptions, results: Results, weights: dict[str, Tensor]) -> Head:
    """The head of a run with the weights given, in evaluation mode.

    Raises:
        EmoshareError: they are of another head.
    """
    sizes = (results.backbone.width, results.backbone.states, len(results.targets))
    try:
        with torch.device("meta"):  # sizes of a stranger's config take no memory before they are compared with the file
            kinds = {name: value.dtype for name, value in options.make(*sizes).state_dict().items()}
            options.make(*sizes).load_state_dict(weights, assign=True)
        for name, value in weights.items():
            if value.is_floating_point() != kinds[name].is_floating_point or not bool(torch.isfinite(value).all()):
                raise ValueError(f"{name} is of the type {value.dtype}, or not finite")
        head = options.make(*sizes)
        head.load_state_dict(weights)
    except (RuntimeError, ValueError, TypeError, ArithmeticError) as error:
        reason = str(error).replace("\n", " ")[:200]
        raise EmoshareError(f"{results.run}: its weights are of another head ({reason}); train the run again") from None
    return head.eval()
