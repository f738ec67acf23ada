"""The tables of a corpus, and the partition of each row: one table for all, or one for each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from emoshare.core.config import DataConfig
from emoshare.core.text import near
from emoshare.data.derived import FILES, columns_of, derive, sheet_of_files
from emoshare.data.labels import TOO_GOOD, Finding, LabelTable, gather, open_sheet, table_of
from emoshare.data.names import list_files
from emoshare.data.sheet import Sheet
from emoshare.data.spans import ROUNDING, Span, segment_name, span_of, split_name
from emoshare.data.tables import plain

SPLIT = "split"
BAD_TIMES = "segment"  # kind of a finding
OVERLAP = {  # whether in one partition → what it is
    True: "segments that overlap: what they share counts twice",
    False: f"segments of two partitions that overlap: {TOO_GOOD}; leave one out",
}
SPLITS = {  # the usual values of a split column, where data.splits names none
    "train": ("train", "training"),
    "devel": ("devel", "dev", "development", "val", "valid", "validation"),
    "test": ("test", "testing"),
}
NEEDED = ("train", "devel")
UNTOLD = (
    "no column tells the partition: name it and its values, as in 'data.columns={split: Split_Set}' "
    "'data.splits={train: Train, devel: Development, test: [Test1,Test2]}', or set data.folds"
)


def table_titles(config: DataConfig) -> dict[str, str]:
    """The name of each partition's table in messages."""
    if config.table:
        return {part: f"{config.table} ({part})" for part in SPLITS}
    return {"train": config.train, "devel": config.devel, "test": config.unmasked or config.test or "test"}


def read_tables(config: DataConfig, root: Path, findings: list[Finding]) -> dict[str, LabelTable]:
    """The label tables by partition; what is wrong with them goes to `findings`."""
    if config.table:
        return divide(config, read_table(config, root, config.table, findings), findings)
    names = {"train": config.train, "devel": config.devel} | ({"test": config.test} if config.test else {})
    return {part: read_table(config, root, name, findings, part, part == "test") for part, name in names.items()}


def read_table(
    config: DataConfig, root: Path, name: str, findings: list[Finding], part: str = "", hidden: bool = False
) -> LabelTable:
    """A label table; what is wrong with its form goes to `findings`, and its good rows come back.

    Args:
        part: the partition that it is of; empty where it is of all.
        hidden: label columns may be absent altogether.
    """
    sheet: Sheet | None
    if name == FILES:
        sheet = sheet_of_files(list_files(root / config.wav))
    else:
        sheet = open_sheet(root, name, findings, "; where there is none, set data.test to null" if hidden else "")
    times = tuple(word for word in ("start", "end") if sheet and word in columns_of(config, sheet))
    if sheet is None or not derive(sheet, config, name, findings, part, hidden):
        return LabelTable(name, [], [], [])
    return replace(table_of(sheet, name, config.targets, hidden, findings), times=times)


def divide(config: DataConfig, table: LabelTable, findings: list[Finding]) -> dict[str, LabelTable]:
    """The rows of a table by partition. Without a column that tells it, folds have all rows to divide."""
    cells = table.column(SPLIT)
    if cells is None:
        if table.files and not config.folds:
            findings.append(Finding("split", table.name, 1, UNTOLD))
        cells = ["train"] * len(table.files)
        parts = {"train": "train"}
    else:
        parts = parts_by_value(config.splits)
        findings += check_splits(config, table, cells, parts)
    rows: dict[str, list[int]] = {part: [] for part in SPLITS}
    for row, cell in enumerate(cells):
        if part := parts.get(plain(cell)):
            rows[part].append(row)
    made = {part: rows_of(table, part, kept) for part, kept in rows.items()}
    return {part: made[part] for part in made if part != "test" or made[part].files}


def name_segments(table: LabelTable) -> list[Finding]:
    """Put names of segments in place of the files of a table that has columns of start or end."""
    columns = {word: table.others[word] for word in table.times if table.files}
    wrong: list[tuple[int, str]] = []
    for row, line in enumerate(table.lines if columns else ()):
        span = span_of({word: column[row] for word, column in columns.items()})
        if isinstance(span, str):
            wrong.append((line, f"{table.files[row]}: {span}"))
            span = Span(line, line)  # an empty one, which no other row has
        table.files[row] = segment_name(table.files[row], span)
    return list(gather(BAD_TIMES, table.name, wrong))


def find_overlaps(tables: Iterable[LabelTable]) -> Iterator[Finding]:
    """One oddity for each clip that begins before another one of its recording ends."""
    clips: dict[str, list[tuple[Span, LabelTable, int, str]]] = {}
    for table in tables:
        for name, line in dict(zip(table.files, table.lines, strict=True)).items():
            file, span = split_name(name)
            clips.setdefault(file, []).append((span or Span(0, float("inf")), table, line, name))
    for several in clips.values():
        last: dict[str, tuple[Span, LabelTable, int, str]] = {}  # by table, the one that ends last so far
        for span, table, line, name in sorted(several, key=lambda clip: clip[0]) if len(several) > 1 else ():
            for other, there, at, known in last.values():
                if span.start < other.end - ROUNDING:
                    message = f"{name} and {known} of {there.name}" + (f":{at}" if at else "")
                    yield Finding(OVERLAP[there is table], table.name, line, message, error=False)
            if table.title not in last or last[table.title][0].end < span.end:
                last[table.title] = span, table, line, name


def parts_by_value(splits: Mapping[str, object]) -> dict[str, str]:
    """Value of the split column → partition."""
    lists = {part: value if isinstance(value, list | tuple) else [value] for part, value in (splits or SPLITS).items()}
    return {plain(str(value)): part for part, values in lists.items() for value in values}


def check_splits(
    config: DataConfig, table: LabelTable, cells: list[str], parts: Mapping[str, str]
) -> list[Finding]:  # fmt: skip
    """Rows of no partition, which are left out; and values or partitions that no row has."""
    column = config.columns.get(SPLIT, SPLIT)
    there = dict.fromkeys(map(plain, cells))
    lines = zip(cells, table.lines, strict=True)
    other = [(line, f"{column} is '{cell}'") for cell, line in lines if plain(cell) not in parts]
    findings = list(gather("row of no partition, left out", table.name, other, error=False))
    hints = list(dict.fromkeys(filter(str.strip, cells)))
    if config.splits:
        absent = [(value, part) for value, part in parts.items() if value not in there]
        findings += [
            Finding("split", table.name, 1, f"no row of data.splits.{part}: {column}='{value}'{near(value, hints)}")
            for value, part in absent
        ]
    if table.files and not config.folds:
        told = {*parts.values()} if config.splits else set()  # of a partition that it names, each value was looked for
        empty = [part for part in NEEDED if part not in told | {parts.get(value) for value in there}]
        remedy = f"{column} has {', '.join(hints[:6])}; map them by data.splits{example_splits(config.splits, hints)}"
        findings += [Finding("split", table.name, 1, f"no row for {part}: {remedy}") for part in empty]
    return findings


def example_splits(splits: Mapping[str, object], values: Sequence[str]) -> str:
    """`data.splits` for the values of a split column, to be typed in a shell; data.folds where they are too few.

    splits: those that are named already. A value that no usual word tells goes to the first partition that has none.
    """
    made = {part: splits[part] for part in SPLITS if part in splits}
    known = parts_by_value(made) if made else {}
    rest = [value for value in values if plain(value) not in known]
    for part in SPLITS:
        usual = [value for value in rest if plain(value).startswith(SPLITS[part])]
        if part not in made and usual:
            made[part] = usual if len(usual) > 1 else usual[0]
            rest = [value for value in rest if value not in usual]
    if len(rest) <= len(SPLITS):
        made |= dict(zip([part for part in SPLITS if part not in made], rest, strict=False))
    if not made.keys() >= {*NEEDED}:
        return ", or set data.folds"
    texts = (f"{part}: {_in_grammar(made[part])}" for part in SPLITS if part in made)
    return f", as 'data.splits={{{', '.join(texts)}}}'"


def _in_grammar(value: object) -> str:
    """A value, or a list of some, as it is typed in a list of keys; quoted where it is more than a plain word."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_in_grammar, value))}]"
    return str(value) if re.fullmatch(r"\w[\w.-]*", str(value), re.ASCII) else f'"{value}"'


def rows_of(table: LabelTable, part: str, rows: list[int]) -> LabelTable:
    """The rows of one partition as a table."""
    files, lines, cells = ([column[row] for row in rows] for column in (table.files, table.lines, table.cells))
    others = {name: [column[row] for row in rows] for name, column in table.others.items()}
    return LabelTable(table.name, files, lines, cells, others, part, table.times)  # type: ignore[arg-type]
