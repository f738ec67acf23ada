"""The LightningDataModule: windows of a corpus, or the stored frames of those windows.

Both serve the same clips in the same batches, so that a run from the store and one with the backbone in the loop
see the same numbers. Shapes: B clips, N samples, T frames, E emotions.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, Sampler

from emoshare.audio import Window, read
from emoshare.config import DataConfig
from emoshare.corpus import Corpus, Partition
from emoshare.module import Batch


class Store(Protocol):
    """What serves stored frames: rows of the corpus-wide order → (B, T, width) and (B,) frames that count."""

    def gather(self, rows: np.ndarray) -> tuple[Tensor, Tensor]: ...


class Clips(Dataset[Batch]):
    """A partition, one batch at a time; subclasses add the windows or frames of the rows asked for."""

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.partition.files)

    def __getitems__(self, rows: list[int]) -> Batch:
        """What the DataLoader calls with the rows of a whole batch."""
        values, lengths = self.load(rows)
        batch: Batch = {"clip": torch.tensor(rows), "lengths": lengths, **values}  # type: ignore[typeddict-item]
        if self.partition.shares is not None:
            batch["shares"] = torch.from_numpy(self.partition.shares[rows])
        return batch

    def load(self, rows: list[int]) -> tuple[dict[str, Tensor], Tensor]:
        """`{"waves": (B, N)}` or `{"frames": (B, T, width)}`, and (B,) lengths."""
        raise TypeError(f"{type(self).__name__} serves neither windows nor frames")


class Windows(Clips):
    """Reads and cuts waveforms; zeros stand right of each clip's speech."""

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
        wave = read(self.corpus.path(self.partition.files[row]))
        rng = np.random.default_rng((self.seed, self.epoch, row)) if self.training else None
        return self.window.cut(wave, rng, training=self.training)


class Frames(Clips):
    """Gathers stored frames."""

    def __init__(self, partition: Partition, store: Store) -> None:
        super().__init__(partition)
        self.store = store

    def load(self, rows: list[int]) -> tuple[dict[str, Tensor], Tensor]:
        frames, lengths = self.store.gather(np.asarray(rows) + self.partition.start)
        return {"frames": frames}, lengths


class Resident:
    """The frames of a partition held on a device: one copy at the start instead of one for every batch."""

    def __init__(self, store: Store, partition: Partition, device: torch.device, chunk: int = 256) -> None:
        rows = np.arange(len(partition.files)) + partition.start
        self.start, self.clips = partition.start, []
        for first in range(0, len(rows), chunk):
            frames, lengths = store.gather(rows[first : first + chunk])
            self.clips += [clip[:n].to(device) for clip, n in zip(frames, lengths.tolist(), strict=True)]  # (T, width)

    def gather(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """As the store's own, on the device."""
        clips = [self.clips[row] for row in (rows - self.start).tolist()]
        lengths = torch.tensor([len(clip) for clip in clips], device=clips[0].device)
        return pad_sequence(clips, batch_first=True), lengths


class Shuffle(Sampler[int]):
    """A permutation that depends on seed and epoch alone, so that a resumed run goes on in the same order."""

    def __init__(self, clips: Clips, seed: int) -> None:
        self.clips, self.seed = clips, seed

    def __len__(self) -> int:
        return len(self.clips)

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before every epoch."""
        self.clips.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.clips.epoch))
        return iter(rng.permutation(len(self.clips)).tolist())


def server() -> Any:
    """A fork server with our modules loaded once: a plain fork can deadlock beside the threads of wandb."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["emoshare.datamodule"])
    return context


def whole(batch: Any) -> Any:
    """`__getitems__` has collated already."""
    return batch


class EmotionShareData(pl.LightningDataModule):
    """Loaders of a corpus: train shuffled by seed and epoch (the last incomplete batch dropped), devel and test."""

    def __init__(
        self, corpus: Corpus, window: Window, config: DataConfig, seed: int, store: Store | None = None
    ) -> None:
        super().__init__()
        self.corpus, self.window, self.config, self.seed, self.store = corpus, window, config, seed, store
        self.resident: dict[str, Store] = {}

    def clips(self, name: str) -> Clips:
        """The dataset of one partition."""
        partition = self.corpus.partitions[name]
        if self.store is None:
            return Windows(partition, self.corpus, self.window, name == "train", self.seed)
        return Frames(partition, self.resident.get(name, self.store))

    def setup(self, stage: str) -> None:
        """Hold the frames of train and devel on a GPU if they take at most half of what is free there."""
        trainer = self.trainer
        if self.store is None or trainer is None or trainer.strategy.root_device.type != "cuda" or self.resident:
            return
        device = trainer.strategy.root_device
        size = self.store.gather(np.array([0]))[0].nbytes  # of one window
        count = sum(len(self.corpus.partitions[name].files) for name in ("train", "devel"))
        if size * count < torch.cuda.mem_get_info(device)[0] / 2:
            for name in ("train", "devel"):
                self.resident[name] = Resident(self.store, self.corpus.partitions[name], device)

    def loader(self, name: str) -> DataLoader[Batch]:
        """Batches of one partition."""
        clips, training = self.clips(name), name == "train"
        fresh = training and self.window.crop == "random"  # its processes must learn which epoch it is
        stored, pin = self.store is not None, torch.cuda.is_available() and name not in self.resident
        # Stored frames are gathered ahead where they have to cross to a GPU; elsewhere a process would only cost.
        workers = (2 if pin else 0) if stored else self.config.workers
        return DataLoader(
            clips,
            # Without gradients a stored batch may be larger; it changes no number.
            batch_size=self.config.batch_size * (8 if stored and not training else 1),
            sampler=Shuffle(clips, self.seed) if training else None,
            drop_last=training,
            num_workers=workers,
            multiprocessing_context=server() if workers else None,
            persistent_workers=workers > 0 and not fresh,
            collate_fn=whole,
            pin_memory=pin,
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        return self.loader("train")

    def val_dataloader(self) -> DataLoader[Batch]:
        return self.loader("devel")
