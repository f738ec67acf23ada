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
import os
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import count
from pathlib import Path
from typing import IO, Any

import numpy as np

from emoshare.core.config import RATE
from emoshare.core.errors import EmoshareError
from emoshare.core.files import replacing, where_writable, write_json, write_text
from emoshare.store.locks import alone, share
from emoshare.store.recipe import DISK, KEY_BYTES, Recipe, check_recipe
from emoshare.store.segments import PLACE, Segment, damage_error, names, read_segment, verify

OPEN = 64  # files that a store holds open at a time: a large one has thousands of segments, a process often 1,024 files


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
            with where_writable():
                if not known.exists():
                    write_json(known, recipe.to_dict())
                if not path.exists() or Request.read(path).digest != path.name:  # the second: damaged
                    with replacing(path) as temporary:
                        temporary.write_bytes(self.about.encode() + b"\n" + b"".join(self.keys))
                os.utime(path)
            return share(path)

    def segment_names(self, folder: Path) -> list[str]:
        """Names of the segments that held these clips the last time."""
        with suppress(OSError):  # never noted
            note = (folder / "requests" / f"{self.digest}.segments").read_text("utf-8", "replace")
            return re.findall(r"^[0-9a-f]+$", note, re.MULTILINE)
        return []

    def note(self, folder: Path, segments: list[str]) -> None:
        """Note the names of the segments that hold these clips."""
        if segments != self.segment_names(folder):
            with where_writable():
                write_text(folder / "requests" / f"{self.digest}.segments", "\n".join(segments))


class Index:
    """The contents of a store's segments, by key: those with the clips of a request, or all if it lacks a clip."""

    def __init__(self, folder: Path, recipe: Recipe, request: Request) -> None:
        self.folder, self.recipe = folder, recipe
        self.segments: dict[str, Segment] = {}  # by name
        self.places: dict[bytes, int] = {}  # key → place in the entries of all segments
        self._count = 0  # of these entries
        self._read(request.segment_names(folder))
        if not self.holds(request):
            self.refresh()

    def refresh(self) -> bool:
        """Read the segments that have come since; whether there were any. EmoshareError names one that is damaged."""
        seen = len(self.segments)
        self._read(names(self.folder))
        return len(self.segments) > seen

    def _read(self, listed: list[str]) -> None:
        for name in (name for name in listed if name not in self.segments):
            with suppress(FileNotFoundError):  # pruned by another process
                segment = read_segment(self.folder / "segments" / name)
                if segment.frame_bytes != self.recipe.frame_bytes:
                    raise EmoshareError(f"{segment.path}: of another recipe; delete {self.folder} and extract again")
                self.segments[name] = segment
                self.places.update(zip(segment.entries["key"].tolist(), count(self._count), strict=False))
                self._count += len(segment.entries)

    def holds(self, request: Request) -> bool:
        """Whether all of its clips are there."""
        return self.places.keys() >= set(request.keys)

    def find(self, keys: Iterable[bytes]) -> np.ndarray:
        """The places of the frames of each key: (N,) PLACE. EmoshareError where those of any are not stored."""
        try:
            places = np.fromiter(map(self.places.__getitem__, keys), np.int64)
        except KeyError:
            text = f"{self.folder}: not all of these frames are stored; run `emoshare extract`"
            raise EmoshareError(text) from None
        tables = [segment.places(number) for number, segment in enumerate(self.segments.values())]
        return np.concatenate([np.empty(0, PLACE), *tables])[places]


class FrameStore:
    """The frames of a request, opened for reading: memory holds a batch and no more.

    The checksum of each segment is verified when a process opens it first.

    Attributes:
        lengths: (N,) frames of each clip.
        computed: clips that were computed when it was opened.
    """

    def __init__(
        self, folder: Path, recipe: Recipe, request: Request, fill: Callable[[Index], int] | None = None
    ) -> None:
        """fill: computes what the index lacks, and returns how many clips that were.

        Raises EmoshareError where the store is of another recipe, lacks frames or is damaged, and what `fill` raises.
        """
        self.folder, self.recipe, self.request = folder, recipe, request
        with ExitStack() as stack:
            if use := request.hold(folder, recipe):
                stack.enter_context(use)
            index = Index(folder, recipe, request)
            self.computed = fill(index) if fill and not index.holds(request) else 0
            self._places = index.find(request.keys)
            self._where = np.stack([self._places[name] for name in ("segment", "begin", "frames")], 1)  # (N, 3)
            self.lengths = self._places["frames"].copy()
            segments, used = [*index.segments.values()], np.unique(self._places["segment"]).tolist()
            verify([segments[number] for number in used])
            self._paths = [segment.path for segment in segments]
            self._file = lru_cache(OPEN)(OpenFile)
            request.note(folder, sorted(segments[number].path.name for number in used))
            self._use = stack.pop_all()  # the lock lives as long as the store

    def __reduce__(self) -> tuple[Any, ...]:
        """A loader process opens the store itself instead of being sent its frames."""
        return type(self), (self.folder, self.recipe, self.request)

    @property
    def cost(self) -> dict[str, Any]:
        """The size of the frames and the time of their computation, by all processes, whenever that was."""
        once = {key: row for row, key in enumerate(self.request.keys)}  # equal clips are stored once
        places = self._places[list(once.values())]
        audio, seconds = int(places["samples"].sum()) / RATE, float(places["seconds"].sum())
        return {
            "recipe": self.recipe.hash, "request": self.request.digest, "reused": not self.computed,
            "computed": self.computed, "clips": len(self.lengths),
            "bytes": int(places["frames"].sum()) * self.recipe.frame_bytes, "audio_seconds": audio,
            "seconds": seconds, "realtime": audio / seconds if seconds else None,
        }  # fmt: skip

    def nbytes(self, rows: np.ndarray) -> int:
        """Bytes that the frames of rows take."""
        return int(self.lengths[rows].sum()) * self.recipe.frame_bytes

    def arrays(self, rows: np.ndarray | Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
        """Rows (B,) → frames (B, T, width) in the stored precision, zeros after each clip's own, and lengths (B,)."""
        rows, width, dtype = np.asarray(rows, np.int64), self.recipe.width, np.dtype(DISK[self.recipe.precision])
        lengths, places, size = self.lengths[rows], self._where[rows].tolist(), width * dtype.itemsize
        files = [self._file(self._paths[number]) for number, _, _ in places]
        for file, (_, begin, length) in zip(files, places, strict=True):
            file.announce(begin, length * size)  # one request for all: from a cold disk 4 × as fast
        longest = int(lengths.max(initial=0))
        batch = np.empty((len(rows), longest * width), dtype)
        for clip, file, (_, begin, length) in zip(batch, files, places, strict=True):
            file.read(clip[: length * width], begin)
            clip[length * width :] = 0
        return batch.reshape(len(rows), longest, width), lengths


class OpenFile:
    """A descriptor that is closed with the last reference: also while one thread reads, another may let go of it."""

    def __init__(self, path: Path) -> None:
        self.path, self.descriptor = path, -1
        try:
            self.descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:  # in a cache that can only be read, nothing keeps another machine from pruning
            raise EmoshareError(f"{path}: another process has pruned it; run the command again") from None

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)

    def announce(self, begin: int, size: int) -> None:
        """Let the system read ahead."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self.descriptor, begin, size, os.POSIX_FADV_WILLNEED)

    def read(self, target: np.ndarray, begin: int) -> None:
        """Fill an array from the bytes at `begin`. EmoshareError where the file ends before."""
        view = target.data.cast("B")
        while view:
            count = os.preadv(self.descriptor, [view], begin)
            if not count:
                raise damage_error(self.path)
            view, begin = view[count:], begin + count
