"""The LightningDataModule: windows of a corpus, or the stored frames of those windows.

Both serve the same clips in the same batches, so that a run from the store and one with the backbone in the loop
see the same numbers. Shapes: B clips, N samples, T frames, E emotions.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import multiprocessing
from contextlib import closing
from multiprocessing import forkserver, resource_tracker
from typing import Any, Protocol

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from emoshare.core.config import DataConfig
from emoshare.core.hardware import free_memory
from emoshare.core.interrupt import block_signals
from emoshare.core.prefetch import prefetch
from emoshare.data.audio import read
from emoshare.data.partition import Corpus, Partition
from emoshare.data.window import Window
from emoshare.models.module import Batch
from emoshare.training.sampling import Balanced, Shuffle, train_chances
from emoshare.training.votes import VoteDropout, vote_dropout


class Store(Protocol):
    """A store of frames by the rows of the corpus-wide order."""

    def gather(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Rows (B,) → frames (B, T, width), zeros after each clip's own, and (B,) frames that count."""

    def nbytes(self, rows: np.ndarray) -> int:
        """Bytes that the frames of rows take."""


class Clips(Dataset[Batch]):
    """A partition, one batch at a time; subclasses add the windows or frames of its rows."""

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.epoch = 0
        self.dropout: VoteDropout | None = None
        self.dropped: tuple[int, np.ndarray] | None = None  # an epoch and its labels (N, E)

    def __len__(self) -> int:
        return len(self.partition.files)

    def __getitems__(self, rows: list[int]) -> Batch:
        """The batch of some rows; the DataLoader calls it."""
        values, lengths = self.load(rows)
        batch: Batch = {"clip": torch.tensor(rows), "lengths": lengths, **values}  # type: ignore[typeddict-item]
        if (shares := self.shares) is not None:
            batch["shares"] = torch.from_numpy(shares[rows])
        return batch

    @property
    def shares(self) -> np.ndarray | None:
        """(N, E) labels, of this epoch where votes are left out; None where they are hidden."""
        if self.dropout is None:
            return self.partition.shares
        if self.dropped is None or self.dropped[0] != self.epoch:
            self.dropped = self.epoch, self.dropout.shares(self.epoch)
        return self.dropped[1]

    def load(self, rows: list[int]) -> tuple[dict[str, Tensor], Tensor]:
        """`{"waves": (B, N)}` or `{"frames": (B, T, width)}`, and (B,) lengths."""
        raise TypeError(f"{type(self).__name__} serves neither windows nor frames")


class Windows(Clips):
    """Reads and cuts waveforms; zeros follow each clip's speech."""

    def __init__(self, partition: Partition, corpus: Corpus, window: Window, training: bool, seed: int) -> None:
        super().__init__(partition)
        self.corpus, self.window, self.training, self.seed = corpus, window, training, seed

    def load(self, rows: list[int]) -> tuple[dict[str, Tensor], Tensor]:
        cuts = [self.cut(row) for row in rows]
        samples = self.window.samples if self.window.pad == "zeros" else max(map(len, cuts))
        waves = torch.zeros(len(cuts), samples)  # (B, N)
        for wave, cut in zip(waves, cuts, strict=True):
            wave[: len(cut)] = torch.from_numpy(cut)
        return {"waves": waves}, torch.tensor([len(cut) for cut in cuts])

    def cut(self, row: int) -> np.ndarray:
        """The window of one clip, (n,) samples; a random crop depends on seed, epoch and clip alone."""
        wave = read(self.corpus.path(self.partition.files[row]), scale=self.corpus.scale)
        rng = np.random.default_rng((self.seed, self.epoch, row)) if self.training else None
        return self.window.cut(wave, rng, training=self.training)


class Frames(Clips):
    """Gathers stored frames."""

    def __init__(self, partition: Partition, store: Store | DeviceFrames) -> None:
        super().__init__(partition)
        self.store = store

    def load(self, rows: list[int]) -> tuple[dict[str, Tensor], Tensor]:
        frames, lengths = self.store.gather(self.partition.rows[rows])
        return {"frames": frames}, lengths


class DeviceFrames:
    """The frames of a partition held on a device: one copy at the start instead of one for every batch."""

    def __init__(self, store: Store, partition: Partition, device: torch.device, chunk: int = 256) -> None:
        rows = partition.rows
        self.place, self.clips = {row: place for place, row in enumerate(rows.tolist())}, []
        for first in range(0, len(rows), chunk):
            frames, lengths = store.gather(rows[first : first + chunk])
            self.clips += [clip[:n].to(device) for clip, n in zip(frames, lengths.tolist(), strict=True)]  # (T, width)

    def gather(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Frames and counts as those of the store, on the device."""
        clips = [self.clips[self.place[row]] for row in rows.tolist()]
        lengths = torch.tensor([len(clip) for clip in clips], device=clips[0].device)
        return pad_sequence(clips, batch_first=True), lengths


@functools.cache
def fork_server() -> Any:
    """A process that loader processes are forked from: forked from this one, they can deadlock beside wandb's threads.

    It loads our modules once for all of them. A cluster sends its signals to every process of a job: these leave them
    to the run's own, which ends them.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["emoshare.training.datamodule"])
    with block_signals():  # the processes that it starts have them blocked for good
        resource_tracker.ensure_running()  # which lets some through again
    with block_signals():
        forkserver.ensure_running()
    atexit.register(kill_loaders)
    return context


def kill_loaders() -> None:
    """Kill the loader processes that still run at the end, which Python would send SIGTERM and wait for."""
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def pass_through(batch: Any) -> Any:
    """Return the batch unchanged, as `__getitems__` has collated it."""
    return batch


class PrefetchingLoader(DataLoader[Batch]):
    """Batches gathered and pinned by a thread while the GPU works on those before them.

    Gathering is copying: a process for it would first have to import PyTorch and Lightning.
    """

    def __iter__(self) -> Any:
        batches = super().__iter__()
        # The thread would pin for the first GPU otherwise.
        start: Any = functools.partial(torch.cuda.set_device, torch.cuda.current_device()) if self.pin_memory else None
        nexts = prefetch(lambda _: next(batches, None), itertools.count(), threads=1, initializer=start)
        with closing(nexts):
            yield from iter(functools.partial(next, nexts), None)


class LateLoader(DataLoader[Batch]):
    """Starts its processes with the first batch: Lightning makes the iterator before it sets a resumed run's epoch."""

    def __iter__(self) -> Any:
        yield from super().__iter__()


class EmotionShareData(pl.LightningDataModule):
    """Loaders of a corpus: train shuffled by seed and epoch (the last incomplete batch dropped), devel and test."""

    def __init__(
        self, corpus: Corpus, window: Window, config: DataConfig, seed: int, store: Store | None = None,
        drop_votes: float = 0.0, balance: str | None = None,
    ) -> None:  # fmt: skip
        """drop_votes: as `train.drop_votes`. balance: as in the config, for sampler=balanced; None: shuffled."""
        super().__init__()
        self.corpus, self.window, self.config, self.seed, self.store = corpus, window, config, seed, store
        self.drop_votes, self.balance = drop_votes, balance
        self.on_device: dict[str, DeviceFrames] = {}

    @property
    def device(self) -> torch.device:
        """The trainer's device; the CPU as long as there is no trainer."""
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    def clips(self, name: str) -> Clips:
        """The dataset of one partition."""
        partition = self.corpus.partitions[name]
        if self.store is None:
            return Windows(partition, self.corpus, self.window, name == "train", self.seed)
        return Frames(partition, self.on_device.get(name, self.store))

    def setup(self, stage: str) -> None:
        """Hold the frames of train and devel on a GPU if they take at most half of what is free there."""
        device = self.device
        if self.store is None or device.type != "cuda" or self.on_device:
            return
        parts = {name: part for name, part in self.corpus.partitions.items() if name in ("train", "devel")}
        if sum(self.store.nbytes(part.rows) for part in parts.values()) < free_memory(device) / 2:
            self.on_device = {name: DeviceFrames(self.store, part, device) for name, part in parts.items()}

    def loader(self, name: str) -> DataLoader[Batch]:
        """Batches of one partition."""
        clips, training = self.clips(name), name == "train"
        clips.dropout = vote_dropout(clips.partition, self.drop_votes, self.seed) if training else None
        fresh = training and (self.window.crop == "random" or clips.dropout)  # its processes must learn of the epoch
        stored, pin = self.store is not None, self.device.type == "cuda" and name not in self.on_device
        workers = 0 if stored else self.config.workers
        return (PrefetchingLoader if stored and pin else LateLoader)(
            clips,
            batch_size=self.config.batch_size * (8 if stored and not training else 1),  # it changes no score
            sampler=self.sampler(clips) if training else None,
            drop_last=training,
            num_workers=workers,
            multiprocessing_context=fork_server() if workers else None,
            persistent_workers=workers > 0 and not fresh,
            collate_fn=pass_through,
            pin_memory=pin,
        )

    def sampler(self, clips: Clips) -> Shuffle:
        """The order of train's clips."""
        if self.balance is None:
            return Shuffle(clips, self.seed)
        return Balanced(clips, self.seed, train_chances(self.corpus, self.balance))

    def train_dataloader(self) -> DataLoader[Batch]:
        return self.loader("train")

    def val_dataloader(self) -> DataLoader[Batch]:
        return self.loader("devel")
