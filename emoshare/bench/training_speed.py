"""Head steps per second: Lightning's loop as a run uses it, against the barest loop over the same batches.

Shapes: N clips, T frames, D features.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from emoshare.core.config import Config, hidden_states
from emoshare.core.products import wait
from emoshare.data.partition import Corpus, Partition
from emoshare.data.window import Window
from emoshare.models.module import EmotionShareModule
from emoshare.runs.folder import Run
from emoshare.runs.resolved import ResolvedRun
from emoshare.store.frames import Request
from emoshare.store.recipe import Recipe
from emoshare.store.segments import ENTRY, Writer, is_whole, names, read_segment
from emoshare.store.tensors import DTYPES, TensorStore
from emoshare.training.datamodule import EmotionShareData
from emoshare.training.trainer import make_trainer

STEPS, STRIDE = 200, 10  # steps of an epoch, and of each stretch that is timed
STORED = 256 * 2**20  # bytes of frames that the steps turn over, at most


class RepeatedStore:
    """A small frame store that is read over and over, in place of a large one."""

    def __init__(self, store: TensorStore) -> None:
        self.store, self.rows = store, len(store.lengths)

    def gather(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        return self.store.gather(rows % self.rows)

    def nbytes(self, rows: np.ndarray) -> int:
        return self.store.nbytes(rows % self.rows)


class Clock(pl.Callback):
    """Notes the time after every tenth step."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.times: list[float] = []

    def tick(self, step: int) -> None:
        if step % STRIDE == 0:
            wait(self.device)
            self.times.append(time.perf_counter())

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *arguments: Any) -> None:
        self.tick(arguments[-1])

    def rate(self) -> float:
        """Steps per second in the middle one of the stretches, the first of which is a warm-up."""
        return STRIDE / statistics.median(np.diff(self.times)[1:])


def training_speed(run: ResolvedRun, frames: int) -> dict[str, Any]:
    """Steps per second of a run's head on stored frames (T, D) per clip: medians over `bench.repeats`, in turn."""
    rates = []
    with tempfile.TemporaryDirectory(prefix="emoshare-bench-") as folder:
        data = make_data(run.config, Path(folder) / "store", frames)
        verified = verified_bytes(Path(folder) / "store")
        for _ in range(run.config.bench.repeats):
            fitted = lightning(run, data, Path(folder))
            rates.append((fitted, bare(run, data)))
    torch.use_deterministic_algorithms(False)  # the trainer has turned it on
    fitted, plain = (statistics.median(column) for column in zip(*rates, strict=True))
    return {
        "precision": run.precision,
        "lightning_steps_per_second": fitted,
        "bare_steps_per_second": plain,
        "overhead": statistics.median(plain / fitted for fitted, plain in rates),
        "verified_bytes_per_second": verified,
    }


def verified_bytes(folder: Path) -> float:
    """Bytes of stored frames a second whose checksums a core works out, read from memory: as each run does first."""
    segments = [read_segment(folder / "segments" / name) for name in names(folder)]
    size, start = sum(segment.path.stat().st_size for segment in segments), time.perf_counter()
    assert all(map(is_whole, segments))
    return size / (time.perf_counter() - start)


def make_data(config: Config, folder: Path, frames: int) -> EmotionShareData:
    """STEPS batches of random shares and frames from a store, and a devel partition of one batch."""
    states = hidden_states(config.backbone.layer, config.backbone.layers)
    width, clips = states * config.backbone.dim, config.data.batch_size
    dtype = DTYPES[config.extract.precision]
    rows = max(min(STORED // (frames * width * dtype.itemsize), 256), clips)
    recipe = Recipe({"dim": width, "layers": 0, "layer": "last"}, config.extract.precision, "")
    entries = np.zeros(rows, ENTRY)
    entries["frames"] = frames
    entries["key"] = np.arange(2 * rows, dtype=np.int64).view(entries["key"].dtype)
    writer = Writer(folder, recipe, entries)
    for _ in range(rows):
        clip = torch.randn(frames, width).to(dtype)  # (T, D)
        writer.add((clip.view(torch.uint16) if dtype == torch.bfloat16 else clip).numpy())
    writer.commit(0.0)
    parts, start = {}, 0
    for name, size in {"train": STEPS * clips, "devel": clips}.items():
        shares = np.random.default_rng(0).random((size, len(config.data.targets)), np.float32)
        parts[name] = Partition(name, tuple(map(str, range(size))), shares, np.ones(size), start)
        start += size
    corpus = Corpus("bench", folder, folder, tuple(config.data.targets), parts, "", ())
    request = Request("bench", entries["key"].tolist())
    store = RepeatedStore(TensorStore(folder, recipe, request))
    return EmotionShareData(corpus, Window.of(config.window), config.data, 0, store)


def make_module(config: Config) -> EmotionShareModule:
    states = hidden_states(config.backbone.layer, config.backbone.layers)
    head = config.head.make(states * config.backbone.dim, states, len(config.data.targets))
    return EmotionShareModule(
        head, config.loss.make([1.0] * len(config.data.targets)), config.optimizer, tuple(config.data.targets)
    )


def lightning(run: ResolvedRun, data: EmotionShareData, folder: Path) -> float:
    """An epoch as a run trains it, with its callbacks, in steps per second."""
    config = dataclasses.replace(run.config, trainer=dataclasses.replace(run.config.trainer, epochs=1, progress=False))
    epoch, clock = run.with_config(config, run.device), Clock(run.device)
    epoch.run = Run(folder)
    trainer = make_trainer(epoch, [], clock)
    trainer.fit(make_module(config), data)
    return clock.rate()


def bare(run: ResolvedRun, data: EmotionShareData) -> float:
    """The same epoch with nothing but PyTorch, not even its DataLoader, in steps per second."""
    device, precision = run.device, run.precision
    module, clock = make_module(run.config).to(device).train(), Clock(device)
    made = module.configure_optimizers()
    optimizer = made["optimizer"] if isinstance(made, dict) else made  # alone, where no score steers its rates
    half = torch.bfloat16 if precision.startswith("bf16") else torch.float16
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "16-mixed")
    clips, size = data.clips("train"), run.config.data.batch_size
    order = np.random.default_rng(0).permutation(len(clips)).tolist()
    for step in range(STEPS):
        batch = clips.__getitems__(order[step * size : (step + 1) * size])
        moved = {key: value.to(device) for key, value in batch.items()}  # type: ignore[attr-defined]
        with torch.autocast(device.type, half, enabled=precision.endswith("mixed")):
            loss = module.loss(module(moved), moved["shares"])
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        clock.tick(step)
    return clock.rate()
