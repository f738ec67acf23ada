"""What is known of clips beside their labels: speaker, country, sex and whatever else a table tells of them.

N clips in corpus-wide order.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from emoshare.core.config import DataConfig
from emoshare.core.files import read_bytes
from emoshare.core.text import near
from emoshare.data.labels import HIDDEN, Finding, LabelTable

SPEAKER = "speaker"
Groups = dict[str, np.ndarray]  # column → (N,) text, "" where it is not known


def cluster_column(config: DataConfig) -> str | None:
    """The column whose clips belong together; None where there is none."""
    return config.cluster or (SPEAKER if SPEAKER in config.groups else None)


def known_cluster(config: DataConfig, groups: Mapping[str, np.ndarray]) -> str | None:
    """The column whose clips belong together, of those that are known: as the config names it, or the speaker."""
    names = [name for name in (cluster_column(config), SPEAKER) if name in groups]
    return next((str(name) for name in names if (groups[str(name)] != "").any()), None)


def cluster_numbers(cells: np.ndarray) -> np.ndarray:
    """(N,) text → (N,) the number of each clip's cluster, from 0; a clip whose cell is empty is one of its own."""
    own = np.array([f"\0{row}" for row in range(len(cells))])
    return np.unique(np.where(cells == "", own, cells), return_inverse=True)[1]


def wanted_columns(config: DataConfig) -> list[str]:
    """Every column that the config names, once."""
    folds = config.folds if config.folds and not config.folds.isdigit() else None
    return list(dict.fromkeys([*config.groups, *filter(None, [cluster_column(config), folds])]))


def read_groups(config: DataConfig, root: Path, tables: Mapping[str, LabelTable], found: list[Finding]) -> Groups:
    """The columns that the config names; what is wrong with them goes to `found`.

    A column stands in the table of `data.metadata`, or else in the label tables. A clip of train or devel without a
    value is an error; of test it is not, as its columns may be hidden.
    """
    beside = read_metadata(root, config.metadata, found) if config.metadata else None
    if beside is not None and beside.columns:
        found += find_without_row(beside, tables)
    groups: Groups = {}
    for column in wanted_columns(config):
        if beside and column in beside.columns:
            cells = [beside.value(column, file) for table in tables.values() for file in table.files]
        else:
            found += find_without_column(column, config, beside, tables)
            cells = [
                cell for table in tables.values() for cell in table.others.get(column, [""] * len(table.files))
            ]  # fmt: skip
        groups[column] = np.array(["" if cell in HIDDEN else cell for cell in cells], dtype=str)
        found += find_empty(column, groups[column], tables, beside)
    return groups


class Metadata:
    """A table of columns by file name."""

    def __init__(self, name: str, columns: Sequence[str], rows: dict[str, list[str]]) -> None:
        self.name, self.columns, self.rows = name, list(columns), rows

    def value(self, column: str, file: str) -> str:
        """A clip's cell; empty where it has no row."""
        row = self.rows.get(file)
        return row[self.columns.index(column)].strip() if row else ""


def read_metadata(root: Path, name: str, found: list[Finding]) -> Metadata:
    """The table beside the label tables: without columns where it cannot be read."""
    table = Metadata(name, [], {})
    try:
        rows = csv.reader(io.StringIO(read_bytes(root / name).decode("utf-8-sig"), newline=""))
        header = [column.strip() for column in next(rows, [])]
        for row in rows:
            if row and len(row) != len(header):
                found.append(Finding("row", name, rows.line_num, f"{len(row)} cells, the header has {len(header)}"))
            elif row and table.rows.setdefault(row[0].strip(), row[1:]) != row[1:]:
                message = f"{row[0].strip()} has another row with other values"
                found.append(Finding("two rows for a clip", name, rows.line_num, message))
        table.columns = header[1:]
    except OSError as error:
        message = f"data.metadata cannot be read: {error.strerror}; name a table in {root}, or set it to null"
        found.append(Finding("metadata", name, 0, message))
    except (ValueError, csv.Error) as error:
        found.append(Finding("metadata", name, 0, f"not a CSV table in UTF-8: {error}"))
    return table


def find_without_row(beside: Metadata, tables: Mapping[str, LabelTable]) -> Iterator[Finding]:
    """Clips of train and devel that the table beside does not name."""
    for part, table in tables.items():
        for file, line in zip(table.files, table.lines, strict=True):
            if part != "test" and file not in beside.rows:
                yield Finding("clip without metadata", table.name, line, f"{file} has no row in {beside.name}")


def find_without_column(
    column: str, config: DataConfig, beside: Metadata | None, tables: Mapping[str, LabelTable]
) -> Iterator[Finding]:
    """Tables of train and devel that lack a column, which no table beside them has either."""
    if beside is not None and not beside.columns:
        return  # it could not be read, which is said
    key = "data.groups" if column in config.groups else "data.folds" if column == config.folds else "data.cluster"
    for part, table in tables.items():
        if part != "test" and table.files and column not in table.others:
            names = [*table.others, *(beside.columns if beside else [])]
            remedy = f" or {beside.name}" if beside else "; name a table that has it as data.metadata"
            hint = near(column, names)
            yield Finding("group column", table.name, 1, f"no column '{column}' of {key} here{remedy}{hint}")


def find_empty(
    column: str, cells: np.ndarray, tables: Mapping[str, LabelTable], beside: Metadata | None
) -> Iterator[Finding]:
    """Clips of train and devel whose cell is empty, or says that it is hidden."""
    row = 0
    for part, table in tables.items():
        for file, line in zip(table.files, table.lines, strict=True):
            known = column in table.others or (beside and column in beside.columns and file in beside.rows)
            if part != "test" and known and not cells[row]:
                yield Finding("clip without a group", table.name, line, f"{file} has no {column}: fill the cell")
            row += 1


def find_shared_speakers(config: DataConfig, groups: Groups, tables: Mapping[str, LabelTable]) -> Iterator[Finding]:
    """One warning per speaker with clips in two partitions: scores on voices from training are too good.

    The column is the one whose clips belong together, or else `speaker` of the label tables where they have it.
    """
    column, row = cluster_column(config), 0
    first: dict[str, LabelTable] = {}
    for table in tables.values():
        name = column or next((other for other in table.others if other.lower() == SPEAKER), SPEAKER)
        cells = groups[column][row : row + len(table.files)].tolist() if column else table.others.get(name, [])
        row += len(table.files)
        for cell in dict.fromkeys(filter(None, cells)):
            other = first.setdefault(cell, table)
            if other is not table:
                message = f"{name.lower()} {cell} is in {other.name} too"
                kind = f"{name.lower()} in two partitions: scores there are too good; data.folds can keep them apart"
                yield Finding(kind, table.name, 0, message, error=False)
