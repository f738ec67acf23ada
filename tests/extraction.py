"""A corpus of tiny clips and an extractor whose frames are slices of the samples: exact, fast, whatever the batch."""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.io import wavfile
from torch import Tensor

from emoshare.data.window import Window
from emoshare.store import extract
from emoshare.store.clips import Clips
from emoshare.store.tensors import JoinedStore, TensorStore

WIDTH = 8
IDENTITY = {
    "name": "fake",
    "dim": WIDTH,
    "layers": 2,
    "layer": "last",
    "weights": "0",
    "type": "hubert",
    "parameters": 1,
}
CPU = torch.device("cpu")


@dataclass(frozen=True)
class FakeCorpus:
    root: Path
    files: tuple[str, ...]
    seconds: np.ndarray
    digests: tuple[bytes, ...]
    name: str = "fake"
    scale: float | None = None

    def path(self, file: str) -> Path:
        return self.root / file


def make_corpus(root: Path, count: int = 40, seed: int = 0) -> FakeCorpus:
    """Clips of 300 to 3,000 samples, some as long as others; the shortest is under one frame."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    sizes = [300, *rng.integers(4, 31, count - 1) * 100]
    files = tuple(f"clip {i}.wav" for i in range(count))
    for file, size in zip(files, sizes, strict=True):
        wavfile.write(root / file, 16_000, rng.integers(-20_000, 20_000, size).astype(np.int16))
    digests = tuple(hashlib.sha256((root / file).read_bytes()).digest() for file in files)
    return FakeCorpus(root, files, np.array(sizes) / 16_000, digests)


class FakeExtractor:
    """Frame t holds the first samples of its 400, times `scale`. Notes the shape of every batch."""

    compute, width, device, sees_padding = "float32", WIDTH, CPU, True

    def __init__(self, scale: float = 1.0, masked: bool = True) -> None:
        self.scale, self.masked = scale, masked
        self.shapes: list[tuple[int, int]] = []
        self.identity, self.precision = IDENTITY, "float16"
        self.equal_lengths, self.batch_seconds, self.window = False, 44.0, Window(0.15)

    def frame_counts(self, samples: np.ndarray) -> np.ndarray:
        seen = samples if self.window.pad == "none" else np.full_like(samples, self.window.samples)
        return (seen - 400) // 320 + 1

    def __call__(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        self.shapes.append(tuple(waves.shape))
        frames = waves.unfold(1, 400, 320)[:, :, :WIDTH] * self.scale  # (B, T, WIDTH)
        counts = (lengths - 400) // 320 + 1 if self.masked else torch.full_like(lengths, frames.shape[1])
        return frames, counts


def expected(corpus: FakeCorpus, window: Window, row: int, scale: float = 1.0) -> np.ndarray:
    """The frames of one clip, (T, WIDTH) float16, by a loop over frames."""
    samples = wavfile.read(corpus.path(corpus.files[row]))[1] / np.float32(32768)
    samples = samples[: window.samples]
    if window.pad == "zeros":
        samples = np.pad(samples, (0, window.samples - len(samples)))
    samples = np.pad(samples, (0, max(400 - len(samples), 0)))
    starts = range(0, len(samples) - 399, 320)
    return np.stack([samples[start : start + WIDTH] * np.float32(scale) for start in starts]).astype(np.float16)


class SlowExtractor(FakeExtractor):
    """Takes its time, and adds a byte to a file for each clip."""

    def __init__(self, pause: float, computed: int) -> None:
        super().__init__()
        self.pause, self.computed = pause, computed

    def __call__(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        time.sleep(self.pause)
        os.write(self.computed, b"." * len(waves))
        return super().__call__(waves, lengths)


def help_run(number: int, corpus: FakeCorpus, window: Window, cache: Path, counter: Path) -> None:
    """What a helper process does in a test: `run`, slowly, in chunks of three clips."""
    extract.CHUNK_ROWS = 3
    with counter.open("ab") as file:
        run(corpus, window, cache, SlowExtractor(0.03, file.fileno()), batch_seconds=0.3)
    (counter.parent / f"ended {number}").touch()


def run(
    corpus: FakeCorpus,
    window: Window,
    cache: Path,
    fake: Any = None,
    equal: bool = False,
    max_gb: float | None = None,
    precision: str = "float16",
    batch_seconds: float = 44.0,
    helpers: extract.Helpers = nullcontext,
) -> TensorStore | JoinedStore:
    """`frames_of` with a fake extractor."""
    fake = fake or FakeExtractor(masked=window.pad == "none")
    fake.precision, fake.equal_lengths, fake.batch_seconds, fake.window = precision, equal, batch_seconds, window
    return extract.frames_of(Clips.of_corpus(corpus, window), fake, cache, max_gb=max_gb, helpers=helpers)
