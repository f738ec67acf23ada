"""Tables of text as spreadsheets and other programs save them: any usual separator, encoding and line end."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from emoshare.core.files import read_bytes
from emoshare.data.records import reader
from emoshare.data.sheet import Sheet

SEPARATORS = (",", ";", "\t", "|")
FILENAME = "filename"
BOMS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}  # a spreadsheet's "Unicode text"


def read_sheet(path: Path) -> Sheet:
    """Read a table.

    Raises:
        OSError: it cannot be read.
        ValueError, csv.Error: it is no table of text in UTF-8 or UTF-16, and none that `records` reads.
    """
    if read := reader(path):
        return read(path)
    content = read_bytes(path)
    text = content.decode(BOMS.get(content[:2], "utf-8-sig")).rstrip("\r\n")
    if "\0" in text[:2]:
        raise ValueError("it holds NUL bytes; save it as CSV UTF-8")
    separator = find_separator(text)
    rows = csv.reader(io.StringIO(text, newline=None), delimiter=separator)
    sheet = Sheet([], [], [], [], separator)
    for row in rows:
        if not any(map(str.strip, row)):
            sheet.blank.append(rows.line_num)
        elif not sheet.header:
            if not (rows.line_num == 1 and re.fullmatch(r"sep=.?", "".join(row).strip())):
                sheet.header.extend(cell.strip() for cell in row)
        elif (cells := fit_row(row, sheet.header)) is None:
            sheet.ragged.append((rows.line_num, len(row)))
        else:
            sheet.rows.append((rows.line_num, cells))
    return sheet


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
    return [[re.sub(r"^(\s*[+-]?\d*),(\d+\s*)$", r"\1.\2", cell) for cell in row] for row in rows]
