"""The frame store: frames of a corpus on disk, computed once per recipe. What is not known to be whole is not used.

    cache/frames/<hash of the recipe>/
        recipe.json    everything that the frames depend on; compared on every open
        lengths.npy    (N,) frames of each clip, in corpus order
        frames.bin     the frames, clip after clip in order of length (corpus order where all are equal)
        chunks.jsonl   the journal: a chunk is used when its line stands here, with its checksum
        cost.json      what the extraction took
        complete       written last
        used           its modification time is the time of the last use

Shapes: N clips, B clips in a batch, T frames, width = D (or states × D). NumPy has no bfloat16: such frames
are uint16 here. A row is a clip's place in the corpus, a slot its place in frames.bin.
"""

from __future__ import annotations

import json
import mmap
import os
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np

from emoshare.core.errors import EmoshareError, read_only
from emoshare.core.files import read_json, replacing, write_json, write_text
from emoshare.store.locks import share
from emoshare.store.recipe import DISK, Recipe, without_provenance

CHUNK_BYTES = 64 * 2**20  # what a killed extraction may lose
CHUNK_ROWS = 1024


@dataclass(frozen=True)
class Layout:
    """Where the clips lie in frames.bin: in order of length, so that a batch of like clips is one stretch."""

    lengths: np.ndarray  # (N,) frames of each row

    @cached_property
    def order(self) -> np.ndarray:
        """(N,) the row in each slot."""
        return np.argsort(self.lengths, kind="stable")

    @cached_property
    def starts(self) -> np.ndarray:
        """(N + 1,) the first frame of each slot, and the number of frames in all."""
        return np.concatenate([[0], np.cumsum(self.lengths[self.order], dtype=np.int64)])

    @cached_property
    def offsets(self) -> np.ndarray:
        """(N,) the first frame of each row."""
        offsets = np.empty(len(self.lengths), np.int64)
        offsets[self.order] = self.starts[:-1]
        return offsets

    def chunks(self, frame_bytes: int) -> list[tuple[int, int]]:
        """[start, stop) slots of each chunk."""
        longest = int(self.lengths.max()) * frame_bytes
        rows = min(max(CHUNK_BYTES // longest, 1), CHUNK_ROWS)
        return [(start, min(start + rows, len(self.lengths))) for start in range(0, len(self.lengths), rows)]


class FrameStore:
    """A complete store, opened for reading. Files are mapped: memory holds the batch and no more."""

    def __init__(self, folder: Path, recipe: Recipe, use: IO[str] | None) -> None:
        self.folder, self.recipe = folder, recipe
        self.precision, self.width = recipe.precision, recipe.width
        self.lengths = read_lengths(folder)
        self.rows = len(self.lengths)
        self.cost: dict[str, Any] = read_json(folder / "cost.json", f"delete {folder} and extract again")
        self._use = use  # the lock lives as long as the store
        self._layout = Layout(self.lengths)
        path, total = folder / "frames.bin", int(self._layout.starts[-1])
        if path.stat().st_size != total * recipe.frame_bytes:
            raise EmoshareError(f"{path}: not the size that its recipe asks for; delete {folder} and extract again")
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._frames = np.frombuffer(self._map, DISK[self.precision]).reshape(total, self.width)

    @classmethod
    def open(cls, folder: Path, recipe: Recipe) -> FrameStore:
        """Raises EmoshareError where the store is incomplete or of another recipe."""
        if (store := find(folder, recipe)) is None:
            raise EmoshareError(f"{folder}: no complete frame store; run `emoshare extract`")
        return store

    def __reduce__(self) -> tuple[Any, ...]:
        """A loader process opens the store itself instead of being sent its frames."""
        return FrameStore.open, (self.folder, self.recipe)

    def gather(self, rows: np.ndarray | Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
        """Rows (B,) → frames (B, T, width) in the stored precision, zeros after each clip's own, and lengths (B,)."""
        rows = np.asarray(rows, np.int64)
        lengths, starts = self.lengths[rows], self._layout.offsets[rows]
        stops = starts + lengths
        for start, stop in zip(starts, stops, strict=True):  # one request for all: from a cold disk 4 × as fast
            begin = int(start) * self.recipe.frame_bytes // mmap.PAGESIZE * mmap.PAGESIZE
            self._map.madvise(mmap.MADV_WILLNEED, begin, int(stop) * self.recipe.frame_bytes - begin)
        batch = np.empty((len(rows), int(lengths.max(initial=0)), self.width), self._frames.dtype)  # (B, T, width)
        for clip, length, start, stop in zip(batch, lengths, starts, stops, strict=True):
            clip[:length] = self._frames[start:stop]
            clip[length:] = 0
        return batch, lengths


class Writer:
    """Fills a store slot after slot and resumes at the first chunk that the journal does not name.

    Only for the process that holds `computing(folder)`.
    """

    def __init__(self, folder: Path, recipe: Recipe, lengths: np.ndarray) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.recipe, self.layout = folder, recipe, Layout(lengths)
        if (folder / "recipe.json").exists():
            check_recipe(folder, recipe)
        else:
            (folder / "chunks.jsonl").unlink(missing_ok=True)  # it belongs to an unknown recipe
        self.chunks = self.layout.chunks(recipe.frame_bytes)
        self._data = self._open_data(int(self.layout.starts[-1]) * recipe.frame_bytes)
        self._journal = self._open_journal(lengths)
        self._crc, self._next, self._clock = 0, 0, time.monotonic()
        (folder / "used").touch()

    def _open_data(self, size: int) -> IO[bytes]:
        path = self.folder / "frames.bin"
        if not path.exists() or path.stat().st_size != size:
            (self.folder / "chunks.jsonl").unlink(missing_ok=True)  # it was about another file
            path.touch()
            os.truncate(path, size)
        return path.open("r+b", buffering=0)

    def _open_journal(self, lengths: np.ndarray) -> IO[bytes]:
        """Write the journal again without a torn last line, which would spoil the one after it."""
        known, index = read_journal(self.folder), self.folder / "lengths.npy"
        try:
            if not np.array_equal(read_lengths(self.folder), lengths):
                known = {}
        except EmoshareError:  # not there yet, or damaged
            known = {}
        self.done = {c: e for c, e in known.items() if c < len(self.chunks) and tuple(e["slots"]) == self.chunks[c]}
        lines = [json.dumps(entry) + "\n" for entry in self.done.values()]
        write_text(self.folder / "chunks.jsonl", "".join(lines))
        with replacing(index) as temporary:
            np.save(temporary, lengths)
        write_json(self.folder / "recipe.json", self.recipe.to_dict())
        return (self.folder / "chunks.jsonl").open("ab", buffering=0)

    def pending(self) -> list[int]:
        """Slots still to be added, in the order in which `add` wants them."""
        missing = (span for chunk, span in enumerate(self.chunks) if chunk not in self.done)
        return [slot for span in missing for slot in range(*span)]

    def add(self, slot: int, frames: np.ndarray) -> None:
        """Append one clip's frames (T, width), in the stored precision. ValueError for the wrong shape or order."""
        chunk = slot // self.chunks[0][1]
        shape = (int(self.layout.lengths[self.layout.order[slot]]), self.recipe.width)
        if frames.shape != shape or frames.dtype != DISK[self.recipe.precision]:
            raise ValueError(f"slot {slot} takes {shape} of {self.recipe.precision}, not {frames.shape} {frames.dtype}")
        if slot == self.chunks[chunk][0]:
            self._crc, self._next = 0, slot
            self._data.seek(int(self.layout.starts[slot]) * self.recipe.frame_bytes)
        if slot != self._next:  # after a failed write the rest of its chunk must not count
            raise ValueError(f"slot {slot} before slot {self._next}")
        data = np.ascontiguousarray(frames).data.cast("B")
        self._crc = zlib.crc32(data, self._crc)
        write_all(self._data, data)
        self._next += 1
        if slot + 1 == self.chunks[chunk][1]:
            self._commit(chunk)

    def _commit(self, chunk: int) -> None:
        """Enter a chunk into the journal, after its bytes are safe on the disk."""
        os.fsync(self._data.fileno())
        now = time.monotonic()
        entry = {"chunk": chunk, "slots": self.chunks[chunk], "crc32": self._crc, "seconds": now - self._clock}
        write_all(self._journal, memoryview((json.dumps(entry) + "\n").encode()))
        os.fsync(self._journal.fileno())
        self.done[chunk], self._clock = entry, now

    def start(self) -> None:
        """Start the clock of the extraction's cost."""
        self._clock = time.monotonic()

    def finish(self, audio_seconds: float) -> None:
        """Mark the store complete. audio_seconds: of the clips' own audio, zero padding not included."""
        if len(self.done) != len(self.chunks):
            raise RuntimeError(f"{self.folder}: {len(self.done)} of {len(self.chunks)} chunks written")
        seconds = sum(entry["seconds"] for entry in self.done.values())  # of killed attempts too
        cost = {
            "engine": self.recipe.engine,
            "bytes": (self.folder / "frames.bin").stat().st_size,
            "audio_seconds": audio_seconds,
            "seconds": seconds,
            "realtime": audio_seconds / seconds if seconds else None,
        }
        write_json(self.folder / "cost.json", cost)
        write_text(self.folder / "complete", "")

    def close(self) -> None:
        self._data.close()
        self._journal.close()


def store_folder(cache: Path, recipe: Recipe) -> Path:
    return Path(cache) / "frames" / recipe.hash


def find(folder: Path, recipe: Recipe) -> FrameStore | None:
    """The complete store, opened; None where it is yet to be computed. EmoshareError where it is another's."""
    if not folder.exists():
        return None
    use = share(folder)
    try:
        if not (folder / "complete").exists():
            return None
        check_recipe(folder, recipe)
        touch(folder / "used")
        store = FrameStore(folder, recipe, use)
        use = None  # from here on the store keeps the lock
        return store
    finally:
        if use is not None:
            use.close()


def touch(path: Path) -> None:
    """Note the time of a use, where the cache can be written."""
    try:
        path.touch()
    except OSError as error:
        if not read_only(error):
            raise


def read_lengths(folder: Path) -> np.ndarray:
    """(N,) frames of each clip. EmoshareError names the file that is damaged and the remedy."""
    path = folder / "lengths.npy"
    try:
        lengths = np.load(path, allow_pickle=False)
        if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or not len(lengths) or lengths.min() < 0:
            raise ValueError
    except (OSError, ValueError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a list of frame counts"
        raise EmoshareError(f"{path}: not readable ({reason}); delete {folder} and extract again") from error
    return lengths


def check_recipe(folder: Path, recipe: Recipe) -> None:
    """Raise EmoshareError unless the recipe beside the data is this one."""
    path, wanted, remedy = (
        folder / "recipe.json",
        without_provenance(recipe.to_dict()),
        f"delete {folder} and extract again",
    )
    found = read_json(path, remedy)
    found = without_provenance(found) if isinstance(found.get("backbone"), dict) else found
    if found != wanted:
        keys = sorted(key for key in wanted.keys() | found.keys() if found.get(key) != wanted.get(key))
        raise EmoshareError(f"{path}: another recipe ({', '.join(keys)} differ); {remedy}")


def read_journal(folder: Path) -> dict[int, dict[str, Any]]:
    """Entries by chunk. A line that was torn when its process died does not count."""
    path, entries = folder / "chunks.jsonl", {}
    for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        entries[entry["chunk"]] = entry
    return entries


def write_all(file: IO[bytes], data: memoryview) -> None:
    """Write to an unbuffered file, which may take a part at a time."""
    while data:
        data = data[file.write(data) :]
