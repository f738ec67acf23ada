"""A table as rows of text, whatever file it was read from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sheet:
    """A table's header, without spaces around the names, and its rows.

    Attributes:
        header: names of the columns; some may be empty.
        rows: line number and cells of each row, as many as the header has.
        blank: lines of rows without a single filled cell; those at the end that have no separator either are left out.
        ragged: line number and number of cells of the rows that have too few or too many.
        separator: of the cells; empty where the file is no text.
        other_sheets: what messages on missing columns say of the workbook's other sheets.
    """

    header: list[str]
    rows: list[tuple[int, list[str]]]
    blank: list[int]
    ragged: list[tuple[int, int]]
    separator: str
    other_sheets: str = ""
