"""A table of predicted shares: one row per window of a recording, by file, start and end.

(file, start, end) is the index that this field's datasets use (audformat's segmented index). N rows, E targets.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emoshare.core.errors import EmoshareError
from emoshare.core.files import replacing, with_path
from emoshare.core.text import console_table

log = logging.getLogger("emoshare")
INDEX = ("file", "start", "end")
TEXT: Any = {"encoding": "utf-8", "errors": "surrogateescape"}  # names of files need not be UTF-8


@dataclass(frozen=True, eq=False)
class Shares:
    """Predicted shares; they need not add up to 1 and are no probabilities.

    They lie in [0, 1], but for those of an SVR or a linear output.

    Attributes:
        files: (N,) the recording of each row, as the caller named it.
        start: (N,) seconds at which its window begins.
        end: (N,) seconds at which it ends: the recording's own end where that comes first.
        values: (N, E) float32.
        targets: names of the E columns.
    """

    files: tuple[str, ...]
    start: np.ndarray
    end: np.ndarray
    values: np.ndarray
    targets: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    @property
    def columns(self) -> tuple[str, ...]:
        return (*INDEX, *self.targets)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Each row as a dict: file, start, end and a share per target."""
        for file, start, end, values in zip(self.files, self.start, self.end, self.values, strict=True):
            shares = dict(zip(self.targets, map(float, values), strict=True))
            yield {"file": file, "start": float(start), "end": float(end), **shares}

    def text(self, header: bool = True) -> str:
        """The table as CSV: shares with nine significant digits, which give float32 back exactly."""
        return csv_text(self.columns if header else (), (self.files, self.start, self.end), self.values)

    def write(self, path: str | Path) -> None:
        """Write a .csv or .parquet file, whole or not at all.

        Raises:
            EmoshareError: another suffix, or pyarrow is not installed.
        """
        path = Path(path)
        check_suffix(path)
        write_columns(path, self.columns, (self.files, self.start, self.end), self.values)

    def order(self, files: Sequence[str]) -> Shares:
        """The rows of some files in the order of these; the rows of a file stay in theirs."""
        place = {file: number for number, file in enumerate(files)}
        rows = sorted((row for row in range(len(self)) if self.files[row] in place), key=lambda r: place[self.files[r]])
        return Shares(
            tuple(self.files[row] for row in rows), self.start[rows], self.end[rows], self.values[rows], self.targets
        )

    def __repr__(self) -> str:
        rows = [
            [file, f"{start:.2f}", f"{end:.2f}", *(f"{value:.3f}" for value in values)]
            for file, start, end, values in list(zip(self.files, self.start, self.end, self.values, strict=True))[:20]
        ]
        more = f"… {len(self)} rows\n" if len(self) > len(rows) else ""
        return console_table(self.columns, rows) + more


Index = tuple[Sequence[str], np.ndarray, np.ndarray]  # file, start and end of each row


def csv_text(header: Sequence[str], index: Index, values: np.ndarray, checked: bool = False) -> str:
    """Rows as CSV, below a header where it is not empty; checked: each with its checksum as one more column."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if header:
        writer.writerow(header)
    for file, start, end, numbers in zip(*index, values, strict=True):
        row = [file, f"{start:.9g}", f"{end:.9g}", *(f"{number:.9g}" for number in numbers)]
        row += [checksum(row)] if checked else []
        if "\r" in file:  # which Python's writer leaves without quotes before 3.13, and its reader refuses so
            out.write(",".join([f'"{file.replace(chr(34), chr(34) * 2)}"', *row[1:]]) + "\n")
        else:
            writer.writerow(row)
    return out.getvalue()


def checksum(row: Sequence[str]) -> str:
    """The CRC-32 of the cells of a row, in hex."""
    return f"{zlib.crc32(chr(0).join(row).encode(**TEXT)):08x}"


def write_columns(path: Path, columns: Sequence[str], index: Index, values: np.ndarray) -> None:
    """A .csv or .parquet file, whole or not at all; columns: file, start, end, and a name per column of values."""
    with replacing(path) as temporary:
        if path.suffix == ".csv":
            temporary.write_text(csv_text(columns, index, values), **TEXT)
            return
        import pyarrow as pa
        from pyarrow import parquet

        arrays = [list(index[0]), *index[1:], *values.T]
        parquet.write_table(pa.table(dict(zip(columns, arrays, strict=True))), temporary)


def check_suffix(path: Path) -> None:
    """Raise EmoshareError unless a table can be written to the path."""
    if path.suffix not in (".csv", ".parquet"):
        raise EmoshareError(f"{path}: a table of shares is written as .csv or .parquet")
    if path.suffix == ".parquet":
        from importlib.util import find_spec

        if find_spec("pyarrow") is None:
            raise EmoshareError(
                f'{path}: pyarrow is not installed; run `pip install "emoshare[parquet]"`, or name a .csv'
            )


def table_of(rows: Sequence[Sequence[str]], targets: tuple[str, ...]) -> Shares:
    """The rows of a CSV file."""
    numbers = np.array([row[1:] for row in rows], np.float64).reshape(len(rows), len(targets) + 2)
    values = numbers[:, 2:].astype(np.float32)
    return Shares(tuple(row[0] for row in rows), numbers[:, 0], numbers[:, 1], values, targets)


def join(tables: Sequence[Shares], targets: tuple[str, ...]) -> Shares:
    """Several tables below one another."""
    return Shares(
        tuple(file for table in tables for file in table.files),
        np.concatenate([np.zeros(0), *(table.start for table in tables)]),
        np.concatenate([np.zeros(0), *(table.end for table in tables)]),
        np.concatenate([np.zeros((0, len(targets)), np.float32), *(table.values for table in tables)]),
        targets,
    )


class Journal:
    """A file that grows by some recordings at a time, so that a killed prediction is resumed.

    Its first line describes the request, as JSON; then follows a CSV table, each row with its checksum. Rows are
    appended in one write. A process that dies while it writes leaves the rows of its last recording torn: when the file
    is opened again, these are taken out and computed again. So is whatever follows a row that is damaged.

    Attributes:
        done: recordings whose rows are there.
    """

    def __init__(self, path: Path, asked: dict[str, Any], targets: tuple[str, ...]) -> None:
        """Open or begin the file. EmoshareError where the file belongs to another request."""
        self.path, self.targets = path, targets
        first = f"# {json.dumps(asked, sort_keys=True)}\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        done = self._read_done(first)
        self.done = set(done.files)
        with replacing(path) as temporary:
            temporary.write_text(first + self._text(done, done.columns), **TEXT)
        self._file = path.open("a", newline="", **TEXT)

    def _read_done(self, first: str) -> Shares:
        """The rows of all recordings but the last one."""
        empty = join([], self.targets)
        if not self.path.exists():
            return empty
        whole = self.path.read_bytes().decode(**TEXT)
        whole = whole[: whole.rfind("\n") + 1]
        if whole and not whole.startswith(first):
            raise EmoshareError(
                f"{self.path}: holds what is done of another prediction (other model, windows, step, scale), or "
                "nothing of emoshare's; name another file"
            )
        rows, problem = self._rows(whole[len(first) :])
        if problem:
            log.warning("%s: %s; what follows is computed again", self.path, problem)
        return table_of([row for row in rows if row[0] != rows[-1][0]], self.targets) if rows else empty

    def _rows(self, text: str) -> tuple[list[list[str]], str]:
        """The rows before the first one that is damaged, without their checksums, and what is wrong with that one."""
        rows: list[list[str]] = []
        try:
            for row in csv.reader(io.StringIO(text, newline="")):
                if rows and row[-1:] != [checksum(row[:-1])]:
                    return rows[1:], f"line {len(rows) + 2} is damaged"
                rows.append(row[:-1] if rows else row)
        except csv.Error as error:
            return rows[1:], f"line {len(rows) + 2} is damaged ({error})"
        whole = not rows or tuple(rows[0]) == (*INDEX, *self.targets)
        return (rows[1:], "") if whole else ([], "line 2 is damaged")

    def _text(self, table: Shares, header: Sequence[str] = ()) -> str:
        return csv_text(header, (table.files, table.start, table.end), table.values, checked=True)

    def add(self, table: Shares) -> None:
        """Append the rows of some recordings; they are on the disk when this returns."""
        try:
            self._file.write(self._text(table))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise with_path(error, self.path) from None
        self.done.update(table.files)

    def table(self) -> Shares:
        """All rows, in the order in which they were added. EmoshareError where one is damaged."""
        rows, problem = self._rows(self.path.read_bytes().decode(**TEXT).partition("\n")[2])
        if problem:
            raise EmoshareError(f"{self.path}: {problem}; the same command computes again what follows")
        return table_of(rows, self.targets)

    def close(self) -> None:
        self._file.close()
