"""Extraction: every clip of a corpus once through a frozen backbone, into a frame store.

Two threads read and cut clips ahead, the main thread computes, another writes; what stands between them is bounded.
Clips go in order of length, so that a batch is of equal or like length, and its size changes no frame.

Shapes: B clips, N samples (or clips), T frames, width = D (or states × D).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from emoshare.core.config import RATE, CacheConfig
from emoshare.core.errors import EmoshareError, UnusableClips, out_of_memory
from emoshare.core.prefetch import in_background, prefetch
from emoshare.core.progress import Meter
from emoshare.data.audio import read
from emoshare.data.corpus import Corpus
from emoshare.data.window import Window
from emoshare.store.cache import full_disk, make_room
from emoshare.store.frames import FrameStore, Writer, find, store_folder
from emoshare.store.locks import computing
from emoshare.store.recipe import Recipe

log = logging.getLogger(__name__)

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


class Extractor(Protocol):
    """Samples → frames, and all that an extraction has to know of it, resolved before anything is computed."""

    identity: dict[str, Any]  # of the backbone, down to its weights; JSON-able
    engine: str  # torch | openvino
    compute: str  # precision that it computes in: float32 | bfloat16 | float16
    precision: str  # of the stored frames: float16 | bfloat16 | float32
    device: torch.device
    width: int  # numbers per frame

    @property
    def batch_seconds(self) -> float:
        """Seconds of audio in a batch, padding included, at most."""

    @property
    def equal_lengths(self) -> bool:
        """Whether all clips of a batch must be equally long."""

    def frame_counts(self, samples: np.ndarray) -> np.ndarray:
        """Samples of speech in the window (N,) → frames of each clip (N,)."""

    def __call__(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Samples (B, N) float32, samples of speech (B,) → frames (B, T, width), frames of each clip (B,)."""


@dataclass(frozen=True)
class TensorStore:
    """A frame store whose batches are tensors."""

    store: FrameStore
    reused: bool  # False where this process extracted the frames

    @property
    def identity(self) -> dict[str, Any]:
        """Of the backbone that computed the frames."""
        return self.store.recipe.backbone

    @property
    def cost(self) -> dict[str, Any]:
        """What the frames are and what their extraction took, for results.json."""
        return {"recipe": self.store.recipe.hash, "reused": self.reused, **self.store.cost}

    def gather(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Rows (B,) of the corpus-wide order → frames (B, T, width) in the stored precision, and lengths (B,)."""
        frames, lengths = self.store.gather(rows)
        return torch.from_numpy(frames).view(DTYPES[self.store.precision]), torch.from_numpy(lengths)

    def nbytes(self, rows: np.ndarray) -> int:
        """What the frames of rows take."""
        return int(self.store.lengths[rows].sum()) * self.store.recipe.frame_bytes


def ensure_store(
    corpus: Corpus,
    window: Window,
    extractor: Extractor,
    cache_config: CacheConfig,
    cache: Path,
    label: str = "frames",
) -> TensorStore:
    """The frame store of a recipe, filled first where it is not complete.

    label: what reports of progress begin with. Raises EmoshareError for a random crop, a disk or budget that cannot
    hold the frames, and what `extract_all` and the extractor raise.
    """
    if window.crop == "random":
        raise EmoshareError(
            "window.crop=random: every epoch sees other windows, which no store holds; use start or center"
        )
    recipe = make_recipe(corpus, window, extractor)
    folder = store_folder(cache, recipe)
    if store := find(folder, recipe):
        return TensorStore(store, reused=True)
    with computing(folder):
        if store := find(folder, recipe):  # by the process that was waited for
            return TensorStore(store, reused=True)
        samples = kept_samples(corpus, window)
        lengths = extractor.frame_counts(samples)
        make_room(folder, int(lengths.sum()) * recipe.frame_bytes, cache_config.max_gb)
        extraction = Extraction(corpus, window, samples, extractor)
        with full_disk(folder), closing(Writer(folder, recipe, lengths)) as writer:
            extract_all(extraction, writer, label)
        return TensorStore(FrameStore.open(folder, recipe), reused=False)


def make_recipe(corpus: Corpus, window: Window, extractor: Extractor) -> Recipe:
    """The recipe of the frames; the window's `step` is part of the backbone's identity."""
    return Recipe(
        corpus=corpus.audio_fingerprint,
        clips=len(corpus.files),
        window={"seconds": window.samples / RATE, "crop": window.crop, "pad": window.pad},
        backbone=extractor.identity,
        precision=extractor.precision,
        compute=extractor.compute,
        engine=extractor.engine,
    )


def kept_samples(corpus: Corpus, window: Window) -> np.ndarray:
    """(N,) samples of speech that the window keeps of each clip, known without reading it."""
    return np.array([window.length(seconds) for seconds in corpus.seconds.tolist()], np.int64)


class Extraction:
    """Clips → frames, by batches that shrink when memory does not suffice."""

    def __init__(self, corpus: Corpus, window: Window, samples: np.ndarray, extractor: Extractor) -> None:
        self.corpus, self.window, self.extractor = corpus, window, extractor
        self.speech = samples  # (N,) samples of speech of each clip
        self.sizes = np.full_like(samples, window.samples) if window.pad == "zeros" else samples  # (N,) with padding
        self.seconds = extractor.batch_seconds  # audio in a batch, padding included, at most

    def batches(self, rows: Iterable[int]) -> Iterator[list[int]]:
        """Group rows, which come in order of length, into batches."""
        batch: list[int] = []
        for row in rows:
            size = int(self.sizes[row])
            full = (len(batch) + 1) * size > self.seconds * RATE
            if batch and (full or (self.extractor.equal_lengths and size != self.sizes[batch[0]])):
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def load(self, batch: list[int]) -> tuple[list[int], Tensor]:
        """Read and cut clips → their rows and waves (B, N), zeros after each clip's own samples."""
        waves = torch.zeros(len(batch), int(self.sizes[batch].max()))  # (B, N)
        for wave, row in zip(waves, batch, strict=True):
            path = self.corpus.path(self.corpus.files[row])
            cut = self.window.cut(read(path))
            if len(cut) != self.speech[row]:
                raise EmoshareError(
                    f"{path}: {len(cut)} samples in the window, {self.speech[row]} when the corpus was checked: "
                    "it has changed since; run the command again"
                )
            wave[: len(cut)] = torch.from_numpy(cut)
        return batch, waves

    def frames(self, rows: list[int], waves: Tensor) -> list[np.ndarray]:
        """Rows and waves (B, N) → B arrays (T, width) in the stored precision."""
        done: list[np.ndarray] = []
        while len(done) < len(rows):
            size = max(int(self.seconds * RATE / waves.shape[1]), 1)
            piece = slice(len(done), len(done) + size)
            frames = self.attempt(rows[piece], waves[piece])
            if frames is not None:
                done += frames
                continue
            if len(rows[piece]) == 1:
                raise EmoshareError(
                    f"out of memory on {self.extractor.device} with a single clip in the batch "
                    "(extract.max_batch_seconds cannot go lower); use extract.compute=bfloat16, a smaller "
                    "window.seconds or backbone"
                )
            self.seconds = len(rows[piece]) * waves.shape[1] / RATE / 2
            log.info("out of memory: going on with %.1f audio seconds in a batch", self.seconds)
        return done

    def attempt(self, rows: list[int], waves: Tensor) -> list[np.ndarray] | None:
        """As `frames`, for the whole batch at once; None when memory does not suffice."""
        try:
            longest = int(self.sizes[rows].max())
            frames, counts = self.extractor(waves[:, :longest], torch.from_numpy(self.speech[rows]))
            stored = frames.to(DTYPES[self.extractor.precision])  # (B, T, width)
            if not bool(torch.isfinite(stored).all()):
                raise self.overflow(rows, frames, stored)
            stored = stored.cpu().contiguous()
        except UnusableClips as error:
            path = self.corpus.path(self.corpus.files[rows[error.rows[0]]])
            more = f" (and {len(error.rows) - 1} more)" if len(error.rows) > 1 else ""
            remedy = "take it out of the label tables, or choose another backbone"
            raise EmoshareError(f"{path}{more}: {error.reason}; {remedy}") from error
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        else:
            arrays = (stored.view(torch.uint16) if self.extractor.precision == "bfloat16" else stored).numpy()
            return [array[:count] for array, count in zip(arrays, counts.tolist(), strict=True)]
        if self.extractor.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def overflow(self, rows: list[int], frames: Tensor, stored: Tensor) -> EmoshareError:
        """What to say of the first clip whose frames cannot be stored."""
        bad = int((~torch.isfinite(stored)).flatten(1).any(1).nonzero()[0])
        path = self.corpus.path(self.corpus.files[rows[bad]])
        if torch.isfinite(frames[bad]).all():
            largest = frames[bad].float().abs().max().item()
            return EmoshareError(
                f"{path}: frames as large as {largest:.3g} do not fit extract.precision={self.extractor.precision}; "
                "use extract.precision=bfloat16 or float32"
            )
        return EmoshareError(
            f"{path}: the backbone gives NaN or infinite frames; use extract.compute=float32 or bfloat16 with "
            "extract.precision=bfloat16, and listen to the clip if that gives them too"
        )


def extract_all(extraction: Extraction, writer: Writer, label: str) -> None:
    """Compute and write what the store still lacks.

    Raises EmoshareError for a clip that changed, frames that are NaN or overflow the stored precision, and memory that
    does not suffice for one clip; whatever a thread raises is raised here, once, and leaves a store to be resumed.
    """
    slots = writer.pending()
    rows = writer.layout.order[slots].tolist()
    places = dict(zip(rows, slots, strict=True))
    audio = extraction.speech / RATE  # (N,) seconds, zero padding not counted

    def write(batch: list[int], frames: list[np.ndarray]) -> None:
        for row, array in zip(batch, frames, strict=True):
            writer.add(places[row], array)

    writer.start()
    meter, started, done, processed, total = Meter(log, label), time.monotonic(), 0, 0.0, float(audio[rows].sum())
    with (
        in_background(write) as put,
        closing(prefetch(extraction.load, extraction.batches(rows))) as batches,
    ):
        for batch, waves in batches:
            put(batch, extraction.frames(batch, waves))
            done, processed = done + len(batch), processed + float(audio[batch].sum())
            speed = processed / max(time.monotonic() - started, 1e-9)
            hours = f"{processed / 3600:.2f}/{total / 3600:.2f} h of audio"
            part = processed / total if done < len(rows) else 1.0
            meter.report(f"extracting: {done}/{len(rows)} clips, {hours}, {speed:.1f} × real time", part)
    writer.finish(float(audio.sum()))
