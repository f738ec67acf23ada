"""Databases of audformat: a folder with db.yaml, and the tables db.<table>.csv or .parquet that it names.

https://audeering.github.io/audformat/data-format.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from emoshare.core.files import check_regular
from emoshare.data.records import sheet_of
from emoshare.data.sheet import Sheet

ENDINGS = (".parquet", ".csv")  # of tables; .pkl is code, which is not read
Key = tuple[str, str, str]  # file, start and end as they are written; the last two empty for a whole file


def read_database(path: Path, read: Callable[[Path], Sheet]) -> Sheet:
    """All tables of a database as one: a row for each segment, or for each file where there are none.

    What tables of files tell holds for their segments, too. `split` is the type of the split that a table is of; what
    the labels of a scheme have beside them, as a speaker's gender, are columns. read: reads one of its tables.
    """
    content = read_header(path)
    splits = {name: (split or {}).get("type", name) for name, split in (content.get("splits") or {}).items()}
    rows: dict[Key, dict[str, str]] = {}
    for name, table in (content.get("tables") or {}).items():
        told = {"split": str(splits.get(table["split_id"], ""))} if table.get("split_id") else {}
        for key, cells in read_table(path.with_name(f"db.{name}"), read).items():
            rows.setdefault(key, {}).update(cells | told)
    known = scheme_labels(path, content, read)
    segments = {key for key in rows if key[1] or key[2]}
    records = []
    for key in [key for key in rows if key in segments or not segments]:
        cells = rows.get((key[0], "", ""), {}) | rows[key]
        index = dict(zip(("file", "start", "end"), key, strict=True)) if segments else {"file": key[0]}
        records.append(index | details(content, known, cells) | cells)
    return sheet_of(records, range(2, len(records) + 2), [])


def read_header(path: Path) -> dict[str, Any]:
    """The content of db.yaml. ValueError where it is none."""
    import yaml

    check_regular(path)
    try:
        content = yaml.safe_load(path.read_text("utf-8-sig"))
    except yaml.YAMLError as error:
        raise ValueError(f"no YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict) or not isinstance(content.get("tables"), dict):
        raise ValueError("names no tables; it must be the db.yaml of an audformat database")
    return content


def read_table(stem: Path, read: Callable[[Path], Sheet]) -> dict[Key, dict[str, str]]:
    """The rows of a table by their place. ValueError as `read_part`, and where it has no files."""
    sheet = read_part(stem, read)
    if "file" not in sheet.header:
        raise ValueError(f"{stem.name} has no column 'file'")
    rows: dict[Key, dict[str, str]] = {}
    for _, row in sheet.rows:
        cells = dict(zip(sheet.header, row, strict=True))
        rows[cells.pop("file"), cells.pop("start", ""), cells.pop("end", "")] = cells
    return rows


def read_part(stem: Path, read: Callable[[Path], Sheet]) -> Sheet:
    """A table of the database. ValueError where it is not there as .csv or .parquet."""
    paths = [path for ending in ENDINGS if (path := stem.with_name(stem.name + ending)).is_file()]
    if not paths:
        raise ValueError(f"its table {stem.name} is not there as .csv or .parquet; save it so with audformat")
    return read(paths[0])


def scheme_labels(path: Path, content: Mapping[str, Any], read: Callable[[Path], Sheet]) -> dict[str, dict[str, Any]]:
    """Scheme → its labels with what is beside each, in the header or in a table of its own (`misc_tables`)."""
    found: dict[str, dict[str, Any]] = {}
    for name, scheme in (content.get("schemes") or {}).items():
        labels = (scheme or {}).get("labels")
        if isinstance(labels, str) and labels in (content.get("misc_tables") or {}):
            sheet = read_part(path.with_name(f"db.{labels}"), read)
            rows = (dict(zip(sheet.header, row, strict=True)) for _, row in sheet.rows)
            labels = {row.pop(sheet.header[0]): row for row in rows}  # its index is the first column
        found[name] = {str(label): told for label, told in labels.items()} if isinstance(labels, dict) else {}
    return found


def details(
    content: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]], cells: Mapping[str, str]
) -> dict[str, str]:
    """The further columns of schemes' labels, for the labels of a row. known: as `scheme_labels` has it."""
    found: dict[str, str] = {}
    for table in content["tables"].values():
        for name, column in (table.get("columns") or {}).items():
            told = known.get(str((column or {}).get("scheme_id")), {}).get(cells.get(name, ""))
            found |= {key: str(value) for key, value in told.items()} if isinstance(told, dict) else {}
    return found
