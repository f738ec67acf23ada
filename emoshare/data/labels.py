"""Label tables: reading them, and finding everything that is wrong with them at once.

Legend: N clips, E emotions.
"""

from __future__ import annotations

import csv
import io
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import indent

import numpy as np

from emoshare.core.config import DataConfig
from emoshare.core.files import read_bytes
from emoshare.core.text import near

HIDDEN = ("", "?")  # label cells of a masked test table
SHOWN = 20  # findings of one kind that a report lists


@dataclass(frozen=True, order=True)
class Finding:
    kind: str
    table: str  # as configured, relative to the root
    line: int  # 0: the table as a whole
    message: str
    error: bool = True  # False: an oddity

    def __str__(self) -> str:
        text = f"{self.table}:{self.line}: {self.message}" if self.line else f"{self.table}: {self.message}"
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)  # a table may hold terminal escapes


@dataclass
class LabelTable:
    name: str
    files: list[str]
    lines: list[int]
    cells: list[list[str]]  # (N, E); rows are empty where the table has no label columns
    others: dict[str, list[str]] = field(default_factory=dict)  # further column → a cell per row


def group_by_kind(found: list[Finding]) -> Iterator[str]:
    """One text per kind: its count, then its first findings."""
    for kind, group in itertools.groupby(sorted(found), key=lambda finding: finding.kind):
        findings = list(group)
        lines = [f"{len(findings)} × {kind}", *(f"  {finding}" for finding in findings[:SHOWN])]
        if len(findings) > SHOWN:
            lines.append(f"  … and {len(findings) - SHOWN} more")
        yield "\n".join(lines)


def describe_findings(name: str, root: Path, found: list[Finding]) -> str:
    """The report of a corpus that cannot be used: counts first."""
    errors = [finding for finding in found if finding.error]
    odd = [finding for finding in found if not finding.error]
    counts = f"errors: {len(errors)}, warnings: {len(odd)}"
    texts = [*group_by_kind(errors), *(["warnings:", *group_by_kind(odd)] if odd else [])]
    return f"corpus {name} in {root}: {counts}\n" + indent("\n".join(texts), "  ")


def read_table(root: Path, name: str, targets: list[str], hidden: bool, found: list[Finding]) -> LabelTable:
    """A label table; what is wrong with its form goes to `found`, and its good rows come back.

    `hidden`: label columns may be absent altogether.
    """
    table = LabelTable(name, [], [], [])
    try:
        text = read_bytes(root / name).decode("utf-8-sig")
        rows = csv.reader(io.StringIO(text, newline=""))
        header = [column.strip() for column in next(rows, [])]
        columns = find_columns(header, targets, hidden, found, name)
        others = {column: at for at, column in enumerate(header) if at not in columns}
        table.others = {column: [] for column in others}
        for row in rows if columns else ():
            if not row:
                continue
            if len(row) != len(header):
                found.append(Finding("row", name, rows.line_num, f"{len(row)} cells, the header has {len(header)}"))
                continue
            table.files.append(row[columns[0]].strip())
            table.lines.append(rows.line_num)
            table.cells.append([row[column] for column in columns[1:]])
            for column, at in others.items():
                table.others[column].append(row[at].strip())
        if columns and not table.files:
            found.append(Finding("table", name, 0, "no rows"))
    except OSError as error:
        remedy = "; where there is none, set data.test to null" if hidden else ""
        found.append(Finding("table", name, 0, f"cannot be read: {error.strerror}{remedy}"))
    except (ValueError, csv.Error) as error:
        found.append(Finding("table", name, 0, f"not a CSV table in UTF-8: {error}"))
    return table


def find_columns(header: list[str], targets: list[str], hidden: bool, found: list[Finding], name: str) -> list[int]:
    """Where filename and the targets stand; empty where something is missing."""
    for separator, spelled in {";": "';'", "\t": "a tab"}.items():
        if len(header) == 1 and separator in header[0]:
            found.append(Finding("header", name, 1, f"columns are separated by {spelled}: save the table with commas"))
            return []
    wanted = ["filename"] if hidden and not set(targets) & set(header) else ["filename", *targets]
    problems = [f"no column '{word}'{near(word, header)}" for word in wanted if word not in header]
    problems += [f"two columns '{word}'" for word in wanted if header.count(word) > 1]
    found += [Finding("header", name, 1, problem) for problem in problems]
    return [] if problems else [header.index(word) for word in wanted]


def find_same_tables(root: Path, names: dict[str, str]) -> list[Finding]:
    """An error for each partition whose table is that of an earlier one."""
    first: dict[str, str] = {}
    found = []
    for part, name in names.items():
        other = first.setdefault(os.path.realpath(root / name), part)
        if other != part:
            message = f"data.{part} names the table of data.{other}; name another"
            found.append(Finding("one table for two partitions", name, 0, message))
    return found


def find_duplicates(tables: Iterable[LabelTable]) -> Iterator[Finding]:
    """Filenames that leave the wav folder, stand twice in a table, or in two partitions."""
    seen: dict[str, tuple[str, int]] = {}
    for table in tables:
        for file, line in zip(table.files, table.lines, strict=True):
            if not file or file.startswith(("/", "\\")) or ".." in file.replace("\\", "/").split("/"):
                yield Finding("filename", table.name, line, f"'{file}' is no file inside the wav folder")
            first = seen.setdefault(file, (table.name, line))
            if first != (table.name, line):
                kind = "duplicate row" if first[0] == table.name else "clip in two partitions"
                yield Finding(kind, table.name, line, f"{file} stands in {first[0]}:{first[1]} already")


def parse_labels(table: LabelTable, targets: list[str], hidden: bool, found: list[Finding]) -> np.ndarray | None:
    """(N, E) float32; None where there are no labels, or where `hidden` ones are masked throughout."""
    if not any(table.cells) or (hidden and all(cell.strip() in HIDDEN for row in table.cells for cell in row)):
        return None
    values = np.array([to_numbers(row) for row in table.cells])
    known = values[np.isfinite(values) & (values != 0)]
    if len(known) and known.min() > 0 and known.max() <= 100 and np.median(known) > 1:
        scale = f"labels up to {known.max():g} must lie from 0 to 1"
        remedy = "divide all by the top of their scale (by 100 where they are percent)"
        found.append(Finding("label out of range", table.name, 0, f"{scale}: {remedy}"))
        values = values / 100  # and so no finding for each of them
    for row, column in np.argwhere(~((values >= 0) & (values <= 1))):  # NaN too
        kind = "label that is no number" if np.isnan(values[row, column]) else "label out of range"
        message = f"{targets[column]}='{table.cells[row][column]}' must be a number from 0 to 1"
        found.append(Finding(kind, table.name, table.lines[row], message))
    return values.astype(np.float32)


def to_numbers(cells: list[str]) -> list[float]:
    """NaN where a cell is no number."""
    try:
        return list(map(float, cells))
    except ValueError:
        return [float("nan") if len(cells) == 1 else to_numbers([cell])[0] for cell in cells]


def unmask(root: Path, config: DataConfig, test: LabelTable, found: list[Finding]) -> np.ndarray | None:
    """Test labels (N, E) from the unmasked table, in the order of the masked one."""
    assert config.unmasked
    table = read_table(root, config.unmasked, config.targets, False, found)
    shares = parse_labels(table, config.targets, False, found)
    rows = {file: row for row, file in enumerate(table.files)}
    lines = dict(zip(test.files, test.lines, strict=True))
    strange = [(file, line) for file, line in zip(table.files, table.lines, strict=True) if file not in lines]
    absent = [(file, line) for file, line in lines.items() if file not in rows]
    found += [Finding("unmasked", table.name, line, f"{file} is not in {test.name}") for file, line in strange]
    found += [Finding("unmasked", test.name, line, f"{file} is not in {table.name}") for file, line in absent]
    if len(rows) < len(table.files):
        found += find_duplicates([table])
    return None if shares is None or absent else shares[[rows[file] for file in test.files]]
