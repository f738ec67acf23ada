"""The frame store: frames on disk, computed once per recipe and samples. What is not known to be whole is not used.

    cache/frames/<hash of the recipe>/
        recipe.json         everything that the frames depend on beside the samples; compared on every open
        segments/<name>     frames of some clips: see `segments`
        requests/<digest>   what a corpus and a window ask for: a line that describes it, then the clips' keys
        requests/<digest>.segments   where these were found the last time, so that not all segments must be looked at

A segment that exists counts, and nothing else does. A request keeps the segments of its clips from being pruned while a
process holds it, and its modification time is that of its last use.

Shapes: N clips of a request, B clips in a batch, T frames, width = D (or states × D). NumPy has no bfloat16: such
frames are uint16 here. A row is a clip's place in the request.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np

from emoshare.core.config import RATE
from emoshare.core.errors import EmoshareError, read_only
from emoshare.core.files import replacing, write_json, write_text
from emoshare.store.locks import alone, share
from emoshare.store.recipe import DISK, KEY_BYTES, Recipe, check_recipe
from emoshare.store.segments import Segment, keys_of, names, read_segment


def store_folder(cache: Path, recipe: Recipe) -> Path:
    return Path(cache) / "frames" / recipe.hash


@dataclass(frozen=True)
class Request:
    """The clips that a run needs, by their keys, in its own order."""

    about: str  # for people: corpus and window, in one line
    keys: Sequence[bytes]

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(b"".join(self.keys)).hexdigest()[:16]

    @classmethod
    def read(cls, path: Path) -> Request:
        """Raises FileNotFoundError."""
        about, _, blob = path.read_bytes().partition(b"\n")
        return cls(about.decode(errors="replace"), [blob[i : i + KEY_BYTES] for i in range(0, len(blob), KEY_BYTES)])

    def hold(self, folder: Path, recipe: Recipe) -> IO[bytes] | None:
        """Enter it in the store, which is made where there is none; the lock that keeps its frames until it is closed.

        None where the cache can only be read. Raises EmoshareError where the store is another recipe's.
        """
        path, known = folder / "requests" / self.digest, folder / "recipe.json"
        with alone(folder):
            if known.exists():
                check_recipe(folder, recipe)
            try:
                if not known.exists():
                    write_json(known, recipe.to_dict())
                if not path.exists() or Request.read(path).digest != path.name:  # the second: damaged
                    with replacing(path) as temporary:
                        temporary.write_bytes(self.about.encode() + b"\n" + b"".join(self.keys))
                os.utime(path)
            except OSError as error:
                if not read_only(error):
                    raise
            return share(path) if path.exists() else None

    def found(self, folder: Path) -> list[str]:
        """Names of the segments that held these clips the last time."""
        with suppress(OSError, ValueError):  # never noted, or damaged
            noted = (folder / "requests" / f"{self.digest}.segments").read_text(encoding="utf-8").split()
            return [name for name in noted if name.isalnum()]
        return []

    def note(self, folder: Path, segments: list[str]) -> None:
        """Note the names of the segments that hold these clips."""
        if segments != self.found(folder):
            try:
                write_text(folder / "requests" / f"{self.digest}.segments", "\n".join(segments))
            except OSError as error:
                if not read_only(error):
                    raise


class Index:
    """What the segments of a store hold, by key: those that a request was found in, or all if it lacks a clip."""

    def __init__(self, folder: Path, recipe: Recipe, request: Request) -> None:
        self.folder, self.recipe = folder, recipe
        self.segments: list[Segment] = []
        self.known: set[str] = set()  # their names
        self._places: dict[bytes, int] = {}  # key → place in the entries of all segments
        self._count = 0
        self._read(request.found(folder))
        if not all(key in self for key in request.keys):
            self.refresh()

    def refresh(self) -> None:
        """Read the segments that have come since. EmoshareError names one that is damaged."""
        self._read(names(self.folder))

    def _read(self, listed: list[str]) -> None:
        for name in listed:
            if name in self.known:
                continue
            with suppress(FileNotFoundError):  # pruned by another process
                segment = read_segment(self.folder / "segments" / name)
                if segment.frame_bytes != self.recipe.frame_bytes:
                    raise EmoshareError(f"{segment.path}: of another recipe; delete {self.folder} and extract again")
                self.segments.append(segment)
                for place, key in enumerate(keys_of(segment.entries), self._count):
                    self._places.setdefault(key, place)
                self._count += len(segment.entries)
                self.known.add(name)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def find(self, keys: Iterable[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """Segment and place in it of each key, (N,) each. KeyError for one that is not there."""
        places = np.fromiter((self._places[key] for key in keys), np.int64)
        firsts = np.cumsum([0, *(len(segment.entries) for segment in self.segments)])
        segments = np.searchsorted(firsts, places, side="right") - 1
        return segments, places - firsts[segments]


class FrameStore:
    """The frames of a request, opened for reading. Files are mapped: memory holds the batch and no more."""

    def __init__(self, index: Index, request: Request, use: IO[bytes] | None) -> None:
        self.folder, self.recipe, self.request = index.folder, index.recipe, request
        self.precision, self.width, self.rows = self.recipe.precision, self.recipe.width, len(request.keys)
        self._use = use  # the lock lives as long as the store
        self._segments, self._places = index.find(request.keys)
        self._used = {number: index.segments[number] for number in np.unique(self._segments).tolist()}
        request.note(self.folder, sorted(segment.path.name for segment in self._used.values()))
        self._maps = {number: self._map(segment) for number, segment in self._used.items()}
        self.lengths, self._starts = np.empty(self.rows, np.int64), np.empty(self.rows, np.int64)
        for number, rows in self._rows_by_segment():
            entries = self._used[number].entries
            starts = np.cumsum(entries["frames"]) - entries["frames"]
            self.lengths[rows], self._starts[rows] = (a[self._places[rows]] for a in (entries["frames"], starts))

    def _rows_by_segment(self) -> Iterable[tuple[int, np.ndarray]]:
        order = np.argsort(self._segments, kind="stable")
        cuts = np.flatnonzero(np.diff(self._segments[order])) + 1
        return ((int(self._segments[rows[0]]), rows) for rows in np.split(order, cuts) if len(rows))

    def _map(self, segment: Segment) -> tuple[mmap.mmap, np.ndarray, int]:
        """The file, its frames (all of them, width), and where they begin in it."""
        with segment.path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        count = segment.frames * self.width
        frames = np.frombuffer(data, DISK[self.precision], count, segment.offset)
        return data, frames.reshape(-1, self.width), segment.offset

    @classmethod
    def open(cls, folder: Path, recipe: Recipe, request: Request) -> FrameStore:
        """Raises EmoshareError where a clip's frames are missing or the store is of another recipe."""
        use = request.hold(folder, recipe)
        try:
            store, use = cls(Index(folder, recipe, request), request, use), None
            return store
        except KeyError:
            raise EmoshareError(f"{folder}: not all of these frames are stored; run `emoshare extract`") from None
        finally:
            if use is not None:
                use.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """A loader process opens the store itself instead of being sent its frames."""
        return FrameStore.open, (self.folder, self.recipe, self.request)

    @cached_property
    def cost(self) -> dict[str, Any]:
        """What the frames are, and what they took to compute: of all processes, and whenever that was."""
        size, samples, seconds = 0, 0, 0.0
        for number, rows in self._rows_by_segment():
            segment, places = self._used[number], np.unique(self._places[rows])  # equal clips are stored once
            mine, all_samples = segment.entries[places], int(segment.entries["samples"].sum())
            size += int(mine["frames"].sum()) * self.recipe.frame_bytes
            samples += int(mine["samples"].sum())
            seconds += segment.seconds * int(mine["samples"].sum()) / max(all_samples, 1)
        audio = samples / RATE
        return {
            "engine": self.recipe.engine, "clips": self.rows, "bytes": size, "audio_seconds": audio,
            "seconds": seconds, "realtime": audio / seconds if seconds else None,
        }  # fmt: skip

    def gather(self, rows: np.ndarray | Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
        """Rows (B,) → frames (B, T, width) in the stored precision, zeros after each clip's own, and lengths (B,)."""
        rows = np.asarray(rows, np.int64)
        lengths = self.lengths[rows]
        places = list(zip(self._segments[rows].tolist(), self._starts[rows].tolist(), lengths.tolist(), strict=True))
        size = self.recipe.frame_bytes
        for number, start, length in places:  # one request for all: from a cold disk 4 × as fast
            data, _, offset = self._maps[number]
            begin = (offset + start * size) // mmap.PAGESIZE * mmap.PAGESIZE
            data.madvise(mmap.MADV_WILLNEED, begin, offset + (start + length) * size - begin)
        batch = np.empty((len(rows), int(lengths.max(initial=0)), self.width), DISK[self.precision])  # (B, T, width)
        for clip, (number, start, length) in zip(batch, places, strict=True):
            clip[:length] = self._maps[number][1][start : start + length]
            clip[length:] = 0
        return batch, lengths
