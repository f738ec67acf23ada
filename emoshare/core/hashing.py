"""Hashes of configs, recipes and places, and checksums of files, which are verified when these are read again.

A disk can give back other bytes than were written. A JSON file that matters is *sealed*: it holds the digest of its own
content, and that of each file beside it which is read for it, as the weights of a run.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from emoshare.core.errors import EmoshareError
from emoshare.core.files import finite, read_json, write_json

SEAL = "checksum"  # the key of a sealed file's digest
DIGESTS = "digests.json"  # of the files in a folder that has no other sealed file


def digest(value: Any, characters: int = 16) -> str:
    """The first hex characters of the SHA-256 of a JSON-able value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:characters]


def seal(content: dict[str, Any]) -> str:
    """The digest of what a JSON file holds beside its seal, whichever program has written it: 1.0 may be 1."""
    text = json.dumps(finite({key: value for key, value in content.items() if key != SEAL}))
    return digest(json.loads(text, parse_int=float))


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Write JSON as `write_json` does, with a seal."""
    write_json(path, content | {SEAL: seal(content)})


def check_seal(content: dict[str, Any], path: Path, remedy: str) -> None:
    """Raise EmoshareError where a JSON file does not match its seal; one without a seal passes."""
    if SEAL in content and content[SEAL] != seal(content):
        raise damage_error(path, remedy)


def read_sealed(path: Path, remedy: str) -> dict[str, Any]:
    """Read JSON as `read_json` does. EmoshareError, too, where the content is not what was written."""
    content = read_json(path, remedy)
    check_seal(content, path, remedy)
    return {key: value for key, value in content.items() if key != SEAL}


def damage_error(path: Path, remedy: str) -> EmoshareError:
    """The error for a file whose bytes are not what was written."""
    return EmoshareError(f"{path}: not readable (damaged, or changed: its content is not what was written); {remedy}")


def file_digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Name below a folder → hex SHA-256 of the file's bytes; in a table either kind of line ending is the same."""
    return {name: _file_digest(folder / name) for name in sorted(set(names))}


def check_file(path: Path, known: str | None, remedy: str) -> None:
    """Raise EmoshareError where a file's bytes have not the digest `known`; None: it was never noted."""
    if known is not None and path.is_file() and _file_digest(path) != known:
        raise damage_error(path, remedy)


def write_digests(folder: Path) -> None:
    """Note the digests of all files in a folder, in a sealed file beside them."""
    write_sealed(folder / DIGESTS, file_digests(folder, (path.name for path in folder.iterdir() if path.is_file())))


def check_digests(folder: Path, remedy: str) -> None:
    """Raise EmoshareError where a file is not what `write_digests` has noted; nothing where it has noted nothing."""
    if (folder / DIGESTS).is_file():
        for name, known in read_sealed(folder / DIGESTS, remedy).items():
            check_file(folder / name, known, remedy)


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        if path.suffix == ".csv":  # git and editors change line endings
            return hashlib.sha256(file.read().replace(b"\r\n", b"\n")).hexdigest()
        return hashlib.file_digest(file, "sha256").hexdigest()


def path_fingerprint(path: Path, memory: Path) -> str | None:
    """The `folder_fingerprint` of a folder, or of a single file; None where there is neither."""
    path = path.expanduser()
    return files_fingerprint(path, [path], memory) if path.is_file() else folder_fingerprint(path, memory)


def folder_fingerprint(folder: Path, memory: Path) -> str | None:
    """Hex SHA-256 over the names and contents of the files in a folder; hidden files and subfolders do not count.

    It is remembered in the folder `memory` for as long as every file keeps its size and modification time. Where the
    folder is gone, the answer is the last one that was remembered for its place, or None.
    """
    place = folder.expanduser().absolute()
    if not place.is_dir():
        return _recall(memory / f"{digest(str(place))}.json").get("fingerprint")
    paths = sorted(path for path in place.iterdir() if path.is_file() and not path.name.startswith("."))
    return files_fingerprint(place, paths, memory)


def files_fingerprint(place: Path, paths: list[Path], memory: Path) -> str:
    """The fingerprint of files below a place, by their names there; of a place that is a file, by the ending alone.

    It is remembered as that of `folder_fingerprint`.
    """
    names = [str(path).removeprefix(f"{place}{os.sep}") if path != place else path.suffix for path in paths]
    place = place.absolute()
    note = memory / f"{digest(str(place))}.json"
    known = _recall(note)
    stats = [path.stat() for path in paths]
    state = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in zip(names, stats, strict=True)]
    if known.get("files") != state:
        known = {"place": str(place), "files": state, "fingerprint": _hash_files(names, paths)}
        _remember(note, known)
    return str(known["fingerprint"])


def _hash_files(names: list[str], paths: list[Path]) -> str:
    whole = hashlib.sha256()
    for name, path in zip(names, paths, strict=True):
        try:
            whole.update(f"{name} {_file_digest(path)}\n".encode())
        except OSError as error:
            raise EmoshareError(f"{path}: cannot be read ({error.strerror}); make it readable") from None
    return whole.hexdigest()


def _recall(note: Path) -> dict[str, Any]:
    try:
        return read_sealed(note, "delete it")
    except EmoshareError:  # not there, or damaged: worked out again
        return {}


def _remember(note: Path, content: dict[str, Any]) -> None:
    try:
        write_sealed(note, content)
    except OSError:  # a cache that cannot be written costs time at the next call, and nothing else
        return
