"""The one way in which configs, recipes and places are hashed, and the fingerprint of a folder of files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from emoshare.core.errors import EmoshareError
from emoshare.core.files import write_json


def digest(value: Any, characters: int = 16) -> str:
    """The first hex characters of the SHA-256 of a JSON-able value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:characters]


def folder_fingerprint(folder: Path, memory: Path) -> str | None:
    """Hex SHA-256 over the names and contents of the files in a folder; hidden files and subfolders do not count.

    It is remembered in the folder `memory` for as long as every file keeps its size and modification time. Where the
    folder is gone, the answer is the last one that was remembered for its place, or None.
    """
    place = folder.expanduser().absolute()
    note = memory / f"{digest(str(place))}.json"
    known = _read(note)
    if not place.is_dir():
        return known.get("fingerprint")
    paths = sorted(path for path in place.iterdir() if path.is_file() and not path.name.startswith("."))
    state = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
    if known.get("files") != state:
        known = {"place": str(place), "files": state, "fingerprint": _hash_files(paths)}
        _remember(note, known)
    return known["fingerprint"]


def _hash_files(paths: list[Path]) -> str:
    whole = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                whole.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        except OSError as error:
            raise EmoshareError(f"{path}: cannot be read ({error.strerror}); make it readable") from None
    return whole.hexdigest()


def _read(note: Path) -> dict[str, Any]:
    try:
        content = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or damaged: worked out again
        return {}
    return content if isinstance(content, dict) else {}


def _remember(note: Path, content: dict[str, Any]) -> None:
    try:
        write_json(note, content)
    except OSError:  # a cache that cannot be written costs time at the next call, and nothing else
        return
