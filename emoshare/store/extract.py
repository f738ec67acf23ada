"""Extraction: each clip once through a frozen backbone, into the frame store, by as many processes as there are.

A process claims a chunk of clips that are neither stored nor claimed, computes it, and claims the next; what others
compute meanwhile it waits for at the end. Two threads read and cut clips ahead, the main thread computes, another
writes; the queues between them are bounded. Clips go in order of length, so that a batch is of equal or like length,
and a chunk is made of whole batches: the batches are the same however many processes share the work.

Shapes: B clips, N samples (or clips), T frames, width = D (or states × D).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emoshare.core.config import HOP, RATE
from emoshare.core.errors import EmoshareError, UnusableClips, out_of_memory
from emoshare.core.interrupt import check_stop
from emoshare.core.prefetch import in_background, prefetch
from emoshare.core.progress import Meter
from emoshare.store.cache import full_disk, make_room
from emoshare.store.clips import Clips, Named, Windows
from emoshare.store.frames import Index, Request, store_folder
from emoshare.store.locks import alone
from emoshare.store.recipe import Recipe
from emoshare.store.segments import ENTRY, Writer, claimed_keys
from emoshare.store.tensors import DTYPES, Extractor, JoinedStore, TensorStore, batch_size

log = logging.getLogger(__name__)

CHUNK_BYTES = 64 * 2**20  # what a killed process may lose, and a batch at least
CHUNK_ROWS = 128
Helpers = Callable[[], AbstractContextManager[None]]
PATIENCE = 0.2  # seconds between two looks at what other processes have done


def frames_of(
    clips: Clips,
    extractor: Extractor,
    cache: Path,
    label: str = "frames",
    max_gb: float | None = None,
    helpers: Helpers = nullcontext,
) -> TensorStore | JoinedStore:
    """The frames of clips, of which those are computed that are neither stored nor computed by another process.

    label: what reports of progress begin with. max_gb: the budget of the cache. helpers: around the extraction, where
    there is one: other processes that share in it.

    Raises EmoshareError for a random crop, a disk or budget that cannot hold the frames, a clip that cannot be read,
    frames that are NaN or overflow the stored precision, and memory that does not suffice for one clip. Whatever is
    raised leaves the chunks that were done to the next call.
    """
    recipe = Recipe(extractor.identity, extractor.precision, extractor.compute)
    if parts := getattr(extractor, "parts", ()):
        named = [(part, f"{label} · {part.identity['name']}") for part in parts]
        return JoinedStore(recipe, [frames_of(clips, part, cache, name, max_gb, helpers) for part, name in named])
    given = hasattr(extractor, "features")  # by a file
    windows = Named(clips) if given else Windows(clips, extractor.identity.get("step", HOP), extractor.sees_padding)

    def fill(index: Index) -> int:
        extraction = (Copying if given else Extraction)(windows, extractor, index)
        make_room(index.folder, extraction.bytes(extraction.rows), extraction.bytes(list(extraction.left)), max_gb)
        with full_disk(index.folder), helpers():
            return extraction.fill(label)

    return TensorStore(store_folder(cache, recipe), recipe, Request(windows.about, windows.keys), fill)


class Extraction:
    """Clips → frames → segments, by batches that shrink when memory does not suffice."""

    def __init__(self, clips: Windows, extractor: Extractor, index: Index) -> None:
        self.clips, self.extractor, self.index = clips, extractor, index
        self.lengths = extractor.frame_counts(clips.kept)  # (N,) frames
        self.seconds = extractor.batch_seconds  # audio in a batch, padding included, at most
        first = {key: row for row, key in reversed([*enumerate(clips.keys)])}  # equal clips are computed once
        self.rows = sorted(first.values(), key=lambda row: (self.lengths[row], row))
        # What is neither stored nor computed here: rows, and their samples without padding.
        self.left = {row: int(clips.kept[row]) for row in self.rows if clips.keys[row] not in index.places}

    def bytes(self, rows: list[int]) -> int:
        """Bytes that the frames of rows take."""
        return int(self.lengths[rows].sum()) * self.index.recipe.frame_bytes

    def look(self) -> None:
        """See what has been stored, by this process or others."""
        if self.index.refresh():
            keys, stored = self.clips.keys, self.index.places
            self.left = {row: length for row, length in self.left.items() if keys[row] not in stored}

    def fill(self, label: str) -> int:
        """Compute what is left, with other processes that do the same; how many clips this one has computed."""
        self.meter, self.asked, computed = Meter(log, label), (len(self.left), sum(self.left.values())), 0
        while self.left:
            check_stop()
            self.clock = time.monotonic()
            with (
                ExitStack() as self.claims,  # given back whatever happens
                in_background(self.write) as put,
                closing(prefetch(self.load, self.claimed_batches())) as loaded,
            ):
                for claim, batch, waves in loaded:
                    put(claim, self.frames(batch, waves))
                    computed += len(batch)
                    for row in batch:
                        self.left.pop(row, None)
                    self.look()
                    self.report()
            self.look()
            self.report(", the rest by other processes" if self.left else "")
            if self.left:  # they are at it, or were
                time.sleep(PATIENCE)
        return computed

    def report(self, more: str = "") -> None:
        """Progress of all processes with what was missing at first, padding not counted. more: what to say beside."""
        (clips, samples), left = self.asked, sum(self.left.values())
        seconds, total = (samples - left) / RATE, samples / RATE
        speed = seconds / max(time.monotonic() - self.meter.begun, 1e-9)
        hours = f"{seconds / 3600:.2f}/{total / 3600:.2f} h of audio"
        text = f"extracting: {clips - len(self.left)}/{clips} clips, {hours}, {speed:.1f} × real time{more}"
        self.meter.report(text, 1 - left / max(samples, 1))

    def claimed_batches(self) -> Iterator[tuple[Writer, list[int]]]:
        """Batches of clips that no other process computes, until none is left; each with the segment it belongs to."""
        while self.left:
            with alone(self.index.folder):
                taken = set(claimed_keys(self.index.folder))  # before the look: what is done between the two is stored
                self.look()
                batches = self.chunk([row for row in self.left if self.clips.keys[row] not in taken])
                if not batches:
                    return
                rows = [row for batch in batches for row in batch]
                entries = [(self.clips.keys[row], self.lengths[row], self.clips.kept[row]) for row in rows]
                claim = Writer(self.index.folder, self.index.recipe, np.array(entries, ENTRY))
                self.claims.callback(claim.abandon)
            yield from ((claim, batch) for batch in batches)

    def chunk(self, rows: list[int]) -> list[list[int]]:
        """The first of rows, which come in order of length, in batches: enough of them for a segment."""
        batches: list[list[int]] = []
        taken = 0
        while taken < len(rows) and taken < CHUNK_ROWS and self.bytes(rows[:taken]) < CHUNK_BYTES:
            sizes = (int(self.clips.sizes[row]) for row in rows[taken:])
            size = batch_size(sizes, self.seconds, self.extractor.equal_lengths)
            batches.append(rows[taken : taken + size])
            taken += size
        return batches

    def load(self, item: tuple[Writer, list[int]]) -> tuple[Writer, list[int], Tensor]:
        """Read and cut the clips of a batch → waves (B, N), zeros after each clip's own samples."""
        claim, batch = item
        waves = torch.zeros(len(batch), int(self.clips.sizes[batch].max()))  # (B, N)
        for wave, row in zip(waves, batch, strict=True):
            samples = self.clips.read(row)
            wave[: len(samples)] = torch.from_numpy(samples)
        return claim, batch, waves

    def write(self, claim: Writer, frames: list[np.ndarray]) -> None:
        """Store a batch's frames; with the last of its segment, the segment."""
        for array in frames:
            claim.add(array)
        if claim.count == len(claim.entries):
            now = time.monotonic()
            claim.commit(now - self.clock)
            self.clock = now

    def frames(self, rows: list[int], waves: Tensor) -> list[np.ndarray]:
        """Rows and waves (B, N) → B arrays (T, width) in the stored precision."""
        done: list[np.ndarray] = []
        while len(done) < len(rows):
            size = max(int(self.seconds * RATE / waves.shape[1]), 1)
            piece = slice(len(done), len(done) + size)
            try:
                done += self.compute(rows[piece], waves[piece])
                continue
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
            if self.extractor.device.type == "cuda":  # from here on nothing refers to what has been computed
                torch.cuda.empty_cache()
            if len(rows[piece]) == 1:
                raise EmoshareError(
                    f"out of memory on {self.extractor.device} with a single clip in the batch "
                    "(extract.max_batch_seconds cannot go lower); use extract.compute=bfloat16, a smaller "
                    "window.seconds or backbone"
                )
            self.seconds = len(rows[piece]) * waves.shape[1] / RATE / 2
            log.info("out of memory: going on with %.1f audio seconds in a batch", self.seconds)
        return done

    def compute(self, rows: list[int], waves: Tensor) -> list[np.ndarray]:
        """The frames of the whole batch at once, as `frames`. Raises what the extractor does when out of memory."""
        longest = int(self.clips.sizes[rows].max())
        try:
            frames, counts = self.extractor(waves[:, :longest], torch.from_numpy(self.clips.kept[rows]))
        except UnusableClips as error:
            path = self.clips.name(rows[error.rows[0]])
            more = f" (and {len(error.rows) - 1} more)" if len(error.rows) > 1 else ""
            remedy = "take it out of the label tables, or choose another backbone"
            raise EmoshareError(f"{path}{more}: {error.reason}; {remedy}") from error
        stored = frames.to(DTYPES[self.extractor.precision])  # (B, T, width)
        if not bool(torch.isfinite(stored).all()):
            raise self.overflow(rows, frames, stored)
        stored = stored.cpu().contiguous()
        arrays = (stored.view(torch.uint16) if stored.dtype == torch.bfloat16 else stored).numpy()
        return [array[:count] for array, count in zip(arrays, counts.tolist(), strict=True)]

    def overflow(self, rows: list[int], frames: Tensor, stored: Tensor) -> EmoshareError:
        """The error for the first clip whose frames cannot be stored."""
        bad = int((~torch.isfinite(stored)).flatten(1).any(1).nonzero()[0])
        largest = frames[bad].float().abs().max().item()
        problem = (
            f"frames as large as {largest:.3g} do not fit extract.precision={self.extractor.precision}; "
            "use extract.precision=bfloat16 or float32"
            if math.isfinite(largest)
            else "the backbone gives NaN or infinite frames; use extract.compute=float32 or bfloat16 with "
            "extract.precision=bfloat16, and listen to the clip if that gives them too"
        )
        return EmoshareError(f"{self.clips.name(rows[bad])}: {problem}")


class Copying(Extraction):
    """Features of a file → segments: nothing is computed."""

    def __init__(self, clips: Windows, extractor: Any, index: Index) -> None:
        super().__init__(clips, extractor, index)
        self.features = extractor.features(clips.clips.names)
        self.lengths = self.features.lengths

    def chunk(self, rows: list[int]) -> list[list[int]]:
        """The first of rows as one batch: what a segment holds, and a clip at least."""
        sizes = np.cumsum(self.lengths[rows[:CHUNK_ROWS]]) * self.index.recipe.frame_bytes
        return [rows[: max(int(np.searchsorted(sizes, CHUNK_BYTES)), 1)]] if rows else []

    def load(self, item: tuple[Writer, list[int]]) -> tuple[Writer, list[int], Tensor]:
        """Nothing is read of the sound."""
        return *item, torch.empty(0)

    def frames(self, rows: list[int], waves: Tensor) -> list[np.ndarray]:
        return [self.features.read(row) for row in rows]
