"""The shelf of frame stores: list, verify, repair, prune to a budget, refuse what the disk cannot hold.

Behind `emoshare cache`; stores in use (see frames.share) are never touched. GB are 10^9 bytes.
"""

from __future__ import annotations

import errno
import json
import logging
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import numpy as np

from emoshare.core.errors import EmoshareError
from emoshare.core.files import read_json, write_text
from emoshare.store.frames import Layout, exclusive, read_journal, share

log = logging.getLogger(__name__)

GB = 1e9
KEY = "[0-9a-f]{16}"  # names of the folders, beside which lie their locks
PIECE = 8 * 2**20  # bytes read at once while verifying
REMEDIES = (
    "point paths.cache at a larger disk, make room with `emoshare cache prune --max-gb N`, "
    "take a smaller window.seconds or backbone, or extract.precision=float16"
)


@dataclass(frozen=True)
class Stored:
    """One folder of the shelf, complete or not."""

    folder: Path
    recipe: dict[str, Any]  # empty where it cannot be read, or its process died before it was written
    bytes: int  # on the disk
    used: float  # seconds since the epoch
    complete: bool
    busy: bool  # somebody reads or computes it


def stores(cache: Path) -> list[Stored]:
    """All stores, least recently used first."""
    shelf = []
    for folder in (Path(cache) / "frames").glob("*"):
        if re.fullmatch(KEY, folder.name):
            with suppress(FileNotFoundError):  # another process prunes too
                shelf.append(look(folder))
    return sorted(shelf, key=lambda stored: stored.used)


def look(folder: Path) -> Stored:
    used, recipe = folder / "used", {}
    with exclusive(folder) as free:
        with suppress(EmoshareError):  # not written yet, dropped by another process, or damaged
            recipe = read_json(folder / "recipe.json", f"delete {folder}")
        return Stored(
            folder=folder,
            recipe=recipe,
            bytes=on_disk(folder),
            used=(used if used.exists() else folder).stat().st_mtime,
            complete=(folder / "complete").exists(),
            busy=not free,
        )


def on_disk(folder: Path) -> int:
    """Bytes that a folder takes: frames.bin has holes until it is filled."""
    return sum(file.stat().st_blocks * 512 for file in folder.glob("*"))


def verify(folder: Path) -> list[int]:
    """Numbers of the chunks whose bytes are not what was written."""
    with share(folder):
        journal = read_journal(folder)
        if not journal:
            return []
        lengths = np.load(folder / "lengths.npy")
        with (folder / "frames.bin").open("rb") as file:
            starts = Layout(lengths).starts
            spans = starts * (file.seek(0, 2) // int(starts[-1]))  # bytes
            return [c for c, entry in journal.items() if checksum(file, spans[entry["slots"]]) != entry["crc32"]]


def drop(folder: Path) -> bool:
    """Delete a store; False where it is in use. Killed halfway, it leaves an empty store, not a wrong one."""
    with exclusive(folder) as free:
        if free:
            for name in ("complete", "chunks.jsonl"):  # what vouches for the data goes first
                (folder / name).unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
        return free


def checksum(file: IO[bytes], span: np.ndarray) -> int:
    """CRC-32 of the bytes [start, stop) of a file."""
    file.seek(int(span[0]))
    left, crc = int(span[1] - span[0]), 0
    while left and (piece := file.read(min(PIECE, left))):
        crc, left = zlib.crc32(piece, crc), left - len(piece)
    return crc


def repair(folder: Path, bad: Iterable[int]) -> bool:
    """Disbelieve the chunks that verify found bad: the next run computes these alone. False where it is in use."""
    with exclusive(folder) as free:
        if free and (bad := set(bad)):
            (folder / "complete").unlink(missing_ok=True)
            good = [json.dumps(entry) + "\n" for c, entry in read_journal(folder).items() if c not in bad]
            write_text(folder / "chunks.jsonl", "".join(good))
        return free


def prune(cache: Path, max_gb: float, keep: Iterable[Path] = ()) -> list[Stored]:
    """Delete the least recently used until the rest fits; never one in use or in keep. Returns those deleted."""
    shelf, kept, removed = stores(cache), set(keep), []
    total = sum(stored.bytes for stored in shelf)
    for stored in shelf:
        if total <= max_gb * GB:
            break
        if stored.folder not in kept and drop(stored.folder):
            total -= stored.bytes
            removed.append(stored)
    return removed


def make_room(folder: Path, size: int, max_gb: float | None) -> None:
    """Prune to the budget for a store of so many bytes; EmoshareError where it alone is over budget or disk.

    What is in use by other runs stays, even over budget, with a warning.
    """
    missing = max(size - on_disk(folder), 0)
    if max_gb is not None:
        if size > max_gb * GB:
            raise EmoshareError(f"cache.max_gb={max_gb}: these frames alone take {size / GB:.3g} GB; raise it")
        for stored in prune(folder.parent.parent, max_gb - missing / GB, keep=[folder]):
            log.info("pruned %s (%.3g GB) to stay within cache.max_gb=%g", stored.folder, stored.bytes / GB, max_gb)
        total = (sum(stored.bytes for stored in stores(folder.parent.parent)) + missing) / GB
        if total > max_gb:
            log.warning("cache.max_gb=%g is exceeded: %.3g GB with these frames, the rest is in use", max_gb, total)
    free = shutil.disk_usage(folder.parent).free
    if missing > free:
        raise EmoshareError(
            f"{folder.parent}: these frames need {missing / GB:.3g} GB more and {free / GB:.3g} GB are free; {REMEDIES}"
        )


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Turn a disk, quota or file limit that fills up under way into one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        free = shutil.disk_usage(folder.parent).free
        raise EmoshareError(
            f"{folder}: {error.strerror} while writing frames, {free / GB:.3g} GB free; {REMEDIES}. "
            "The next run goes on where this one stopped"
        ) from error


def describe(shelf: Iterable[Stored]) -> str:
    """A table for people, one line per store."""
    rows = [["recipe", "backbone", "layer", "window", "stored", "engine", "clips", "GB", "last use", "state"]]
    for stored in shelf:
        size = f"{stored.bytes / GB:.3f}"
        rows.append([stored.folder.name, *about(stored.recipe), size, when(stored), state(stored)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def conversions(cache: Path) -> str:
    """One line on the models that OpenVINO keeps; nothing where there are none."""
    models = [folder for folder in (Path(cache) / "openvino").glob("*") if re.fullmatch(KEY, folder.name)]
    size = sum(map(on_disk, models)) / GB
    return f"converted models: {len(models)}, {size:.3f} GB, in {cache}/openvino; delete any\n" if models else ""


def about(recipe: dict[str, Any]) -> tuple[str, ...]:
    if not recipe:
        return ("?",) * 6
    backbone, window = recipe["backbone"], recipe["window"]
    return (
        str(backbone["name"]),
        str(backbone["layer"]),
        f"{window['seconds']:g} s, pad={window['pad']}",
        recipe["precision"],
        f"{recipe['engine']} {recipe['compute']}",
        str(recipe["clips"]),
    )


def when(stored: Stored) -> str:
    return datetime.fromtimestamp(stored.used).isoformat(" ", "minutes")


def state(stored: Stored) -> str:
    return ("complete" if stored.complete else "partial") + (", in use" if stored.busy else "")
