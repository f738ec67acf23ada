"""A table of predicted shares: one row per window of a recording, by file, start and end.

(file, start, end) is the index that this field's datasets use (audformat's segmented index). N rows, E targets.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emoshare.core.errors import EmoshareError
from emoshare.core.files import replacing

INDEX = ("file", "start", "end")


@dataclass(frozen=True, eq=False)
class Shares:
    """Predicted shares in [0, 1]; they need not add up to 1 and are no probabilities.

    Attributes:
        files: (N,) the recording of each row, as it was asked for.
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
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        if header:
            writer.writerow(self.columns)
        for file, start, end, values in zip(self.files, self.start, self.end, self.values, strict=True):
            writer.writerow([file, f"{start:.6g}", f"{end:.6g}", *(f"{value:.9g}" for value in values)])
        return out.getvalue()

    def write(self, path: Path) -> None:
        """Write a .csv or .parquet file, whole or not at all.

        Raises:
            EmoshareError: another suffix, or pyarrow is not installed.
        """
        check_suffix(path)
        with replacing(path) as temporary:
            if path.suffix == ".csv":
                temporary.write_text(self.text(), encoding="utf-8")
            else:
                import pyarrow as pa
                from pyarrow import parquet

                columns = {"file": list(self.files), "start": self.start, "end": self.end}
                columns |= dict(zip(self.targets, self.values.T, strict=True))
                parquet.write_table(pa.table(columns), temporary)

    @classmethod
    def read(cls, path: Path) -> Shares:
        """A table that `text` or `write` made as CSV.

        Raises:
            EmoshareError: the file cannot be read as such a table.
        """
        try:
            with path.open(encoding="utf-8", newline="") as file:
                header, *rows = csv.reader(file)
            if tuple(header[:3]) != INDEX or any(len(row) != len(header) for row in rows):
                raise ValueError("not a table of file, start, end and shares")
            numbers = np.array([row[1:] for row in rows], np.float64).reshape(len(rows), len(header) - 1)
        except (OSError, ValueError, csv.Error) as error:
            raise EmoshareError(f"{path}: not readable ({error}); remove it to predict from the start") from None
        files = tuple(row[0] for row in rows)
        return cls(files, numbers[:, 0], numbers[:, 1], numbers[:, 2:].astype(np.float32), tuple(header[3:]))


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


def joined(tables: Sequence[Shares], targets: tuple[str, ...]) -> Shares:
    """Several tables below one another."""
    return Shares(
        tuple(file for table in tables for file in table.files),
        np.concatenate([np.zeros(0), *(table.start for table in tables)]),
        np.concatenate([np.zeros(0), *(table.end for table in tables)]),
        np.concatenate([np.zeros((0, len(targets)), np.float32), *(table.values for table in tables)]),
        targets,
    )


class Journal:
    """A CSV file that grows by one recording at a time, so that a killed prediction can go on from it.

    A recording's rows are appended in one write. A process that dies while it writes leaves at most the last recording
    torn: when the file is opened again, the rows of the last recording are taken out and computed again.
    """

    def __init__(self, path: Path, targets: tuple[str, ...]) -> None:
        self.path, self.targets = path, targets
        self.done: set[str] = set()
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = self._kept()
        with replacing(path) as temporary:
            temporary.write_text(kept, encoding="utf-8")
        self._file = path.open("a", encoding="utf-8", newline="")

    def _kept(self) -> str:
        """The header and the rows of all recordings but the last one."""
        empty = joined([], self.targets)
        if not self.path.exists():
            return empty.text()
        whole = self.path.read_text(encoding="utf-8", errors="replace")
        rows = list(csv.reader(io.StringIO(whole[: whole.rfind("\n") + 1])))
        if rows and tuple(rows[0]) != empty.columns:
            raise EmoshareError(
                f"{self.path}: another table ({', '.join(rows[0][:6])} …); remove it or name another file"
            )
        rows = [row for row in rows[1:] if len(row) == len(empty.columns)]
        rows = [row for row in rows if row[0] != rows[-1][0]] if rows else []
        self.done = {row[0] for row in rows}
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([empty.columns, *rows])
        return out.getvalue()

    def add(self, table: Shares) -> None:
        """Append the rows of one recording; they are on the disk when this returns."""
        self._file.write(table.text(header=False))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.done.update(table.files)

    def close(self) -> None:
        self._file.close()
