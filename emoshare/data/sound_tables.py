"""Parquet tables that hold the sound itself, as data sets of the hub do: a column of {bytes, path}.

Their clips are written into the folder of the clips once, as they are, and are files like any other from then on.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from emoshare.core.errors import EmoshareError
from emoshare.core.files import replacing_folder
from emoshare.data.audio import SUFFIXES
from emoshare.data.formats import mpeg

log = logging.getLogger(__name__)
BEGINS = {b"OggS": ".ogg", b"fLaC": ".flac", b"FORM": ".aiff"}
BATCH = 32  # clips in memory at a time
SOURCE = ".table"  # beside a table's clips: how many bytes it had


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
    """Write the sound of tables into a folder, each into one below it, whole or not at all.

    A folder that is there gets the tables that it lacks where it has others of them; else it is left alone.

    Raises:
        OSError: the folder cannot be written.
        EmoshareError: two tables have one name.
    """
    paths = [path for path in tables if path.suffix.lower() == ".parquet" and path.is_file()]
    for path in paths:
        source = wav / path.stem / SOURCE
        if source.is_file() and source.read_text() != str(path.stat().st_size):
            raise EmoshareError(f"{source.parent}: has the sound of another table than {path}; name another data.wav")
    missing = [path for path in paths if not (wav / path.stem).exists()]
    foreign = wav.exists() and len(missing) == len(paths)
    if not missing or foreign or find_spec("pyarrow") is None:
        return  # what is missing is said where it is read
    import pyarrow as pa
    from pyarrow import parquet

    try:
        sounds = {path: columns[0] for path in missing if (columns := sound_columns(parquet.read_schema(path)))}
    except (OSError, pa.ArrowException):
        return
    first: dict[str, Path] = {}
    for path in sounds:
        if first.setdefault(path.stem, path) != path:
            names = f"{first[path.stem]} and {path}"
            raise EmoshareError(f"{names}: two tables of one name, whose clips need a folder each; rename one")
    if sounds:
        log.info("writing the sound of %d tables into %s, once", len(sounds), wav)
    if sounds and not wav.exists():
        with replacing_folder(wav) as folder:
            for path, column in sounds.items():
                (folder / path.stem).mkdir()
                write_clips(path, column, folder / path.stem)
        return
    for path, column in sounds.items():
        with replacing_folder(wav / path.stem) as folder:
            write_clips(path, column, folder)


def write_clips(table: Path, column: str, folder: Path) -> None:
    """Write each clip of a table; rows without bytes are left out."""
    (folder / SOURCE).write_text(str(table.stat().st_size))
    from pyarrow import parquet

    file = parquet.ParquetFile(table)
    paths = [row["path"] if row else None for row in file.read([f"{column}.path"]).column(column).to_pylist()]
    names = (PurePosixPath(name).name for name in clip_names(table, paths))
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
