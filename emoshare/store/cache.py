"""All frame stores of a cache: list, verify, repair, prune to a budget, refuse what the disk cannot hold.

Behind `emoshare cache`. What is pruned are requests, the least recently used first, with the segments that no other
request needs. What is in use is never touched, and a link is never followed. GB are 10⁹ bytes.
"""

from __future__ import annotations

import errno
import logging
import re
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from emoshare.core.errors import EmoshareError
from emoshare.core.files import read_json
from emoshare.core.text import console_table
from emoshare.store.frames import Request
from emoshare.store.locks import alone, is_free
from emoshare.store.segments import Segment, claimed, names, read_segment

log = logging.getLogger(__name__)

GB = 1e9
KEY = "[0-9a-f]{16}"  # names of the folders, beside which lie their locks
OLDER = "older format"
REMEDIES = (
    "point paths.cache at a larger disk, make room with `emoshare cache prune --max-gb N`, "
    "take a smaller window.seconds or backbone, or extract.precision=float16"
)


@dataclass(frozen=True)
class Stored:
    """What one request has in a store; of a store without requests, or of an older version, the whole."""

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
        if self.about == OLDER:
            return OLDER
        known = "not asked for" if self.request is None else "partial" if self.missing else "complete"
        return known + (", in use" if self.busy else "")


def folders(cache: Path) -> list[Path]:
    """Of all stores. A link in the cache is none."""
    found = (Path(cache) / "frames").glob("*")
    return [folder for folder in found if re.fullmatch(KEY, folder.name) and not folder.is_symlink()]


def is_older(folder: Path) -> bool:
    """Whether a version of emoshare filled it that kept one corpus and one window in a store."""
    return any((folder / name).exists() for name in ("frames.bin", "chunks.jsonl", "lengths.npy"))


def stores(cache: Path) -> list[Stored]:
    """What all requests have stored, the least recently used first."""
    found: list[Stored] = []
    for folder in folders(cache):
        with suppress(FileNotFoundError):  # another process prunes too
            found += [older(folder)] if is_older(folder) else inspect(folder)
    return sorted(found, key=lambda stored: stored.used)


def older(folder: Path) -> Stored:
    used = folder / "used"
    time = (used if used.exists() else folder).stat().st_mtime
    return Stored(folder, None, OLDER, read_recipe(folder), 0, 0, on_disk(folder), time, not is_free(f"{folder}.use"))


def inspect(folder: Path) -> list[Stored]:
    """What each request has stored, and last what none asks for."""
    recipe, sizes = read_recipe(folder), []
    places: dict[bytes, int] = {}  # key → number of its segment
    for number, segment in enumerate(segments(folder)):
        sizes.append(segment.path.stat().st_size)
        places.update(dict.fromkeys(segment.keys, number))
    found, asked = [], set()
    for path in requests(folder):
        request, used = Request.read(path), path.stat().st_mtime
        keys = set(request.keys)
        there = [places[key] for key in keys if key in places]
        held, missing = set(there), len(keys) - len(there)
        size, busy = sum(sizes[number] for number in held), not is_free(path)
        found.append(Stored(folder, path.name, request.about, recipe, len(there), missing, size, used, busy))
        asked |= held
    rest = set(range(len(sizes))) - asked
    if rest or not found:
        clips = sum(number in rest for number in places.values())
        size, used = sum(sizes[number] for number in rest), folder.stat().st_mtime
        found.append(Stored(folder, None, "–", recipe, clips, 0, size, used, False))
    return found


def requests(folder: Path) -> list[Path]:
    return [path for path in (folder / "requests").glob("*") if re.fullmatch(KEY, path.name)]


def read_recipe(folder: Path) -> dict[str, Any]:
    with suppress(EmoshareError):  # not written yet, dropped by another process, or damaged
        return read_json(folder / "recipe.json", f"delete {folder}")
    return {}


def segments(folder: Path) -> Iterator[Segment]:
    """Those of a store that are not damaged."""
    for name in names(folder):
        with suppress(EmoshareError, FileNotFoundError):
            yield read_segment(folder / "segments" / name)


def on_disk(path: Path) -> int:
    """Bytes that a folder and all below it take; a link counts as itself."""
    return sum(file.lstat().st_blocks * 512 for file in path.rglob("*") if file.is_symlink() or file.is_file())


def verify(folder: Path) -> list[Path]:
    """The segments of a store whose bytes are not what was written."""
    bad = []
    for name in names(folder):
        path = folder / "segments" / name
        try:
            whole = read_segment(path).whole()
        except EmoshareError:
            whole = False
        except FileNotFoundError:
            continue
        bad += [] if whole else [path]
    return bad


def repair(folder: Path, bad: Iterable[Path]) -> bool:
    """Delete damaged segments: the next run computes their clips again. False where the store is in use."""
    with alone(folder):
        if in_use(folder):
            return False
        for path in bad:
            path.unlink(missing_ok=True)
        return True


def in_use(folder: Path) -> bool:
    return not all(map(is_free, requests(folder)))


def drop(folder: Path, unwanted: Collection[str] = ()) -> bool:
    """Delete requests of a store and the segments that no other needs; False where one is in use, or for a link.

    Without requests: what no request needs, and a store of an older version whole. Killed halfway, it leaves segments
    that no request needs.
    """
    if folder.is_symlink():
        return False
    if is_older(folder):
        free = is_free(f"{folder}.use")
        if free:
            shutil.rmtree(folder, ignore_errors=True)
        return free
    with alone(folder):
        paths = [folder / "requests" / name for name in unwanted]
        if not all(map(is_free, paths)):
            return False
        for path in paths:
            path.unlink(missing_ok=True)
            path.with_suffix(".segments").unlink(missing_ok=True)
        needed = {key for path in requests(folder) for key in Request.read(path).keys}
        claims = set(claimed(folder))  # which deletes what dead processes have left
        for segment in segments(folder):
            if needed.isdisjoint(segment.keys):
                segment.path.unlink(missing_ok=True)
        if not needed and not claims:
            shutil.rmtree(folder, ignore_errors=True)
    return True


def prune(cache: Path, max_gb: float | None) -> list[Stored]:
    """Delete what no request needs and what is of an older version, then the least recently used until the rest fits.

    Never what is in use. max_gb: None for no budget. Returns what was deleted.
    """
    removed, used = [], total(cache)
    for stored in sorted(stores(cache), key=lambda stored: stored.request is not None):
        if stored.request is not None and (max_gb is None or used <= max_gb * GB):
            break
        before = on_disk(stored.folder)
        if drop(stored.folder, [stored.request] if stored.request else []):
            used -= before - on_disk(stored.folder)
            removed.append(stored)
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
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        free = shutil.disk_usage(folder.parent).free
        raise EmoshareError(
            f"{folder}: {error.strerror} while writing frames, {free / GB:.3g} GB free; {REMEDIES}. "
            "The next run goes on where this one stopped"
        ) from error


def list_text(found: Iterable[Stored]) -> str:
    """A table for people, one line per request."""
    titles = ("recipe", "backbone", "layer", "stored", "engine", "asked for", "clips", "GB", "last use", "state")
    rows = [
        (
            stored.folder.name, *recipe_cells(stored.recipe), stored.about, str(stored.clips),
            f"{stored.bytes / GB:.3f}", datetime.fromtimestamp(stored.used).isoformat(" ", "minutes"), stored.state,
        )
        for stored in found
    ]  # fmt: skip
    return console_table(titles, rows, left=len(titles)).rstrip("\n")


def recipe_cells(recipe: dict[str, Any]) -> tuple[str, ...]:
    if not recipe:
        return ("?",) * 4
    backbone = recipe["backbone"]
    engine = f"{recipe['engine']} {recipe['compute']}"
    return str(backbone["name"]), str(backbone["layer"]), recipe["precision"], engine


def conversions(cache: Path) -> str:
    """One line on the models that OpenVINO keeps; nothing where there are none."""
    models = [folder for folder in (Path(cache) / "openvino").glob("*") if re.fullmatch(KEY, folder.name)]
    size = sum(map(on_disk, models)) / GB
    return f"converted models: {len(models)}, {size:.3f} GB, in {cache}/openvino; delete any\n" if models else ""
