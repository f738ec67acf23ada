"""Extraction: every clip of a corpus once through a frozen backbone, into a frame store.

Two threads read and cut clips ahead, the main thread computes, another writes; what stands between them is bounded.
Clips go in order of length, so that a batch is of equal or like length, and its size changes no frame.

Shapes: B clips, N samples, T frames, width = D (or states × D).
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from emoshare.backbones.base import Backbone
from emoshare.backbones.engine import Engine, batch_seconds, make_engine, resolve_engine, settle_engine
from emoshare.core.config import RATE, CacheConfig, ExtractConfig
from emoshare.core.errors import EmoshareError, out_of_memory
from emoshare.core.hardware import resolve_dtype
from emoshare.data.audio import read
from emoshare.data.corpus import Corpus
from emoshare.data.window import Window, frame_count
from emoshare.store.cache import full_disk, make_room
from emoshare.store.frames import FrameStore, Writer, computing, find, store_folder
from emoshare.store.recipe import Recipe

log = logging.getLogger(__name__)

READERS = 2  # threads
AHEAD = 2  # batches read before they are needed, and batches computed but not yet written
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    TextColumn("{task.fields[clips]} clips"),
    TextColumn("{task.fields[hours]} of audio"),
    TextColumn("{task.fields[realtime]}"),
    TimeRemainingColumn(),
)
Item = TypeVar("Item")
Result = TypeVar("Result")


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
    identity: dict[str, Any],
    load: Callable[[], Backbone],
    extract: ExtractConfig,
    cache_config: CacheConfig,
    cache: Path,
    device: torch.device,
    progress: bool,
) -> TensorStore:
    """The frame store of a recipe, filled first where it is not complete.

    identity is the backbone's; `load` brings its weights and is called only where there is something to extract.
    Raises EmoshareError for a random crop, a disk or budget that cannot hold the frames, another backbone than the
    identity's, and what `extract_all` raises.
    """
    if window.crop == "random":
        raise EmoshareError(
            "window.crop=random: every epoch sees other windows, which no store holds; use start or center"
        )
    extract = settle_engine(extract, device, identity, cache)
    recipe = make_recipe(corpus, window, identity, extract, device)
    folder = store_folder(cache, recipe)
    if store := find(folder, recipe):
        return TensorStore(store, reused=True)
    with computing(folder):
        if store := find(folder, recipe):  # by the process that was waited for
            return TensorStore(store, reused=True)
        backbone = load().eval()
        if backbone.identity != identity:
            raise EmoshareError(
                f"{cache / 'identities'}: remembers another {identity['name']} than was loaded; delete it and run again"
            )
        engine = make_engine(backbone, extract, device, cache)
        if engine.name != recipe.engine:  # a model that OpenVINO could not convert
            extract = replace(extract, engine=engine.name)
            return ensure_store(corpus, window, identity, load, extract, cache_config, cache, device, progress)
        samples = kept_samples(corpus, window)
        lengths = frame_counts(samples, window)
        make_room(folder, int(lengths.sum()) * recipe.frame_bytes, cache_config.max_gb)
        seconds = batch_seconds(extract.max_batch_seconds, device)
        extraction = Extraction(
            corpus, window, samples, engine, backbone.equal_lengths, recipe.precision, device, seconds
        )
        with full_disk(folder), closing(Writer(folder, recipe, lengths)) as writer:
            extract_all(extraction, writer, progress)
        return TensorStore(FrameStore.open(folder, recipe), reused=False)


def make_recipe(
    corpus: Corpus, window: Window, identity: dict[str, Any], extract: ExtractConfig, device: torch.device
) -> Recipe:
    compute = resolve_dtype(extract.compute, device)
    return Recipe(
        corpus=corpus.audio_fingerprint,
        clips=len(corpus.files),
        window={"seconds": window.samples / RATE, "crop": window.crop, "pad": window.pad},
        backbone=identity,
        precision=extract.precision,
        compute="float32" if identity["type"] == "logmel" else str(compute).removeprefix("torch."),
        engine=resolve_engine(extract.engine, device, identity),
    )


def kept_samples(corpus: Corpus, window: Window) -> np.ndarray:
    """(N,) samples of speech that the window keeps of each clip, known without reading it."""
    return np.array([window.length(seconds) for seconds in corpus.seconds.tolist()], np.int64)


def frame_counts(samples: np.ndarray, window: Window) -> np.ndarray:
    """(N,) frames of each clip; the zero padding counts where there is one."""
    return np.array([frame_count(window.samples if window.pad == "zeros" else n) for n in samples.tolist()], np.int64)


class Extraction:
    """Clips → frames, by batches that shrink when memory does not suffice."""

    def __init__(
        self,
        corpus: Corpus,
        window: Window,
        samples: np.ndarray,
        engine: Engine,
        equal_lengths: bool,
        precision: str,
        device: torch.device,
        seconds: float,
    ) -> None:
        self.corpus, self.window, self.engine, self.device = corpus, window, engine, device
        self.speech = samples  # (N,) samples of speech of each clip
        self.sizes = np.full_like(samples, window.samples) if window.pad == "zeros" else samples  # (N,) with padding
        self.equal_lengths, self.precision = equal_lengths, precision
        self.seconds = seconds  # audio in a batch, at most

    def batches(self, rows: Iterable[int]) -> Iterator[list[int]]:
        """Group rows, which come in order of length, into batches."""
        batch: list[int] = []
        for row in rows:
            size = int(self.sizes[row])
            full = (len(batch) + 1) * size > self.seconds * RATE
            if batch and (full or (self.equal_lengths and size != self.sizes[batch[0]])):
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
                    f"out of memory on {self.device} with a single clip in the batch (extract.max_batch_seconds cannot "
                    "go lower); use extract.compute=bfloat16, a smaller window.seconds or backbone"
                )
            self.seconds = len(rows[piece]) * waves.shape[1] / RATE / 2
            log.info("out of memory: going on with %.1f audio seconds in a batch", self.seconds)
        return done

    def attempt(self, rows: list[int], waves: Tensor) -> list[np.ndarray] | None:
        """As `frames`, for the whole batch at once; None when memory does not suffice."""
        try:
            longest = int(self.sizes[rows].max())
            frames, counts = self.engine(waves[:, :longest], torch.from_numpy(self.speech[rows]))
            stored = frames.to(DTYPES[self.precision])  # (B, T, width)
            if not bool(torch.isfinite(stored).all()):
                raise self.overflow(rows, frames, stored)
            stored = stored.cpu().contiguous()
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        else:
            arrays = (stored.view(torch.uint16) if self.precision == "bfloat16" else stored).numpy()
            return [array[:count] for array, count in zip(arrays, counts.tolist(), strict=True)]
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def overflow(self, rows: list[int], frames: Tensor, stored: Tensor) -> EmoshareError:
        """What to say of the first clip whose frames cannot be stored."""
        bad = int((~torch.isfinite(stored)).flatten(1).any(1).nonzero()[0])
        path = self.corpus.path(self.corpus.files[rows[bad]])
        if torch.isfinite(frames[bad]).all():
            largest = frames[bad].float().abs().max().item()
            return EmoshareError(
                f"{path}: frames as large as {largest:.3g} do not fit extract.precision={self.precision}; "
                "use extract.precision=bfloat16"
            )
        return EmoshareError(
            f"{path}: the backbone gives NaN or infinite frames; use extract.compute=float32 or bfloat16 with "
            "extract.precision=bfloat16, and listen to the clip if that gives them too"
        )


def extract_all(extraction: Extraction, writer: Writer, progress: bool) -> None:
    """Compute and write what the store still lacks.

    Raises EmoshareError for a clip that changed, frames that are NaN or overflow the stored precision, and memory that
    does not suffice for one clip; whatever a thread raises is raised here, once, and leaves a store to be resumed.
    """
    slots = writer.pending()
    rows = writer.layout.order[slots].tolist()
    places = dict(zip(rows, slots, strict=True))
    audio = extraction.sizes / RATE  # (N,) seconds that the backbone goes through

    def write(batch: list[int], frames: list[np.ndarray]) -> None:
        for row, array in zip(batch, frames, strict=True):
            writer.add(places[row], array)

    writer.start()
    with (
        bar(len(rows), float(audio[rows].sum()), progress) as advance,
        behind(write) as put,
        closing(ahead(extraction.load, extraction.batches(rows))) as batches,
    ):
        for batch, waves in batches:
            put(batch, extraction.frames(batch, waves))
            advance(len(batch), float(audio[batch].sum()))
    writer.finish(float(audio.sum()))


def ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result]:
    """function of each item, in order, computed by threads a bounded number of items ahead."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(READERS) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def behind(function: Callable[..., None]) -> Iterator[Callable[..., None]]:
    """Calls of the function run one after the other in a thread; its exception is raised at a later call or the end."""
    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1) as pool:

        def put(*arguments: Any) -> None:
            waiting.append(pool.submit(function, *arguments))
            if len(waiting) > AHEAD:
                waiting.popleft().result()

        try:
            yield put
            while waiting:
                waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def bar(clips: int, seconds: float, progress: bool) -> Iterator[Callable[[int, float], None]]:
    """Report (clips, audio seconds) as they are done: a bar, or one line in the log at the end."""
    started, done = time.monotonic(), [0, 0.0]

    def realtime() -> str:
        return f"{done[1] / max(time.monotonic() - started, 1e-9):.1f} × real time"

    with Progress(*COLUMNS, disable=not progress) as shown:
        task = shown.add_task("frames", total=seconds, clips=f"0/{clips}", hours="0 h", realtime="")

        def advance(more_clips: int, more_seconds: float) -> None:
            done[0] += more_clips
            done[1] += more_seconds
            hours = f"{done[1] / 3600:.2f}/{seconds / 3600:.2f} h"
            shown.update(task, completed=done[1], clips=f"{done[0]}/{clips}", hours=hours, realtime=realtime())

        yield advance
    log.info("extracted %d clips, %.2f h of audio, %s", clips, seconds / 3600, realtime())
