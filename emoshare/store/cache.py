"""All frame stores of a cache: list, verify, repair, prune to a budget, refuse what the disk cannot hold.

Behind `emoshare cache`. What is pruned are requests, the least recently used first, with the segments that no other
request needs. What is in use is never touched, and a link is never followed. GB are 10⁹ bytes.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from emoshare.core.errors import FULL, EmoshareError
from emoshare.core.files import read_json
from emoshare.core.text import console_table
from emoshare.store.frames import Request
from emoshare.store.locks import alone, is_free
from emoshare.store.segments import Segment, claimed_keys, is_damaged, names, read_segment

log = logging.getLogger(__name__)

GB = 1e9
HASHES = "[0-9a-f]" * 16  # names of the folders, beside which lie their locks
REMEDIES = (
    "point paths.cache at a larger disk, make room with `emoshare cache prune --max-gb N`, "
    "take a smaller window.seconds or backbone, or extract.precision=float16"
)


@dataclass(frozen=True)
class Stored:
    """The clips of one request in a store, or those that no request needs."""

    folder: Path  # of the store
    request: str | None  # its name; None for what no request needs
    about: str
    recipe: dict[str, Any]  # empty where it cannot be read
    clips: int  # that are stored
    missing: int  # that are not
    bytes: int  # of the segments that hold these clips; several requests can share them
    used: float  # seconds since the epoch
    busy: bool  # somebody reads or computes it

    @property
    def state(self) -> str:
        known = "not requested" if self.request is None else "partial" if self.missing else "complete"
        return known + (", in use" if self.busy else "")


def folders(cache: Path) -> list[Path]:
    """The folders of all stores. A link in the cache is none."""
    return [folder for folder in (Path(cache) / "frames").glob(HASHES) if not folder.is_symlink()]


def stores(cache: Path) -> list[Stored]:
    """The stored clips of all requests, the least recently used first."""
    entries: list[Stored] = []
    for folder in folders(cache):
        with suppress(FileNotFoundError):  # another process prunes too
            entries += inspect(folder)
    return sorted(entries, key=lambda stored: stored.used)


def inspect(folder: Path) -> list[Stored]:
    """The stored clips of each request, and last those that none needs."""
    recipe: dict[str, Any] = {}
    with suppress(EmoshareError):  # not written yet, dropped by another process, or damaged
        recipe = read_json(folder / "recipe.json", f"delete {folder}")
    listed = list(segments(folder))
    sizes = [segment.path.stat().st_size for segment in listed]
    places = {key: number for number, segment in enumerate(listed) for key in segment.entries["key"].tolist()}
    entries, unrequested = [], set(range(len(listed)))
    for path in requests(folder):
        request, used, busy = Request.read(path), path.stat().st_mtime, not is_free(path)
        keys = set(request.keys)
        holders = [places[key] for key in keys if key in places]  # the segment of each clip
        size, missing = sum(sizes[number] for number in set(holders)), len(keys) - len(holders)
        entries.append(Stored(folder, path.name, request.about, recipe, len(holders), missing, size, used, busy))
        unrequested -= set(holders)
    if unrequested or not entries:
        clips, used = sum(len(listed[number].entries) for number in unrequested), folder.stat().st_mtime
        size = sum(sizes[number] for number in unrequested) or on_disk(folder)
        entries.append(Stored(folder, None, "–", recipe, clips, 0, size, used, busy=False))
    return entries


def requests(folder: Path) -> list[Path]:
    return [*(folder / "requests").glob(HASHES)]


def segments(folder: Path) -> Iterator[Segment]:
    """The segments of a store that are not damaged."""
    for name in names(folder):
        with suppress(EmoshareError, FileNotFoundError):
            yield read_segment(folder / "segments" / name)


def on_disk(path: Path) -> int:
    """Bytes that the files in a folder and below it take, but for those that other processes delete meanwhile."""
    blocks = 0
    for folder, _, files in os.walk(path):
        for name in files:
            with suppress(FileNotFoundError):
                blocks += Path(folder, name).lstat().st_blocks
    return blocks * 512


def verify(folder: Path) -> list[Path]:
    """The segments of a store whose bytes are not what was written. EmoshareError where its recipe cannot be read."""
    if (folder / "recipe.json").exists():  # else it is not written yet
        read_json(folder / "recipe.json", f"delete {folder}, and the next run computes its frames again")
    return [path for name in names(folder) if is_damaged(path := folder / "segments" / name)]


def repair(folder: Path, bad: Iterable[Path]) -> bool:
    """Delete damaged segments: the next run computes their clips again. False where the store is in use."""
    with alone(folder):
        if not all(map(is_free, requests(folder))):
            return False
        for path in bad:
            path.unlink(missing_ok=True)
        return True


def drop(folder: Path, unwanted: Collection[str] = ()) -> bool:
    """Delete requests of a store and the segments that no other needs; False where one is in use, or for a link.

    Without requests: what no request needs. Killed halfway, it leaves segments that no request needs.
    """
    if folder.is_symlink():
        return False
    with alone(folder):
        paths = [folder / "requests" / name for name in unwanted]
        if not all(map(is_free, paths)):
            return False
        for path in paths:
            path.unlink(missing_ok=True)
            path.with_suffix(".segments").unlink(missing_ok=True)
        needed = {key for path in requests(folder) for key in Request.read(path).keys}
        claims = set(claimed_keys(folder))  # which deletes what dead processes have left
        for segment in segments(folder):
            if needed.isdisjoint(segment.entries["key"].tolist()):
                segment.path.unlink(missing_ok=True)
        if not needed and not claims:
            shutil.rmtree(folder, ignore_errors=True)
    return True


def prune(cache: Path, max_gb: float | None) -> list[Stored]:
    """Delete what no request needs, then the least recently used until the rest fits.

    Never what is in use. max_gb: None for no budget. Returns what was deleted.
    """
    removed, used = [], total(cache)
    for stored in sorted(stores(cache), key=lambda stored: stored.request is not None):
        if stored.request is not None and (max_gb is None or used <= max_gb * GB):
            break
        before = on_disk(stored.folder)
        if drop(stored.folder, [stored.request] if stored.request else []):
            removed.append(stored)
            used -= before - on_disk(stored.folder)  # one folder is looked at again, not the whole cache
    return removed


def total(cache: Path) -> int:
    """Bytes that all stores take."""
    return sum(map(on_disk, folders(cache)))


def make_room(folder: Path, size: int, missing: int, max_gb: float | None) -> None:
    """Prune to the budget for the frames of a request that is in use.

    size, missing: bytes that they take in all, and of these what is not stored yet. Raises EmoshareError where they
    alone are over the budget or the disk. What is in use by other runs stays, even over budget, with a warning.
    """
    cache = folder.parent.parent
    if max_gb is not None:
        if size > max_gb * GB:
            raise EmoshareError(f"cache.max_gb={max_gb}: these frames alone take {size / GB:.3g} GB; raise it")
        for stored in prune(cache, max_gb - missing / GB):
            gone = f"{stored.folder} ({stored.about}, {stored.bytes / GB:.3g} GB)"
            log.info("pruned %s to stay within cache.max_gb=%g", gone, max_gb)
        used = (total(cache) + missing) / GB
        if used > max_gb:
            log.warning("cache.max_gb=%g is exceeded: %.3g GB with these frames, the rest is in use", max_gb, used)
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
        if error.errno not in FULL:
            raise
        free = shutil.disk_usage(folder.parent).free
        raise EmoshareError(
            f"{folder}: {error.strerror} while writing frames, {free / GB:.3g} GB free; {REMEDIES}. "
            "The next run goes on where this one stopped"
        ) from error


def list_text(entries: Iterable[Stored]) -> str:
    """A table for people, one line per request."""
    titles = ("recipe", "backbone", "layer", "stored", "computed in", "requested", "clips", "GB", "last use", "state")
    rows = []
    for stored in entries:
        cells, recipe = ["?"] * 4, stored.recipe
        if recipe:
            backbone = recipe["backbone"]
            cells = [str(backbone["name"]), str(backbone["layer"]), recipe["precision"], recipe["compute"]]
        used = datetime.fromtimestamp(stored.used).isoformat(" ", "minutes")
        about = [stored.about, str(stored.clips), f"{stored.bytes / GB:.3f}", used, stored.state]
        rows.append([stored.folder.name, *cells, *about])
    return console_table(titles, rows, left=len(titles)).rstrip("\n")
