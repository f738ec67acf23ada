"""All frame stores of a cache: list, verify, repair, prune to a budget, refuse what the disk cannot hold.

Behind `emoshare cache`. Stores in use (see `locks`) are never touched, and a link is never followed. GB are 10⁹ bytes.
"""

from __future__ import annotations

import errno
import json
import logging
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import numpy as np

from emoshare.core.errors import EmoshareError
from emoshare.core.files import read_json, write_text
from emoshare.core.text import console_table
from emoshare.store.frames import Layout, read_journal, read_lengths
from emoshare.store.locks import exclusive, share

log = logging.getLogger(__name__)

GB = 1e9
KEY = "[0-9a-f]{16}"  # names of the folders, beside which lie their locks
PIECE = 8 * 2**20  # bytes read at once while verifying
REMEDIES = (
    "point paths.cache at a larger disk, make room with `emoshare cache prune --max-gb N`, "
    "take a smaller window.seconds or backbone, or extract.precision=float16"
)


@dataclass(frozen=True)
class StoreState:
    """One frame store of the cache, complete or not."""

    folder: Path
    recipe: dict[str, Any]  # empty where it cannot be read, or its process died before it was written
    bytes: int  # on the disk
    used: float  # seconds since the epoch
    complete: bool
    busy: bool  # somebody reads or computes it


def stores(cache: Path) -> list[StoreState]:
    """All stores, least recently used first. A link in the cache is none."""
    found = []
    for folder in (Path(cache) / "frames").glob("*"):
        if re.fullmatch(KEY, folder.name) and not folder.is_symlink():
            with suppress(FileNotFoundError):  # another process prunes too
                found.append(inspect(folder))
    return sorted(found, key=lambda store: store.used)


def inspect(folder: Path) -> StoreState:
    used, recipe = folder / "used", {}
    with exclusive(folder) as free:
        with suppress(EmoshareError):  # not written yet, dropped by another process, or damaged
            recipe = read_json(folder / "recipe.json", f"delete {folder}")
        return StoreState(
            folder=folder,
            recipe=recipe,
            bytes=on_disk(folder),
            used=(used if used.exists() else folder).stat().st_mtime,
            complete=(folder / "complete").exists(),
            busy=not free,
        )


def on_disk(folder: Path) -> int:
    """Bytes that a folder takes: frames.bin has holes until it is filled."""
    return sum(file.lstat().st_blocks * 512 for file in folder.glob("*"))


def verify(folder: Path) -> list[int]:
    """Numbers of the chunks whose bytes are not what was written."""
    with share(folder) or nullcontext():
        journal = read_journal(folder)
        if not journal:
            return []
        lengths = read_lengths(folder)
        with (folder / "frames.bin").open("rb") as file:
            starts = Layout(lengths).starts
            spans = starts * (file.seek(0, 2) // int(starts[-1]))  # bytes
            return [c for c, entry in journal.items() if checksum(file, spans[entry["slots"]]) != entry["crc32"]]


def drop(folder: Path) -> bool:
    """Delete a store; False where it is in use or a link. Killed halfway, it leaves an empty store, not a wrong one."""
    if folder.is_symlink():
        return False
    with exclusive(folder) as free:
        if free:
            for name in ("complete", "chunks.jsonl"):  # without these the data does not count
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
    """Take damaged chunks out of the journal: the next run computes these alone. False where the store is in use."""
    with exclusive(folder) as free:
        if free and (bad := set(bad)):
            (folder / "complete").unlink(missing_ok=True)
            good = [json.dumps(entry) + "\n" for c, entry in read_journal(folder).items() if c not in bad]
            write_text(folder / "chunks.jsonl", "".join(good))
        return free


def prune(cache: Path, max_gb: float, keep: Iterable[Path] = ()) -> list[StoreState]:
    """Delete the least recently used until the rest fits; never one in use or in keep. Returns those deleted."""
    found, kept, removed = stores(cache), set(keep), []
    total = sum(store.bytes for store in found)
    for store in found:
        if total <= max_gb * GB:
            break
        if store.folder not in kept and drop(store.folder):
            total -= store.bytes
            removed.append(store)
    return removed


def make_room(folder: Path, size: int, max_gb: float | None) -> None:
    """Prune to the budget for a store of so many bytes; EmoshareError where it alone is over budget or disk.

    What is in use by other runs stays, even over budget, with a warning.
    """
    missing = max(size - on_disk(folder), 0)
    if max_gb is not None:
        if size > max_gb * GB:
            raise EmoshareError(f"cache.max_gb={max_gb}: these frames alone take {size / GB:.3g} GB; raise it")
        for store in prune(folder.parent.parent, max_gb - missing / GB, keep=[folder]):
            log.info("pruned %s (%.3g GB) to stay within cache.max_gb=%g", store.folder, store.bytes / GB, max_gb)
        total = (sum(store.bytes for store in stores(folder.parent.parent)) + missing) / GB
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


def list_text(found: Iterable[StoreState]) -> str:
    """A table for people, one line per store."""
    titles = ("recipe", "backbone", "layer", "window", "stored", "engine", "clips", "GB", "last use", "state")
    rows = [
        (store.folder.name, *recipe_cells(store.recipe), f"{store.bytes / GB:.3f}", when(store), state(store))
        for store in found
    ]
    return console_table(titles, rows, left=len(titles)).rstrip("\n")


def conversions(cache: Path) -> str:
    """One line on the models that OpenVINO keeps; nothing where there are none."""
    models = [folder for folder in (Path(cache) / "openvino").glob("*") if re.fullmatch(KEY, folder.name)]
    size = sum(map(on_disk, models)) / GB
    return f"converted models: {len(models)}, {size:.3f} GB, in {cache}/openvino; delete any\n" if models else ""


def recipe_cells(recipe: dict[str, Any]) -> tuple[str, ...]:
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


def when(store: StoreState) -> str:
    return datetime.fromtimestamp(store.used).isoformat(" ", "minutes")


def state(store: StoreState) -> str:
    return ("complete" if store.complete else "partial") + (", in use" if store.busy else "")
