"""Tables that are no text of columns: JSON lines, parquet and Excel, as sheets of text like any other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from emoshare.core.files import check_regular
from emoshare.data.sheet import Sheet
from emoshare.data.sound_tables import clip_names, sound_columns

EXTRAS = {"pyarrow": "parquet", "openpyxl": "excel"}  # package → the extra that brings it
OBJECTS = "save it as JSON lines, an object a line"


def read_jsonl(path: Path) -> Sheet:
    """An object a line. ValueError names the line that is none."""
    check_regular(path)
    records, lines, blank = [], [], []
    for line, text in enumerate(path.read_text(encoding="utf-8-sig").rstrip("\n").split("\n"), 1):
        if not text.strip():
            blank.append(line)
            continue
        try:
            record = json.loads(text)
        except ValueError as error:
            raise ValueError(f"line {line} is no JSON ({error}); {OBJECTS}") from None
        if not isinstance(record, dict):
            raise ValueError(f"line {line} is no JSON object; {OBJECTS}")
        records.append(dict(flat(record)))
        lines.append(line)
    return sheet_of(records, lines, blank)


def read_parquet(path: Path) -> Sheet:
    """The columns but for bytes; a row's line is its number from 2 on, as if a header were the first.

    Where a column holds the sound, `filename` is what `sound_tables` calls it; numbers of classes become their names.
    """
    need("pyarrow", path)
    import pyarrow as pa
    from pyarrow import parquet

    check_regular(path)
    try:
        file = parquet.ParquetFile(path)
        schema = file.schema_arrow
        sounds = sound_columns(schema)
        wanted = [field.name for field in schema if not is_bytes(field.type) and field.name not in sounds]
        table = file.read([*wanted, *(f"{name}.path" for name in sounds)])
    except pa.ArrowException as error:
        raise ValueError(str(error).splitlines()[0]) from None
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()  # {emotion: {joy: …}} is the column emotion.joy
    rows = table.select([field.name for field in table.schema if not is_bytes(field.type)]).to_pylist()
    for name, classes in class_names(schema.metadata or {}).items():
        for row in rows:
            row[name] = names_of(row.get(name), classes)
    if sounds and "filename" not in wanted:
        for row, name in zip(rows, clip_names(path, [row[f"{sounds[0]}.path"] for row in rows]), strict=True):
            row["filename"] = name
    return sheet_of(rows, range(2, len(rows) + 2), [])


def is_bytes(kind: Any) -> bool:
    """Whether a type of pyarrow is that of bytes."""
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Column → the names of its numbers, as data sets of the hub note them beside a table."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        kinds = {name: kind.get("feature", kind) for name, kind in features.items()}  # of a list: of what is in it
        return {name: list(kind["names"]) for name, kind in kinds.items() if kind.get("_type") == "ClassLabel"}
    except (ValueError, AttributeError, KeyError, TypeError):
        return {}


def names_of(value: Any, classes: Sequence[str]) -> Any:
    """The name of a number of a class, or those of a list of such numbers; None for none."""
    if isinstance(value, list):
        return [names_of(number, classes) for number in value]
    return classes[value] if isinstance(value, int) and value >= 0 else None


def read_excel(path: Path, name: str = "") -> Sheet:
    """A sheet of a workbook, by default the first; its first filled row is the header."""
    need("openpyxl", path)
    import openpyxl

    check_regular(path)
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # zipfile's, xml's and its own
        raise ValueError(str(error) or type(error).__name__) from None
    if name and name not in book.sheetnames:
        raise ValueError(f"no sheet '{name}'; there are {', '.join(book.sheetnames)}")
    page = book[name] if name else book.worksheets[0]
    others = ", ".join(title for title in book.sheetnames if title != page.title)
    sheet = Sheet([], [], [], [], "", f"; other sheets, as book.xlsx#NAME, are {others}" if others else "")
    for line, row in enumerate(page.iter_rows(values_only=True), 1):
        cells = [text_of(cell).strip() for cell in row]
        if not any(cells):
            sheet.blank.append(line)
        elif not sheet.header:
            sheet.header.extend(cells)
        else:
            cells += [""] * (len(sheet.header) - len(cells))
            sheet.rows.append((line, cells[: len(sheet.header)]))
    book.close()
    return sheet


def need(package: str, path: Path) -> None:
    """Raise ValueError where the package that reads a file is not installed."""
    if find_spec(package) is None:
        install = f'pip install "emoshare[{EXTRAS[package]}]"'
        raise ValueError(f"{package} is not installed: run `{install}`, or save {path.name} as CSV")


def flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested objects by dotted names."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def sheet_of(records: list[dict[str, Any]], lines: Iterable[int], blank: list[int]) -> Sheet:
    """Records as a sheet, whose columns are all of their keys; those without any value are blank, too."""
    header = list(dict.fromkeys(name for record in records for name in record))
    rows = [
        (line, [text_of(record.get(name)) for name in header]) for line, record in zip(lines, records, strict=True)
    ]  # fmt: skip
    empty = [line for line, cells in rows if not any(cells)]
    return Sheet(header, [row for row in rows if any(row[1])], sorted([*blank, *empty]), [], "")


def text_of(value: Any) -> str:
    """A cell as text: nothing for None, seconds for a duration, `a;b` for a list."""
    if value is None:
        return ""
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.9g}"
    return ";".join(map(text_of, value)) if isinstance(value, list) else str(value)
