"""Groups of clips beside their labels: speaker, country, sex and whatever else a table tells of them.

N clips in corpus-wide order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from emoshare.core.config import DataConfig
from emoshare.core.text import near
from emoshare.data.labels import TOO_GOOD, Finding, LabelTable, gather, open_sheet
from emoshare.data.names import Files
from emoshare.data.spans import recording_of
from emoshare.data.tables import FILENAME, find_columns, plain

SPEAKER = "speaker"
Groups = dict[str, np.ndarray]  # column → (N,) text, "" where it is not known


def cluster_column(config: DataConfig) -> str | None:
    """The column whose clips belong together; None where there is none."""
    return config.cluster or speaker_column(config.groups)


def speaker_column(names: Iterable[str]) -> str | None:
    """The column that says who speaks, however it is capitalised; None where there is none."""
    return next((name for name in names if plain(name) == SPEAKER), None)


def known_cluster(config: DataConfig, groups: Mapping[str, np.ndarray]) -> str | None:
    """The column whose clips belong together, of those that are known: as the config names it, or the speaker."""
    names = [name for name in (cluster_column(config), SPEAKER) if name in groups]
    return next((str(name) for name in names if (groups[str(name)] != "").any()), None)


def cluster_numbers(cells: np.ndarray) -> np.ndarray:
    """(N,) text → (N,) the number of each clip's cluster, from 0; a clip whose cell is empty is one of its own."""
    own = np.array([f"\0{row}" for row in range(len(cells))])
    return np.unique(np.where(cells == "", own, cells), return_inverse=True)[1]


def group_columns(config: DataConfig) -> list[str]:
    """Every column that the config names, once."""
    folds = config.folds if config.folds and not config.folds.isdigit() else None
    return list(dict.fromkeys([*config.groups, *filter(None, [cluster_column(config), folds])]))


def read_groups(config: DataConfig, root: Path, tables: Mapping[str, LabelTable], findings: list[Finding]) -> Groups:
    """The columns that the config names; what is wrong or odd with them goes to `findings`.

    A column is in the table of `data.metadata`, or else in the label tables. A cell that is empty, or one of
    `data.unknown`, tells nothing of its clip.
    """
    beside = read_metadata(root, config.metadata, tables, findings) if config.metadata else None
    if beside is not None and beside.columns:
        findings += find_without_row(beside, tables)
    groups: Groups = {}
    for column in group_columns(config):
        if beside and beside.has(column):
            cells = [beside.value(column, file) for table in tables.values() for file in table.files]
        else:
            findings += dict.fromkeys(find_without_column(column, config, beside, tables))  # tables may be one
            cells = [
                cell for table in tables.values() for cell in table.column(column) or [""] * len(table.files)
            ]  # fmt: skip
        groups[column] = known_cells(cells, config)
        findings += find_respelled(column, cells, groups[column], tables)
        findings += find_unknown(column, config, cells, groups[column], tables, beside)
    return groups


def known_cells(cells: Sequence[str], config: DataConfig) -> np.ndarray:
    """(N,) text, empty where a cell tells nothing, and of one value in the spelling that comes first."""
    unknown, first = set(map(plain, config.unknown)), dict[str, str]()
    return np.array(
        ["" if plain(cell) in unknown else first.setdefault(spelling_key(cell), cell) for cell in cells], dtype=str
    )


def spelling_key(cell: str) -> str:
    """A value without what programs change in it: case, spaces, and the zeros of numbers (01 becomes 1, or 1.0)."""
    number = re.fullmatch(r"0*(\d+)(\.0*)?", plain(cell))
    return number[1] if number else plain(cell)


def find_respelled(
    column: str, cells: Sequence[str], known: np.ndarray, tables: Mapping[str, LabelTable]
) -> Iterator[Finding]:
    """One oddity for the clips of each table whose value has another spelling further up."""
    row = 0
    for table in tables.values():
        here = range(row, row := row + len(table.files))
        other = [
            (table.lines[n - here.start], f"'{cells[n]}' is {known[n]}") for n in here if known[n] not in ("", cells[n])
        ]
        yield from gather(f"{column} in several spellings: taken for one", table.name, other, error=False)


class Metadata:
    """A table of columns by file name."""

    def __init__(self, name: str, columns: Sequence[str], rows: dict[str, list[str]]) -> None:
        self.name, self.columns, self.rows = name, list(columns), rows

    def has(self, column: str) -> bool:
        """Whether there is such a column."""
        return bool(find_columns(self.columns, column))

    def value(self, column: str, file: str) -> str:
        """A clip's cell; empty where it has no row."""
        row = self.rows.get(recording_of(file))
        return row[find_columns(self.columns, column)[0]].strip() if row else ""


def read_metadata(root: Path, name: str, tables: Mapping[str, LabelTable], findings: list[Finding]) -> Metadata:
    """The table beside the label tables: without columns where it cannot be read.

    Its file names are in the column `filename`, or else in the first; they are found as those of label tables are.
    """
    table = Metadata(name, [], {})
    sheet = open_sheet(root, name, findings, f"; name a table in {root} as data.metadata, or set it to null")
    if sheet is None or not sheet.header:
        return table
    at = (find_columns(sheet.header, FILENAME) or [0])[0]
    files = [recording_of(file) for part in tables.values() for file in part.files]
    known = Files(files)
    for line, row in sheet.rows:
        fit = known.fitting(row[at].strip())
        if len(fit) > 1:
            message = f"{row[at].strip()} may be {fit[0]} and {fit[1]}; name one"
            findings.append(Finding("several clips for a name", name, line, message))
        elif fit and table.rows.setdefault(fit[0], row) != row:
            message = f"{fit[0]} has another row with other values"
            findings.append(Finding("two rows for a clip", name, line, message))
    if sheet.rows and files and not table.rows:
        remedy = "" if plain(sheet.header[at]) == FILENAME else f"; call the column of file names '{FILENAME}'"
        message = f"no cell of its column '{sheet.header[at]}' names a clip{remedy}"
        findings.append(Finding("header", name, 1, message))
        return table
    table.columns = sheet.header
    return table


def find_without_row(beside: Metadata, tables: Mapping[str, LabelTable]) -> Iterator[Finding]:
    """Clips of train and devel that the table beside does not name."""
    for part, table in tables.items():
        for file, line in zip(table.files, table.lines, strict=True):
            if part != "test" and recording_of(file) not in beside.rows:
                yield Finding("clip without metadata", table.name, line, f"{file} has no row in {beside.name}")


def find_without_column(
    column: str, config: DataConfig, beside: Metadata | None, tables: Mapping[str, LabelTable]
) -> Iterator[Finding]:
    """Tables of train and devel that lack a column, which no table beside them has either."""
    if beside is not None and not beside.columns:
        return  # it could not be read, which is said
    key = "data.groups" if column in config.groups else "data.folds" if column == config.folds else "data.cluster"
    for part, table in tables.items():
        if part != "test" and table.files and table.column(column) is None:
            names = [*table.others, *(beside.columns if beside else [])]
            remedy = f" or {beside.name}" if beside else "; name a table that has it as data.metadata"
            hint = near(column, names)
            yield Finding("group column", table.name, 1, f"no column '{column}' of {key} here{remedy}{hint}")


def find_unknown(
    column: str,
    config: DataConfig,
    cells: Sequence[str],
    known: np.ndarray,
    tables: Mapping[str, LabelTable],
    beside: Metadata | None,
) -> Iterator[Finding]:
    """One oddity for the clips of each table of train and devel whose cells tell nothing."""
    what = "in no group" if column != cluster_column(config) else "on its own in intervals and folds"
    row, by_file = 0, beside.rows if beside and beside.has(column) else None
    for part, table in tables.items():
        there = by_file is None and table.column(column) is not None
        unknown: list[tuple[int, str]] = []
        for file, line in zip(table.files, table.lines, strict=True):
            told = there or (by_file is not None and recording_of(file) in by_file)
            if part != "test" and told and not known[row]:
                unknown.append((line, f"{column} is {repr(cells[row]) if cells[row] else 'empty'}"))
            row += 1
        yield from gather(f"clip of unknown {column}: it is {what}", table.name, unknown, error=False)


def find_shared_speakers(config: DataConfig, groups: Groups, tables: Mapping[str, LabelTable]) -> Iterator[Finding]:
    """One warning per speaker with clips in two partitions: scores on voices from training are too good.

    The column is the one whose clips belong together, or else `speaker` of the label tables where they have it.
    """
    column, row = cluster_column(config), 0
    name = column or SPEAKER
    places: dict[str, dict[str, tuple[str, int]]] = {}  # speaker → partition → its cell and line there that come first
    for part, table in tables.items():
        own = known_cells(table.column(name) or [], config)
        cells = (groups[column][row : row + len(table.files)] if column else own).tolist()
        row += len(table.files)
        for cell, line in zip(cells, table.lines, strict=False):
            if cell:
                places.setdefault(spelling_key(cell), {}).setdefault(part, (cell, line))
    kind = f"{name} in two partitions: {TOO_GOOD}; data.folds can keep them apart"
    for (first, (cell, line)), *others in (list(parts.items()) for parts in places.values()):
        if others:
            listed = ", ".join(f"{part} ({tables[part].name}:{at})" for part, (_, at) in others)
            yield Finding(kind, tables[first].name, line, f"{name} {cell} of {first} is also in {listed}", error=False)
