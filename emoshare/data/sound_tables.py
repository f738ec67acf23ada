"""Parquet tables that hold the sound itself, as data sets of the hub do: a column of {bytes, path}.

Their clips are written into the folder of the clips once, as they are, and are files like any other from then on.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from emoshare.core.files import replacing_folder
from emoshare.data.audio import SUFFIXES
from emoshare.data.formats import mpeg

log = logging.getLogger(__name__)
BEGINS = {b"OggS": ".ogg", b"fLaC": ".flac", b"FORM": ".aiff"}
BATCH = 32  # clips in memory at a time


def sound_columns(schema: Any) -> list[str]:
    """The columns of a schema of pyarrow that hold sound."""
    import pyarrow as pa

    structs = [field for field in schema if pa.types.is_struct(field.type)]
    return [field.name for field in structs if {"bytes", "path"} <= {child.name for child in field.type}]


def clip_names(table: Path, paths: Sequence[str | None]) -> list[str]:
    """The names of a table's clips: a folder for the table, and the file's own name or the number of the row.

    Rows are called by their numbers where a name is missing, occurs twice or can be none of a file.
    """
    names = [PurePosixPath((path or "").replace("\\", "/")).name for path in paths]
    usable = all(name not in ("", "..") and name.isprintable() for name in names)
    if not usable or len({name.casefold() for name in names}) < len(names):
        names = [f"{row:06}" for row in range(len(paths))]
    return [f"{table.stem}/{name}" for name in names]


def unpack(tables: Sequence[Path], wav: Path) -> None:
    """Write the sound of tables into a folder, whole or not at all, where there is no such folder yet.

    Raises:
        OSError: the folder cannot be written.
    """
    paths = [path for path in tables if path.suffix.lower() == ".parquet"]
    if wav.exists() or not paths or find_spec("pyarrow") is None:
        return  # what is missing is said where it is read
    import pyarrow as pa
    from pyarrow import parquet

    try:
        sounds = {path: sound_columns(parquet.read_schema(path)) for path in paths}
    except (OSError, pa.ArrowException):
        return
    if not any(sounds.values()):
        return
    log.info("writing the sound of %d tables into %s, once", len(paths), wav)
    with replacing_folder(wav) as folder:
        for path, columns in sounds.items():
            if columns:
                write_clips(path, columns[0], folder)


def write_clips(table: Path, column: str, folder: Path) -> None:
    """Write each clip of a table; rows without bytes are left out."""
    from pyarrow import parquet

    file = parquet.ParquetFile(table)
    paths = [row["path"] if row else None for row in file.read([f"{column}.path"]).column(column).to_pylist()]
    names = iter(clip_names(table, paths))
    (folder / table.stem).mkdir()
    for batch in file.iter_batches(BATCH, columns=[column]):
        for row, name in zip(batch.column(0).to_pylist(), names, strict=False):
            if row and row["bytes"]:
                ending = "" if name.lower().endswith(SUFFIXES) else ending_of(row["bytes"])
                (folder / f"{name}{ending}").write_bytes(row["bytes"])


def ending_of(data: bytes) -> str:
    """The ending of a sound file, by how it begins."""
    if data[:4] in BEGINS:
        return BEGINS[data[:4]]
    return ".mp3" if mpeg.begins(data) else ".wav"
