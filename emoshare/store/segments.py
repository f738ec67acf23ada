"""A segment: the frames of some clips in one file. It is there as a whole or not at all, and never changes.

    head      HEAD: format, clips, bytes of a frame, CRC-32 of the entries
    entries   an ENTRY for each clip: its key, its frames, the samples of speech that they were computed from
    frames    clip after clip
    foot      FOOT: CRC-32 of the frames and the seconds, seconds that the frames took

While it is written it is called `<name>.part` and its process holds a lock on it: so it is also the claim on its clips,
whose keys the head tells from the first moment. A `.part` without a lock was left by a process that died.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import struct
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from emoshare.core.cores import usable_cores
from emoshare.core.errors import EmoshareError
from emoshare.core.files import sync
from emoshare.store.locks import is_free
from emoshare.store.recipe import DISK, KEY_BYTES, Recipe

log = logging.getLogger("emoshare")
FORMAT = b"emoseg 2"
HEAD = struct.Struct("<8sQQI4x")  # 32 bytes, as an entry: so the frames begin where any of their types may
SECONDS, FOOT = struct.Struct("<d"), struct.Struct("<Id")
ENTRY = np.dtype([("key", f"V{KEY_BYTES}"), ("frames", "<i8"), ("samples", "<i8")])
# Where a clip's frames begin in a segment's file, in bytes; how many they are, of how many samples, and what they took.
PLACE = np.dtype([("segment", "<i4"), ("begin", "<i8"), ("frames", "<i8"), ("samples", "<i8"), ("seconds", "<f8")])
PIECE = 2**20  # bytes read at once while verifying: what a processor's cache holds
SILENT = 2e9  # bytes that are verified within seconds, without a word
VERIFIED: set[tuple[str, int, int]] = set()  # `state_of` the segments that this process has verified


@dataclass(frozen=True, eq=False)
class Segment:
    """The contents of a segment's header and trailer."""

    path: Path
    entries: np.ndarray  # (n,) ENTRY
    frame_bytes: int
    crc: int  # of the frames and the seconds
    seconds: float  # that they took to compute

    @property
    def offset(self) -> int:
        """The offset of the frames, in bytes."""
        return HEAD.size + self.entries.nbytes

    def places(self, number: int) -> np.ndarray:
        """The offset of each clip's frames in the file, in bytes, and their cost: (n,) PLACE in segment `number`."""
        table = np.empty(len(self.entries), PLACE)
        frames, samples = self.entries["frames"], self.entries["samples"]
        table["segment"], table["frames"], table["samples"] = number, frames, samples
        table["begin"] = self.offset + (np.cumsum(frames) - frames) * self.frame_bytes
        table["seconds"] = self.seconds * samples / max(samples.sum(), 1)
        return table


def read_segment(path: Path) -> Segment:
    """Raises FileNotFoundError, and EmoshareError where the file is damaged."""
    with path.open("rb") as file:
        if head := read_head(file):
            entries, frame_bytes = head
            foot = HEAD.size + entries.nbytes + int(entries["frames"].sum()) * frame_bytes
            if os.fstat(file.fileno()).st_size == foot + FOOT.size:
                return Segment(path, entries, frame_bytes, *FOOT.unpack(os.pread(file.fileno(), FOOT.size, foot)))
    raise damage_error(path)


def damage_error(*paths: Path) -> EmoshareError:
    """The error for segments whose bytes are not what was written."""
    more = f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""
    return EmoshareError(
        f"{paths[0]}{more}: damaged; delete it, and the next run computes its clips again "
        "(`emoshare cache verify` finds all such segments of a cache and deletes them)"
    )


def is_damaged(path: Path) -> bool:
    """Whether a segment's bytes, all of them read, are not what was written; False where it is gone."""
    try:
        return not is_whole(read_segment(path))
    except FileNotFoundError:  # pruned by another process
        return False
    except EmoshareError:
        return True


def is_whole(segment: Segment) -> bool:
    """Whether a segment's frames, all of them read, and seconds are what was written. FileNotFoundError: it is gone."""
    left, crc = int(segment.entries["frames"].sum()) * segment.frame_bytes, 0
    with segment.path.open("rb", buffering=0) as file:
        file.seek(segment.offset)
        while left and (piece := file.read(min(PIECE, left))):
            crc, left = zlib.crc32(piece, crc), left - len(piece)
    return zlib.crc32(SECONDS.pack(segment.seconds), crc) == segment.crc


def verify(segments: Iterable[Segment]) -> None:
    """Read the segments that this process has not verified before, several at a time.

    Raises EmoshareError with those whose bytes are not what was written.
    """
    states = {segment: state_of(segment.path) for segment in segments}
    new = [segment for segment, state in states.items() if state not in VERIFIED]
    if (size := sum(states[segment][1] for segment in new)) > SILENT:
        log.info("verifying %.3g GB of stored frames", size / 1e9)
    with ThreadPoolExecutor(usable_cores()) as pool:
        whole = list(pool.map(is_whole, new))
    if bad := [segment.path for segment, good in zip(new, whole, strict=True) if not good]:
        raise damage_error(*bad)
    VERIFIED.update(states.values())


def state_of(path: Path) -> tuple[str, int, int]:
    """The properties that change with a file: its path, size and time."""
    status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns


def read_head(file: IO[bytes]) -> tuple[np.ndarray, int] | None:
    """Entries and bytes of a frame; None for a head that is not whole."""
    with suppress(struct.error):  # shorter than a head
        form, count, frame_bytes, crc = HEAD.unpack(file.read(HEAD.size))
        content = file.read(min(count * ENTRY.itemsize, os.fstat(file.fileno()).st_size))
        if form == FORMAT and len(content) == count * ENTRY.itemsize and zlib.crc32(content) == crc:
            return np.frombuffer(content, ENTRY), frame_bytes
    return None


def names(folder: Path) -> list[str]:
    """The names of the complete segments of a store."""
    with suppress(FileNotFoundError):
        return sorted(path.name for path in (folder / "segments").iterdir() if path.suffix != ".part")
    return []


def claimed_keys(folder: Path) -> Iterator[bytes]:
    """Keys of the clips that processes are computing. What dead ones have left is deleted. Within `alone`."""
    for path in (folder / "segments").glob("*.part"):
        if is_free(path):
            path.unlink(missing_ok=True)
            continue
        with suppress(FileNotFoundError), path.open("rb") as file:  # done at this moment
            if head := read_head(file):
                yield from head[0]["key"].tolist()


class Writer:
    """A segment that is being written: the claim on its clips, from the call until `commit` or `abandon`."""

    def __init__(self, folder: Path, recipe: Recipe, entries: np.ndarray) -> None:
        """Within `alone`, so that no two processes claim a clip."""
        self.recipe, self.entries, self.count, self._crc = recipe, entries, 0, 0
        self.path = folder / "segments" / secrets.token_hex(8)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = Path(f"{self.path}.part").open("xb+", buffering=0)  # noqa: SIM115
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            content = entries.tobytes()
            self._write(HEAD.pack(FORMAT, len(entries), recipe.frame_bytes, zlib.crc32(content)) + content)
            os.fsync(self._file.fileno())  # other machines see it from here on
        except BaseException:
            self.abandon()
            raise

    def add(self, frames: np.ndarray) -> None:
        """The next clip's frames (T, width), in the stored precision. ValueError for another shape or type."""
        shape = (int(self.entries["frames"][self.count]), self.recipe.width)
        if frames.shape != shape or frames.dtype != DISK[self.recipe.precision]:
            expected = f"{shape} of {self.recipe.precision}"
            raise ValueError(f"clip {self.count} takes {expected}, not {frames.shape} {frames.dtype}")
        data = np.ascontiguousarray(frames).data.cast("B")
        self._write(data)
        self._crc, self.count = zlib.crc32(data, self._crc), self.count + 1

    def commit(self, seconds: float) -> None:
        """Make it a segment, after its bytes are safe on the disk. seconds: that the frames took."""
        if self.count != len(self.entries):
            raise RuntimeError(f"{self.path}: {self.count} of {len(self.entries)} clips written")
        self._write(FOOT.pack(zlib.crc32(SECONDS.pack(seconds), self._crc), seconds))
        os.fsync(self._file.fileno())
        os.rename(f"{self.path}.part", self.path)
        sync(self.path.parent)
        self._file.close()

    def abandon(self) -> None:
        """Give the claim back; nothing where it was committed."""
        if not self._file.closed:
            Path(f"{self.path}.part").unlink(missing_ok=True)
            self._file.close()

    def _write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:  # an unbuffered file may take a part at a time
            view = view[self._file.write(view) :]
