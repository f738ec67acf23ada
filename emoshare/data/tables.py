"""Tables of text as spreadsheets and other programs save them: any usual separator, encoding and line end."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from emoshare.core.files import read_bytes
from emoshare.data.databases import read_database
from emoshare.data.records import read_excel, read_jsonl, read_parquet
from emoshare.data.sheet import Sheet

SEPARATORS = (",", ";", "\t", "|")
FILENAME = "filename"
BOMS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}  # a spreadsheet's "Unicode text"


def table_paths(root: Path, name: str) -> list[Path]:
    """The files of a table: `data/train-*.parquet` is several, in the order of their names."""
    name = split_sheet(name)[0]
    if name == "files":  # of the folder of clips: no table
        return []
    if any(sign in name for sign in "*?"):
        return sorted(root.glob(name)) or [root / name]
    return [root / name]


def split_sheet(name: str) -> tuple[str, str]:
    """The file and the sheet of a table in a workbook, `book.xlsx#Training`; the sheet is empty where none is named."""
    file, sign, sheet = name.rpartition(".xlsx#")
    return (f"{file}.xlsx", sheet) if sign else (name, "")


def read_table_of(root: Path, name: str) -> Sheet:
    """A table of the config, whose file may be several, or one sheet of a workbook. Raises as `read_sheet`."""
    paths, (_, sheet) = table_paths(root, name), split_sheet(name)
    return read_excel(paths[0], sheet) if sheet else read_sheets(paths)


def read_sheets(paths: Sequence[Path]) -> Sheet:
    """Tables with the same columns, one below the other. OSError, ValueError and csv.Error as `read_sheet`."""
    first, *others = [read_sheet(path) for path in paths]
    for path, sheet in zip(paths[1:], others, strict=True):
        if sheet.header != first.header:
            raise ValueError(f"{path.name} has other columns than {paths[0].name}")
        at = max([line for line, _ in first.rows], default=1)
        first.rows.extend((at + number, row) for number, (_, row) in enumerate(sheet.rows, 1))
    return first


def reader(path: Path) -> Callable[[Path], Sheet] | None:
    """The function that reads a table of this name; None for text."""
    if path.name == "db.yaml":
        return partial(read_database, read=read_sheet)
    lines = dict.fromkeys((".jsonl", ".ndjson", ".json"), read_jsonl)
    return (lines | {".parquet": read_parquet, ".xlsx": read_excel}).get(path.suffix.lower())


def read_sheet(path: Path) -> Sheet:
    """Read a table.

    Raises:
        OSError: it cannot be read.
        ValueError, csv.Error: it is no table of text in UTF-8 or UTF-16, and none that `reader` knows.
    """
    if read := reader(path):
        return read(path)
    content = read_bytes(path)
    text = content.decode(BOMS.get(content[:2], "utf-8-sig")).rstrip("\r\n")
    if "\0" in text[:2]:
        raise ValueError("it holds NUL bytes; save it as CSV UTF-8")
    return read_text(text, find_separator(text))


def read_text(text: str, separator: str) -> Sheet:
    """A table of text. Where quotes are parts of words and so make one row of several, they enclose nothing.

    Raises:
        csv.Error: a quote is not closed.
    """
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    sheet, joined = split_rows(text, separator)
    if not joined and not sheet.ragged:
        return sheet
    with suppress(csv.Error):  # of strict: text behind a closing quote, or none that closes
        split_rows(text, separator, strict=True)
        if separator != "\t" or not any(line.count(separator) + 1 == len(sheet.header) for line in joined):
            return sheet
    bare = split_rows(text, separator, quoting=csv.QUOTE_NONE)[0]
    if bare.ragged and joined:
        message = "a quote is not closed, or one inside of a quoted cell is not doubled, so that rows become one"
        raise csv.Error(f"{message}; correct it near line {bare.ragged[0][0]}")
    return sheet if bare.ragged else bare


def split_rows(text: str, separator: str, **form: Any) -> tuple[Sheet, list[str]]:
    """The table, and the lines of rows that have several, as quotes allow. form: as for `csv.reader`."""
    lines = list(io.StringIO(text, newline=None))
    rows, last, joined = csv.reader(lines, delimiter=separator, **form), 0, list[str]()
    sheet = Sheet([], [], [], [], separator)
    for row in rows:
        joined += lines[last : rows.line_num] if rows.line_num > last + 1 else []
        last = rows.line_num
        if not any(map(str.strip, row)):
            sheet.blank.append(rows.line_num)
        elif not sheet.header:
            if not (rows.line_num == 1 and re.fullmatch(r"sep=.?", "".join(row).strip())):
                sheet.header.extend(cell.strip() for cell in row)
        elif (cells := fit_row(row, sheet.header)) is None:
            sheet.ragged.append((rows.line_num, len(row)))
        else:
            sheet.rows.append((rows.line_num, cells))
    return sheet, joined


def find_separator(text: str) -> str:
    """The character that divides the header into `filename` and others, or into the most columns.

    The line `sep=;`, which a spreadsheet writes and reads before the header, is believed.
    """
    lines = (line.strip() for line in io.StringIO(text, newline=None))
    header = next((line for line in lines if line.strip("".join(SEPARATORS) + ' "')), "")
    if told := re.fullmatch(r'"?sep=(.)"?', header):
        return told[1]

    def fit(separator: str) -> tuple[bool, int]:
        cells = next(csv.reader([header], delimiter=separator), [])
        return bool(find_columns(cells, FILENAME)), len(cells)

    return max(SEPARATORS, key=fit)


def fit_row(row: list[str], header: list[str]) -> list[str] | None:
    """A row with as many cells as the header; None where more than empty cells and unnamed columns are at stake."""
    width = len(header)
    if len(row) >= width:
        return None if any(map(str.strip, row[width:])) else row[:width]
    return None if any(header[len(row) :]) else row + [""] * (width - len(row))


def find_columns(header: Sequence[str], name: str) -> list[int]:
    """Indices of the columns of a name; of those that differ from it in case and spaces, where there is no other."""
    exact = [at for at, cell in enumerate(header) if cell.strip() == name]
    return exact or [at for at, cell in enumerate(header) if plain(cell) == plain(name)]


def plain(name: str) -> str:
    """A name without the differences that do not count: case, and how many spaces."""
    return " ".join(name.split()).casefold()


def decimal_points(rows: list[list[str]]) -> list[list[str]]:
    """Cells with points in place of decimal commas; as they are where the table has both signs."""
    if not any("," in cell for row in rows for cell in row) or any("." in cell for row in rows for cell in row):
        return rows
    return [[re.sub(r"^(\s*[+-]?\d*),(\d+\s*%?\s*)$", r"\1.\2", cell) for cell in row] for row in rows]
