"""What sharing an extraction costs: processes that fill one store with the frames of a backbone that only waits.

With a backbone that takes no core, N processes would be N times as fast if claiming chunks, looking at what others have
done and writing cost nothing.

Shapes: B clips, N samples, T frames.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emoshare.bench.estimate import machine_line
from emoshare.bench.measure import machine
from emoshare.core.config import RATE
from emoshare.core.errors import EmoshareError
from emoshare.core.helpers import helping
from emoshare.core.text import console_table
from emoshare.data.window import Window
from emoshare.store.cache import folders, segments
from emoshare.store.clips import Clips
from emoshare.store.extract import CHUNK_ROWS, frames_of

PROCESSES = (1, 2, 4, 8, 16)
CHUNKS = 64
WIDTH = 64
SAMPLES = 3_200
START_SECONDS = 300.0  # that the processes may take to import PyTorch


class Waiting:
    """A backbone whose frames are zeros, and that waits as long for a batch as a fast GPU computes."""

    engine, compute, precision, width, device = "torch", "float32", "float16", WIDTH, torch.device("cpu")
    equal_lengths, sees_padding = False, True

    def __init__(self, pause: float) -> None:
        self.pause = pause
        self.batch_seconds = float(CHUNK_ROWS * SAMPLES / RATE)  # a chunk is one batch
        self.identity: dict[str, Any] = {
            "name": "waiting", "dim": WIDTH, "layers": 1, "layer": "last", "weights": "0", "type": "waiting",
        }  # fmt: skip

    def frame_counts(self, samples: np.ndarray) -> np.ndarray:
        """Samples (B,) → frames (B,), 50 per second."""
        return samples // 320

    def __call__(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        time.sleep(self.pause)
        return torch.zeros(len(waves), waves.shape[1] // 320, WIDTH), lengths // 320


@dataclass(frozen=True)
class Task:
    """What every process shares in."""

    paths: list[Path]  # of the clips
    digests: list[bytes]
    cache: Path
    pause: float

    def run(self) -> None:
        """Fill the store, with other processes that do the same."""
        seconds = SAMPLES / RATE
        clips = Clips("waiting", self.paths, self.digests, [seconds] * len(self.paths), Window(seconds))
        frames_of(clips, Waiting(self.pause), self.cache)

    def stored(self) -> int:
        """Clips in the store; one that was computed twice counts twice."""
        return sum(len(segment.entries) for folder in folders(self.cache) for segment in segments(folder))


def sharing_speed(pause: float) -> list[dict[str, float]]:
    """For some numbers of processes: seconds, their share of the ideal, and the clips that were computed twice.

    pause: seconds that a chunk of clips takes. The ideal are as many times fewer seconds as there are processes.
    """
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="emoshare-bench-") as folder:
        paths, digests = write_clips(Path(folder))
        for count in PROCESSES:
            task = Task(paths, digests, Path(folder) / f"cache-{count}", pause)
            seconds = timed(task, count)
            share_of_ideal, twice = pause * CHUNKS / count / seconds, task.stored() - len(paths)
            rows.append({"processes": count, "seconds": seconds, "share": share_of_ideal, "twice": twice})
    return rows


def write_clips(folder: Path) -> tuple[list[Path], list[bytes]]:
    """Clips of which no two are equal, and the sha256 of each file."""
    import soundfile

    paths = [folder / f"{row}.wav" for row in range(CHUNKS * CHUNK_ROWS)]
    for row, path in enumerate(paths):
        soundfile.write(path, np.full(SAMPLES, row, np.int16), RATE)
    return paths, [hashlib.sha256(path.read_bytes()).digest() for path in paths]


def timed(task: Task, count: int) -> float:
    """Seconds that this process and `count - 1` others take, from the moment when all are ready."""
    task.cache.mkdir()
    with helping(count - 1, share, (task,)):
        patience = time.monotonic() + START_SECONDS
        while len([*task.cache.glob("ready-*")]) < count - 1:
            if time.monotonic() > patience:
                raise EmoshareError(f"bench workers: {count} processes are not ready after {START_SECONDS:g} s")
            time.sleep(0.05)
        start = time.perf_counter()
        (task.cache / "start").touch()
        task.run()
        return time.perf_counter() - start


def share(number: int, task: Task) -> None:
    """What each of the other processes does."""
    torch.set_num_threads(1)
    (task.cache / f"ready-{number}").touch()
    while not (task.cache / "start").exists():
        time.sleep(0.01)
    task.run()


def sharing_text(rows: list[dict[str, float]], pause: float) -> str:
    """The table for a terminal."""
    table = console_table(
        ("processes", "s", "× one", "of the ideal", "clips computed twice"),
        [
            [
                f"{row['processes']:.0f}", f"{row['seconds']:.1f}", f"{rows[0]['seconds'] / row['seconds']:.2f}",
                f"{row['share']:.0%}", f"{row['twice']:.0f}",
            ]
            for row in rows
        ],
    )  # fmt: skip
    title = f"{CHUNKS} chunks of {CHUNK_ROWS} clips in one store, {pause:g} s each, by a backbone that only waits"
    return f"{title}\n{machine_line(machine(torch.device('cpu')))}\n{table}"
