"""Trains auDeep's four autoencoders on the clips of a corpus, once, and goes on where it was interrupted.

`cache/audeep/<16 hex of the training identity>/` holds the recipe, a weights file per threshold, and while training
lasts the spectrograms and the checkpoint of the last epoch.

Shapes: N clips, T = 74 frames, F = 128 mel bands.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from filelock import FileLock
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from emoshare.backbones import audeep
from emoshare.backbones.audeep import BANDS, FRAMES, RECIPE, REMEDY, THRESHOLDS, Settings, weights_file
from emoshare.core.backbones import BackboneOptions
from emoshare.core.errors import EmoshareError
from emoshare.core.files import read_json, replacing, reserve, write_json
from emoshare.core.hashing import write_digests
from emoshare.core.lightning import interruptible, new_trainer
from emoshare.core.progress import report
from emoshare.data.audio import read
from emoshare.data.partition import Corpus, audio_hash
from emoshare.models.autoencoder import SequenceAutoencoder, rms_error

log = logging.getLogger("emoshare")

RATE_OF_LEARNING, CLIP_VALUE = 1e-3, 2.0  # of Adam; gradients are clipped to ±2
CPU = torch.device("cpu")


def train_autoencoders(
    clips: Sequence[Path], audio_fingerprint: str, settings: Settings, cache: Path,
    device: torch.device | None = None, scale: float | None = None,
) -> Path:  # fmt: skip
    """The folder with the trained autoencoders of these clips; they are trained first where they are not there yet.

    Args:
        clips: the wav files, in the corpus's order; those of the test partition too, if the settings say so.
        audio_fingerprint: of these clips.
        settings: epochs, sizes, seed.
        cache: root of the cache.
        device: that computes; the CPU by default.
        scale: of files of floats, as for `audio.read`; the fingerprint counts it.

    Raises:
        EmoshareError: a wav file or a file in the folder is not readable, or the training diverged.
    """
    identity = audeep.training_identity(audio_fingerprint, settings)
    folder = audeep.folder_of(identity, cache)
    if is_trained(folder, identity):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        if is_trained(folder, identity):  # by the process that was waited for
            return folder
        for unfinished in folder.glob(".*"):  # of a process that was killed while it wrote
            unfinished.unlink()
        log.info("training auDeep's 4 autoencoders on %d clips, once; kept in %s", len(clips), folder)
        write_json(folder / RECIPE, identity)
        levels_file = folder / "levels.npy"
        levels = spectrograms(clips, levels_file, scale)
        poor = []
        for number, threshold in enumerate(THRESHOLDS):
            if not weights_file(folder, threshold).exists():
                error, mean = fit(levels, threshold, settings, folder, device or CPU, Progress(number, threshold))
                poor += [f"{threshold} dB ({error:.3f}, {mean:.3f})"] if error >= mean else []
        levels_file.unlink()
        write_digests(folder)
    if poor:
        log.warning(
            "auDeep has learned little: its error is not below that of the mean frame at %s; "
            "raise backbone.epochs or lower backbone.batch_size", ", ".join(poor),
        )  # fmt: skip
    return folder


def prepare(backbone: Any, corpus: Corpus, device: torch.device, cache: Path) -> BackboneOptions:
    """Audeep with its trained autoencoders as `path`, trained on the corpus first if need be."""
    settings, parts = audeep.settings_of(backbone), corpus.partitions
    left_out = set() if settings.train_on_test or "test" not in parts else set(parts["test"].files)
    kept = [row for row, file in enumerate(corpus.files) if file not in left_out]  # the same for all folds
    clips, digests = [corpus.path(corpus.files[row]) for row in kept], [corpus.digests[row] for row in kept]
    folder = train_autoencoders(clips, audio_hash(digests, corpus.scale), settings, cache, device, corpus.scale)
    return replace(backbone, path=str(folder))


def is_trained(folder: Path, identity: dict[str, Any]) -> bool:
    """Whether all weights are there. EmoshareError where the folder's recipe is another's."""
    if not (folder / RECIPE).exists():
        return False
    if read_json(folder / RECIPE, REMEDY) != identity:
        raise EmoshareError(f"{folder / RECIPE}: not the recipe that the folder is named by; {REMEDY}")
    return all(weights_file(folder, threshold).exists() for threshold in THRESHOLDS)


def spectrograms(clips: Sequence[Path], path: Path, scale: float | None = None) -> np.ndarray:
    """(N, T, F) float32 levels in dB, before any threshold, as a file that is mapped into memory."""
    if not path.exists():
        spectrogram = audeep.Spectrogram()
        with replacing(path) as temporary:
            file = np.lib.format.open_memmap(temporary, "w+", np.float32, (len(clips), FRAMES, BANDS))
            reserve(temporary)
            for row, clip in enumerate(clips):
                wave = torch.from_numpy(read(clip, scale=scale))[None]
                file[row] = spectrogram(wave, torch.tensor([wave.shape[1]]))[0].numpy()
            file.flush()
            del file
    return np.load(path, mmap_mode="r")


def fit(
    levels: np.ndarray, threshold: int, settings: Settings, folder: Path, device: torch.device, *more: pl.Callback
) -> tuple[float, float]:
    """Train one autoencoder and write its weights; its error and that of the mean frame.

    Raises:
        EmoshareError: the training diverged. No weights are written then.
    """
    from safetensors.torch import save_file

    data = Clips(levels, threshold)
    loader = DataLoader(data, settings.batch_size, sampler=Shuffle(data, settings.seed), collate_fn=pass_through)
    last = folder / f"{-threshold}dB.ckpt"
    module = Training(audeep.new_autoencoder(settings, threshold, settings.seed), settings.seed)
    with quiet(), torch.random.fork_rng(), interruptible() as interrupt:
        trainer = make_trainer(settings.epochs, device, folder, [Last(last), interrupt, *more])
        trainer.fit(module, loader, ckpt_path=last if last.exists() else None, weights_only=True)
    error = reconstruction_error(module.model, data, settings.batch_size)
    if not np.isfinite(error):
        last.unlink()
        raise EmoshareError(
            f"auDeep at {threshold} dB: the training diverged; set backbone.batch_size to another value"
        )
    with replacing(weights_file(folder, threshold)) as temporary:
        save_file(module.model.cpu().state_dict(), temporary)
    last.unlink()
    return error, mean_frame_error(data)


def make_trainer(epochs: int, device: torch.device, folder: Path, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Lightning's trainer: gradients clipped by value, and no files but ours."""
    return new_trainer(
        device, epochs, folder, callbacks, logger=False, enable_checkpointing=False, gradient_clip_val=CLIP_VALUE,
        gradient_clip_algorithm="value",
    )  # fmt: skip


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning's tips, banners and warnings, none of which a user could act on here, are left out."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for module in ("pytorch_lightning", "lightning_fabric", "torch"):
                warnings.filterwarnings("ignore", module=rf"{module}\..*")
            yield
    finally:
        logger.setLevel(level)


@torch.no_grad()
def reconstruction_error(model: SequenceAutoencoder, data: Clips, batch_size: int) -> float:
    """Root mean squared error of the reconstruction over all clips, without dropout."""
    model.eval()
    total = 0.0
    for batch in data.batches(batch_size):
        reconstruction, target = model(batch.to(next(model.parameters()).device))
        total += (reconstruction - target).square().sum().item()
    return (total / data.levels.size) ** 0.5


def mean_frame_error(data: Clips, batch_size: int = 512) -> float:
    """Root mean squared error of the best constant frame: the mean over all frames of all clips."""
    count = len(data) * FRAMES
    mean = sum(batch.double().sum((0, 1)) for batch in data.batches(batch_size)) / count  # (F,)
    total = sum(float((batch.double() - mean).square().sum()) for batch in data.batches(batch_size))
    return (total / (count * BANDS)) ** 0.5


class Clips(Dataset[Tensor]):
    """Spectrograms of all clips, clipped at one threshold."""

    def __init__(self, levels: np.ndarray, threshold: int) -> None:
        self.levels, self.threshold = levels, threshold

    def __len__(self) -> int:
        return len(self.levels)

    def __getitems__(self, rows: Sequence[int]) -> Tensor:
        """The levels of a whole batch, (B, T, F); the DataLoader calls it."""
        return audeep.clip_levels(torch.from_numpy(self.levels[list(rows)]), self.threshold)

    def batches(self, size: int) -> Iterator[Tensor]:
        """All clips in order."""
        for first in range(0, len(self), size):
            yield self.__getitems__(range(first, min(first + size, len(self))))


def pass_through(batch: Any) -> Any:
    """Return the batch unchanged, as `__getitems__` has made it."""
    return batch


class Shuffle(Sampler[int]):
    """A permutation that depends on seed and epoch alone, so that a resumed training sees the same batches."""

    def __init__(self, clips: Clips, seed: int) -> None:
        self.clips, self.seed, self.epoch = clips, seed, 0

    def __len__(self) -> int:
        return len(self.clips)

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before every epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.default_rng((self.seed, self.epoch)).permutation(len(self.clips)).tolist())


class Training(pl.LightningModule):
    """One autoencoder, trained by Adam on the root mean squared error of a batch."""

    def __init__(self, model: SequenceAutoencoder, seed: int) -> None:
        super().__init__()
        self.model, self.seed = model, seed

    def on_train_batch_start(self, batch: Tensor, batch_idx: int) -> None:
        """Dropout has a random state of its own in every epoch, so that a resumed training draws the same."""
        if batch_idx == 0:
            torch.manual_seed(self.seed + 1_000_003 * (self.current_epoch + 1))

    def training_step(self, batch: Tensor, _: int) -> Tensor:
        return rms_error(*self.model(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=RATE_OF_LEARNING)


class Last(pl.Callback):
    """Writes the checkpoint of every epoch in the place of the one before, whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        with replacing(self.path) as temporary:
            trainer.save_checkpoint(temporary, weights_only=False)


class Progress(pl.Callback):
    """Reports every epoch of one autoencoder, the `number`-th of all, counted from 0."""

    def __init__(self, number: int, threshold: int) -> None:
        self.number, self.threshold = number, threshold

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch, epochs = trainer.current_epoch + 1, trainer.max_epochs or 1
        done = (self.number + epoch / epochs) / len(THRESHOLDS)
        name = f"auDeep {self.number + 1} of {len(THRESHOLDS)}  {self.threshold} dB"
        report(log, f"{name} · epoch {epoch}/{epochs}", done)
