"""Label tables: reading them, and finding everything that is wrong with them at once.

Legend: N clips, E emotions.
"""

from __future__ import annotations

import csv
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import indent

import numpy as np

from emoshare.core.config import DataConfig
from emoshare.core.text import near_or_all
from emoshare.data.sheet import Sheet
from emoshare.data.tables import FILENAME, decimal_points, find_columns, plain, read_table_of, reader, split_sheet

# label cells of a masked test table, in lower case
HIDDEN = ("", "?", "-", "n/a", "n.a.", "#n/a", "<na>", "na", "nan", "none", "null")
NOTHING = ("", "<na>", "nan", "none", "null")  # cells that a program writes for nothing
SCALE = "must lie from 0 to 1"
TOO_GOOD = "scores there are too good"  # in kinds of findings
SHOWN = 20  # findings of one kind that a report lists
LINES = 5  # of a table that a finding names where it holds for many


@dataclass(frozen=True, order=True)
class Finding:
    kind: str
    table: str  # as configured, relative to the root
    line: int  # 0: the table as a whole
    message: str
    error: bool = True  # False: an oddity
    count: int = 1  # of what was found

    def __str__(self) -> str:
        text = f"{self.table}:{self.line}: {self.message}" if self.line else f"{self.table}: {self.message}"
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)  # a table may hold terminal escapes


@dataclass(eq=False)
class LabelTable:
    name: str
    files: list[str]
    lines: list[int]
    cells: list[list[str]]  # (N, E); rows are empty where the table has no label columns
    others: dict[str, list[str]] = field(default_factory=dict)  # further column → a cell per row
    part: str = ""  # the partition that these rows of the table are; empty where it is the whole table
    times: tuple[str, ...] = ()  # which of the columns start and end tell a row's place in its file

    @property
    def title(self) -> str:
        """The name of the rows in messages about all of them."""
        return f"{self.name} ({self.part})" if self.part else self.name

    def column(self, name: str) -> list[str] | None:
        """The cells of a further column; None where there is none of that name."""
        at = find_columns(list(self.others), name)
        return self.others[list(self.others)[at[0]]] if at else None


def group_by_kind(findings: list[Finding]) -> Iterator[str]:
    """One text per kind: its count, then its first findings."""
    for kind, group in itertools.groupby(sorted(findings), key=lambda finding: finding.kind):
        same = list(group)
        lines = [f"{total(same)} × {kind}", *(f"  {finding}" for finding in same[:SHOWN])]
        if len(same) > SHOWN:
            lines.append(f"  … and {total(same[SHOWN:])} more")
        yield "\n".join(lines)


def total(findings: Iterable[Finding]) -> int:
    """The number of places that findings tell of."""
    return sum(finding.count for finding in findings)


def describe_findings(name: str, root: Path, findings: list[Finding]) -> str:
    """The report of a corpus that cannot be used: counts first."""
    errors = [finding for finding in findings if finding.error]
    odd = [finding for finding in findings if not finding.error]
    counts = f"errors: {total(errors)}, warnings: {total(odd)}"
    texts = [*group_by_kind(errors), *(["warnings:", *group_by_kind(odd)] if odd else [])]
    return f"corpus {name} in {root}: {counts}\n" + indent("\n".join(texts), "  ")


def gather(kind: str, table: str, places: Iterable[tuple[int, str]], error: bool = True) -> Iterator[Finding]:
    """One finding for each message, with the lines (line, message) that it holds for."""
    lines: dict[str, list[int]] = {}
    for line, message in places:
        lines.setdefault(message, []).append(line)
    for message, at in lines.items():
        named = ", ".join(map(str, list(dict.fromkeys(at))[:LINES])) + (", …" if len(set(at)) > LINES else "")
        where = f" ({len(at)} times, lines {named})" if len(at) > 1 else ""
        yield Finding(kind, table, at[0], message + where, error, len(at))


def table_of(sheet: Sheet, name: str, targets: list[str], hidden: bool, findings: list[Finding]) -> LabelTable:
    """The label table in a sheet; what is wrong with its columns goes to `findings`.

    hidden: label columns may be absent altogether.
    """
    table = LabelTable(name, [], [], [])
    places = label_columns(sheet, targets, hidden, findings, name)
    titles = [*enumerate(sheet.header)]
    others = {column: at for at, column in reversed(titles) if at not in places}  # of two the first
    rows = sheet.rows if places else []
    table.others = {column: [row[at].strip() for _, row in rows] for column, at in others.items()}
    table.files = [row[places[0]].strip() for _, row in rows]
    table.lines = [line for line, _ in rows]
    table.cells = [[row[at] for at in places[1:]] for _, row in rows]
    if places and not rows:
        findings.append(Finding("table", name, 0, "no rows"))
    return table


def open_sheet(root: Path, name: str, findings: list[Finding], missing: str = "") -> Sheet | None:
    """A table, None where it cannot be read; what is wrong with its rows, too, goes to `findings`.

    missing: the remedy where it is not there.
    """
    try:
        sheet = read_table_of(root, name)
    except OSError as error:
        findings.append(Finding("table", name, 0, f"cannot be read: {error.strerror}{missing}"))
        return None
    except UnicodeDecodeError as error:
        message = f"not a CSV table in UTF-8: byte {error.object[error.start]:#04x}; save it as CSV UTF-8"
        findings.append(Finding("table", name, error.object[: error.start].count(b"\n") + 1, message))
        return None
    except (ValueError, csv.Error) as error:
        what = "cannot be read" if reader(root / split_sheet(name)[0]) else "not a CSV table in UTF-8"
        findings.append(Finding("table", name, 0, f"{what}: {error}"))
        return None
    blank = ((line, "no cell is filled") for line in sheet.blank)
    findings += gather("blank row, left out", name, blank, error=False)
    twice = {title for title in sheet.header if title and sheet.header.count(title) > 1}
    findings += [Finding("column twice, the first is taken", name, 1, f"'{title}'", False) for title in sorted(twice)]
    columns = len(sheet.header)
    commas = "; a comma in a cell needs quotes around it" if sheet.separator == "," else ""
    ragged = ((line, f"{n} cells, the header has {columns}{commas if n > columns else ''}") for line, n in sheet.ragged)
    findings += gather("row", name, ragged)
    return sheet


def label_columns(sheet: Sheet, targets: list[str], hidden: bool, findings: list[Finding], name: str) -> list[int]:
    """The columns of filename and the targets; empty where something is missing."""
    header = sheet.header
    masked = hidden and not any(find_columns(header, target) for target in targets)
    places = {word: find_columns(header, word) for word in [FILENAME, *(() if masked else targets)]}
    word = "…" if places[FILENAME] else "file"
    remedy = f"; data.columns={{{word}: its name}} says what it is called{sheet.other_sheets}"
    hints = {word: near_or_all(word, header, 0.7 if word == FILENAME else 0.5) for word, at in places.items() if not at}
    problems = [f"no column '{word}'{hint}{remedy}" for word, hint in hints.items()]
    problems += [f"two columns '{word}'" for word, at in places.items() if len(at) > 1]
    findings += [Finding("header", name, 1, problem) for problem in problems]
    return [] if problems else [at[0] for at in places.values()]


def find_same_tables(root: Path, names: dict[str, str]) -> list[Finding]:
    """An error for each partition whose table is that of an earlier one."""
    first: dict[str, str] = {}
    findings = []
    for part, name in names.items():
        other = first.setdefault(os.path.realpath(root / name), part)
        if other != part:
            message = f"data.{part} names the table of data.{other}; name another"
            findings.append(Finding("one table for two partitions", name, 0, message))
    return findings


def find_duplicates(tables: Iterable[LabelTable]) -> Iterator[Finding]:
    """Clips that are twice in a table, or in two partitions."""
    seen: dict[str, tuple[LabelTable, int]] = {}
    for table in tables:
        for file, line in zip(table.files, table.lines, strict=True):
            other, first = seen.setdefault(file, (table, line))
            if (other, first) != (table, line):
                kind = "duplicate row" if other is table else "clip in two partitions"
                segments = "" if table.times else ", or name the columns start and end of segments"
                message = f"{file} is already in {other.name}:{first}; keep one (data.rows), or their mean{segments}"
                yield Finding(kind, table.name, line, message)


def parse_labels(
    table: LabelTable, config: DataConfig, hidden: bool, findings: list[Finding], remedy: str = ""
) -> np.ndarray | None:
    """(N, E) float32 from 0 to 1; None where there are no labels, or where `hidden` ones are masked throughout.

    remedy: for a cell without a label; by default that of `fill_in`.
    """
    if not any(table.cells) or (hidden and all(plain(cell) in HIDDEN for row in table.cells for cell in row)):
        return None
    low, high = config.range if config.normalize == "none" else (0.0, np.inf)
    findings += fill_votes(table) if config.normalize == "votes" else ()
    percent = 1.0 if high > 1 else 0.01  # 45 % is 45 on a scale to 100
    values = np.array([to_numbers(row, percent) for row in decimal_points(table.cells)])
    if scale := find_scale(values, low, high):
        columns = [target for target, column in zip(config.targets, values.T, strict=True) if is_outside(column).any()]
        if not any(finding.table == table.name and SCALE in finding.message for finding in findings):
            findings.append(Finding("label out of range", table.name, 0, f"{scale} ({', '.join(columns)})"))
        bounds = np.nanmin(values.clip(-100, 0)), np.nanmax(values.clip(0, 100))
        values = (values - bounds[0]) / (bounds[1] - bounds[0])  # and so no finding for each of them
    wrong: dict[str, list[tuple[int, str]]] = {}
    told: dict[str, str] = {}  # cell → the first message on such a cell
    good = (values >= low) & (values <= high) & np.isfinite(values)
    if config.normalize == "votes":
        good &= values == np.floor(values)
    bare = np.array([all(plain(cell) in HIDDEN for cell in row) for row in table.cells])
    remedies = {} if good.all() else {target: remedy or fill_in(target, table) for target in config.targets}
    if bare.any():
        message = f"no label; {remedies[config.targets[0]]}"
        findings += gather(
            "row without a label", table.name, ((table.lines[row], message) for row in np.flatnonzero(bare))
        )
    for row, column in np.argwhere(~good & ~bare[:, None]):
        kind = "label that is no number" if np.isnan(values[row, column]) else "label out of range"
        cell, target = table.cells[row][column].strip(), config.targets[column]
        message = told.setdefault(
            cell,
            label_problem(target, cell, low, high, config.normalize, remedies[target], values[row, column]),
        )
        wrong.setdefault(kind, []).append((table.lines[row], message))
    for kind, problems in wrong.items():
        findings += gather(kind, table.name, problems)
    if config.normalize == "none":
        return ((values - low) / (high - low)).astype(np.float32)
    sums = values.sum(1, keepdims=True)
    for row in np.flatnonzero(sums[:, 0] == 0).tolist():
        message = f"{table.files[row]}: all labels are 0, which are no shares; delete the row"
        findings.append(Finding("clip without a vote", table.name, table.lines[row], message))
    with np.errstate(invalid="ignore"):  # infinite labels, of which there is a finding
        return (values / np.where(sums == 0, 1, sums)).astype(np.float32)


def fill_votes(table: LabelTable) -> Iterator[Finding]:
    """Put 0 in place of the empty cells beside votes, as counts by rows have them; one oddity tells of them."""
    empty: list[tuple[int, str]] = []
    for row, line in enumerate(table.lines):
        filled = ["0" if plain(cell) in NOTHING else cell for cell in table.cells[row]]
        if filled != table.cells[row] and any(plain(cell) not in NOTHING for cell in table.cells[row]):
            table.cells[row] = filled
            empty.append((line, "a target has no number"))
    yield from gather("empty cell beside votes, taken for 0", table.name, empty, error=False)


def is_outside(values: np.ndarray) -> np.ndarray:
    """Whether values lie outside of 0 to 1."""
    return (values < 0) | (values > 1)


def find_scale(values: np.ndarray, low: float, high: float) -> str:
    """The message on labels of another scale than 0 to 1; empty where they have none, or where the config says it."""
    known = values[np.isfinite(values) & (values != 0)]
    if (low, high) != (0, 1) or not len(known) or np.abs(known).max() > 100:
        return ""
    if known.min() > 0 and np.median(known) > 1:
        remedy = "name their scale, as data.range=[1,7], or data.normalize=sum for votes"
        return f"labels up to {known.max():g} {SCALE}: {remedy}"
    if np.mean(known < 0) > 0.2:  # fewer may be mistakes
        top = np.ceil(np.abs(known).max())
        return f"labels down to {known.min():g} {SCALE}: name their scale, as data.range=[{-top:g},{top:g}]"
    return ""


def count_votes(table: LabelTable, config: DataConfig) -> np.ndarray | None:
    """(N,) float32, how many votes each clip of a table without mistakes has; None where its labels are no votes."""
    if config.normalize != "votes" or not any(table.cells) or all(plain(cell) in HIDDEN for cell in table.cells[0]):
        return None
    return np.array([to_numbers(row, 1.0) for row in decimal_points(table.cells)]).sum(1).astype(np.float32)


def label_problem(
    target: str, cell: str, low: float, high: float, normalize: str = "none", remedy: str = "",
    value: float = float("nan"),
) -> str:  # fmt: skip
    """The mistake in a label that is no number from `low` to `high`. value: of the cell; NaN: none could be read."""
    hint = ""
    if plain(cell) in HIDDEN:
        hint = f": {remedy}"
    elif not np.isnan(value):
        hint = "" if low <= value <= high else ": it is out of range"
    elif "," in cell:
        hint = ": with the same decimal sign as the others"
    span = f"from {low:g} to {high:g}" if np.isfinite(high) else f"of at least {low:g}"
    what = "a whole number of votes," if normalize == "votes" else "a number"
    return f"{target}='{cell}' must be {what} {span}{hint}"


def fill_in(target: str, table: LabelTable) -> str:
    """The remedy for a row without a label, with the override as a shell takes it."""
    first = next((cell for row in table.cells for cell in row if plain(cell) not in HIDDEN), "")
    pattern = "(?i)true|false" if plain(first) in ("true", "false") else ".*[0-9].*"
    return f"fill it in, delete the row, or leave such rows out: 'data.rows={{{target}: \"{pattern}\"}}'"


def to_numbers(cells: Sequence[str], percent: float = 0.01) -> list[float]:
    """Numbers of cells: also 1 and 0 for `True` and `False`; NaN where a cell is none. percent: the value of 1 %."""
    try:
        return list(map(float, cells))
    except ValueError:
        return [number_of(cell, percent) for cell in cells]


def number_of(cell: str, percent: float) -> float:
    """The number of one cell, as `to_numbers` has it."""
    text = cell.strip().lower()
    number, scale = (text[:-1], percent) if text.endswith("%") else (text, 1.0)
    try:
        return {"true": 1.0, "false": 0.0}[text] if text in ("true", "false") else float(number) * scale
    except ValueError:
        return float("nan")


def unmask(config: DataConfig, table: LabelTable, test: LabelTable, findings: list[Finding]) -> np.ndarray | None:
    """Test labels (N, E) from the unmasked table, in the order of the masked one, whose cells become those, too."""
    remedy = "fill it in, or set data.unmasked to null until all are known"
    shares = parse_labels(table, config, False, findings, remedy)
    rows = {file: row for row, file in enumerate(table.files)}
    lines = dict(zip(test.files, test.lines, strict=True))
    strange = [(file, line) for file, line in zip(table.files, table.lines, strict=True) if file not in lines]
    absent = [(file, line) for file, line in lines.items() if file not in rows]
    findings += [Finding("unmasked", table.name, line, f"{file} is not in {test.name}") for file, line in strange]
    findings += [Finding("unmasked", test.name, line, f"{file} is not in {table.name}") for file, line in absent]
    if len(rows) < len(table.files):
        findings += find_duplicates([table])
    if shares is None or absent:
        return None
    order = [rows[file] for file in test.files]
    test.cells = [table.cells[row] for row in order]
    return shares[order]
