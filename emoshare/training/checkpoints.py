"""Checkpoints of a run: written whole or not at all, read with one clear error, and the best of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO, Any

import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from emoshare.core.files import replacing
from emoshare.metrics.metric import Metric
from emoshare.models.module import EmotionShareModule
from emoshare.training.weights import read, readable, verify


class CheckpointFile:
    """A file that keeps the error of a failed write: PyTorch's own says nothing of a full disk."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint to a temporary file, which then takes the place of the old one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with replacing(Path(path)) as temporary, temporary.open("wb") as file:
            writer = CheckpointFile(file)
            try:
                torch.save(checkpoint, writer)  # type: ignore[arg-type]
            except RuntimeError:
                if writer.error is not None:
                    raise writer.error from None
                raise

    def load_checkpoint(self, path: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
        with readable(path):
            verify(Path(path))
            return super().load_checkpoint(path, *arguments, **options)


class BestCheckpoint(ModelCheckpoint):
    """Keeps the best epochs, and finds them also where the run's folder was moved.

    Lightning stores absolute paths, and would silently lose the best epoch.
    """

    def __init__(self, folder: Path, select: Metric, keep: int = 1) -> None:
        self.select = select
        super().__init__(
            folder,
            filename="best" if keep == 1 else "best-{epoch}",
            auto_insert_metric_name=False,
            save_top_k=keep,
            monitor=f"devel/{select.name}",
            mode=select.mode,
            save_on_train_epoch_end=True,  # after the scheduler's step, so that a resumed run has taken it too
            enable_version_counter=False,
        )

    def best_paths(self) -> list[Path]:
        """The checkpoints of the best epochs, the best first; one whose score is no number only where all are so."""
        scores = {Path(path): float(score) for path, score in self.best_k_models.items()}
        numbers = [path for path, score in scores.items() if math.isfinite(score)]
        return sorted(numbers, key=lambda path: -self.select.goodness(scores[path])) or list(scores)[:1]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        here, old = str(self.dirpath), str(state_dict["dirpath"])
        paths = {k: v.replace(old, here) for k, v in state_dict.items() if isinstance(v, str)}
        best = {path.replace(old, here): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "best_k_models": best})


class LastCheckpoint(ModelCheckpoint):
    """Keeps the last epoch. Lightning's `save_last=True` keeps the last of the epochs that were the best so far."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.parent, path.stem, save_on_train_epoch_end=True, enable_version_counter=False)


def save(path: Path, module: EmotionShareModule, epoch: int) -> None:
    """Write the weights that were learned, as those of an epoch, counted from 0."""
    checkpoint: dict[str, Any] = {"epoch": epoch, "state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    AtomicCheckpoints().save_checkpoint(checkpoint, path)


def load(path: Path, module: EmotionShareModule) -> int:
    """Load the weights of a checkpoint, and return the number of its epoch, counted from 0."""
    checkpoint = read(path)
    use(checkpoint, module)
    return checkpoint["epoch"]


def use(checkpoint: dict[str, Any], module: EmotionShareModule) -> None:
    """Load the weights in a checkpoint. Raises EmoshareError where it belongs to another backbone or corpus."""
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"])
