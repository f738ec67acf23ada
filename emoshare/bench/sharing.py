"""What sharing an extraction costs: processes that fill one store with the frames of a backbone that only waits.

With a backbone that takes no core, N processes would be N times as fast if claiming chunks, looking at what others have
done and writing cost nothing.

Shapes: B clips, N samples, T frames.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emoshare.bench.estimate import machine_line
from emoshare.bench.measure import machine
from emoshare.core.config import RATE
from emoshare.core.text import console_table
from emoshare.data.window import Window
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

    def run(self) -> int:
        """Fill the store; how many clips this process has computed."""
        seconds = SAMPLES / RATE
        clips = Clips("waiting", self.paths, self.digests, [seconds] * len(self.paths), Window(seconds))
        return frames_of(clips, Waiting(self.pause), self.cache).computed


def sharing_speed(pause: float) -> list[dict[str, float]]:
    """For some numbers of processes: seconds, their share of the ideal, and the clips that were computed twice.

    pause: seconds that a chunk of clips takes. The ideal are as many times fewer seconds as there are processes.
    """
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="emoshare-bench-") as folder:
        paths, digests = write_clips(Path(folder))
        for count in PROCESSES:
            task = Task(paths, digests, Path(folder) / f"cache-{count}", pause)
            seconds, computed = timed(task, count)
            ideal = pause * CHUNKS / count
            rows.append(
                {"processes": count, "seconds": seconds, "share": ideal / seconds, "twice": computed - len(paths)}
            )
    return rows


def write_clips(folder: Path) -> tuple[list[Path], list[bytes]]:
    """Clips of which no two are equal, and the sha256 of each file."""
    import soundfile

    paths = [folder / f"{row}.wav" for row in range(CHUNKS * CHUNK_ROWS)]
    for row, path in enumerate(paths):
        soundfile.write(path, np.full(SAMPLES, row, np.int16), RATE)
    return paths, [hashlib.sha256(path.read_bytes()).digest() for path in paths]


def timed(task: Task, count: int) -> tuple[float, int]:
    """Seconds that so many processes take from the moment when all are ready, and clips that they have computed."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(count + 1, timeout=START_SECONDS)
    with ProcessPoolExecutor(count, context, ready, (barrier,)) as pool:
        shares = [pool.submit(task.run) for _ in range(count)]
        barrier.wait()
        start = time.perf_counter()
        total = sum(one.result() for one in shares)
        return time.perf_counter() - start, total


def ready(barrier: Any) -> None:
    """What each process does at its start: waits for the others."""
    torch.set_num_threads(1)
    barrier.wait()


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
