"""Columns that are made of others: of a file's name, of a category, of several columns; and the rows that count."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

from emoshare.core.config import DataConfig
from emoshare.core.text import near, near_or_all
from emoshare.data.audio import SUFFIXES
from emoshare.data.labels import HIDDEN, Finding, gather
from emoshare.data.sheet import Sheet
from emoshare.data.tables import FILENAME, find_columns, plain

FILES = "files"  # in the place of a table: every sound file is a row
LABEL = "label"  # what data.columns calls the column of categories
INDEX = ("file", "start", "end")  # columns of audformat's tables


def sheet_of_files(files: list[str]) -> Sheet:
    """A table of all sound files, whose line is their number in order."""
    sounds = [file for file in sorted(files) if file.lower().endswith(SUFFIXES)]
    return Sheet([FILENAME], [(number, [file]) for number, file in enumerate(sounds, 1)], [], [], "")


def columns_of(config: DataConfig, sheet: Sheet) -> dict[str, str]:
    """The names of columns: emoshare's → that in the table; those of audformat's tables need no key."""
    columns = {word: str(name) for word, name in config.columns.items()}
    if "file" in columns or find_columns(sheet.header, FILENAME) or not find_columns(sheet.header, "file"):
        return columns
    index = [word for word in INDEX if find_columns(sheet.header, word)]
    return {word: word for word in index} | columns


def derive(sheet: Sheet, config: DataConfig, name: str, found: list[Finding], part: str, hidden: bool) -> bool:
    """Give a sheet the columns that the config names, and leave out the rows that do not count.

    Whether all columns are there; what is wrong goes to `found`.

    Args:
        part: the partition that the table is of; empty where it is of all.
        hidden: labels may be absent.
    """
    columns = columns_of(config, sheet)
    file = columns.pop("file", FILENAME)
    if hidden:  # it may lack labels and what else is told of the other clips
        columns = {word: title for word, title in columns.items() if word in INDEX or find_columns(sheet.header, title)}
    if "{" in file:
        good = add_template(sheet, file.replace("{split}", part or "{split}"), name, found)
    else:
        good = file == FILENAME or add_columns(sheet, {"file": file}, name, found)
    if good and config.pattern:
        add_groups(sheet, re.compile(config.pattern), name, found)
    good &= add_columns(sheet, columns, name, found)
    if not good or not keep_rows(sheet, {} if hidden and is_masked(sheet, config) else config.rows, name, found):
        return False
    if LABEL not in columns and not config.classes and "(?P<label>" not in (config.pattern or ""):
        return True
    if not find_columns(sheet.header, LABEL):
        if hidden:
            return True
        found.append(Finding("header", name, 1, "no column 'label'; data.columns={label: its name} says which it is"))
        return False
    add_classes(sheet, classes_of(config), name, found, hidden)
    return True


def add_template(sheet: Sheet, template: str, name: str, found: list[Finding]) -> bool:
    """The column of file names, as `dia{Dialogue_ID}_utt{Utterance_ID}` makes it of others; whether these are there."""
    words = re.findall(r"{([^{}]*)}", template)
    missing = [word for word in dict.fromkeys(words) if len(find_columns(sheet.header, word)) != 1]
    found += [
        Finding("header", name, 1, f"no column '{word}'{near(word, sheet.header)} (data.columns.file)")
        for word in missing
    ]
    if missing:
        return False
    places = {word: find_columns(sheet.header, word)[0] for word in words}
    add_column(
        sheet, FILENAME, lambda row: re.sub(r"{([^{}]*)}", lambda at: row[places[at[1]]].strip(), template)
    )  # fmt: skip
    return True


def add_columns(sheet: Sheet, columns: Mapping[str, str], name: str, found: list[Finding]) -> bool:
    """Give columns of a sheet further names; whether all are there.

    columns: what emoshare calls a column (file, split, a target, a group) → its name in the table.
    """
    problems = []
    header = list(sheet.header)
    for word, column in columns.items():
        at = find_columns(header, column)
        if len(at) != 1:
            hint = "" if at else sheet.other_sheets + near_or_all(column, header)
            what = f"{'two columns' if at else 'no column'} '{column}'{hint} (data.columns.{word})"
            problems.append(Finding("header", name, 1, what))
            continue
        add_column(sheet, FILENAME if word == "file" else word, lambda row, place=at[0]: row[place])  # type: ignore[misc]
    found += problems
    return not problems


def add_column(sheet: Sheet, title: str, cell: Callable[[list[str]], str]) -> None:
    """Append a column; another one of that name is not meant."""
    cells = [cell(row) for _, row in sheet.rows]
    for same in find_columns(sheet.header, title):
        sheet.header[same] += " of the table"
    sheet.header.append(title)
    for (_, row), text in zip(sheet.rows, cells, strict=True):
        row.append(text)


def add_groups(sheet: Sheet, pattern: re.Pattern[str], name: str, found: list[Finding]) -> None:
    """A column for each named group of `data.pattern` in the file names; rows that it does not fit are left out."""
    at = find_columns(sheet.header, FILENAME)
    if len(at) != 1:
        return  # said where the column is looked for
    fits = {id(row): pattern.search(row[at[0]].strip().replace("\\", "/")) for _, row in sheet.rows}
    other = [(line, row[at[0]].strip()) for line, row in sheet.rows if fits[id(row)] is None]
    found += gather("file name that data.pattern does not fit, left out", name, other, error=False)
    sheet.rows[:] = [(line, row) for line, row in sheet.rows if fits[id(row)]]
    for group in pattern.groupindex:
        add_column(sheet, group, lambda row, group=group: (fits[id(row)] or {})[group] or "")  # type: ignore[misc]


def is_masked(sheet: Sheet, config: DataConfig) -> bool:
    """Whether no row has a label: `data.rows`, which may ask for one, is then for the other partitions."""
    places = [place for target in config.targets for place in find_columns(sheet.header, target)]
    asked = any(find_columns(config.targets, str(column)) for column in config.rows)
    return asked and all(plain(row[place]) in HIDDEN for _, row in sheet.rows for place in places)


def keep_rows(sheet: Sheet, wanted: Mapping[str, object], name: str, found: list[Finding]) -> bool:
    """Leave out the rows whose cells are not those of `data.rows`; whether its columns are there."""
    problems = []
    for column, pattern in wanted.items():
        at = find_columns(sheet.header, str(column))
        if len(at) != 1:
            hint = near(str(column), sheet.header)
            problems.append(Finding("header", name, 1, f"no column '{column}'{hint} (data.rows)"))
            continue
        keep = [re.fullmatch(str(pattern), row[at[0]].strip()) is not None for _, row in sheet.rows]
        if keep and not any(keep):
            example = f"; the first is '{sheet.rows[0][1][at[0]].strip()}'"
            problems.append(Finding("table", name, 1, f"no row whose {column} fits data.rows: {pattern}{example}"))
        sheet.rows[:] = [row for row, kept in zip(sheet.rows, keep, strict=True) if kept]
    found += problems
    return not problems


def classes_of(config: DataConfig) -> dict[str, str]:
    """Cell of the label column, as `plain` has it → the target that it is."""
    known: dict[str, str] = {}
    for target in config.targets:
        values = config.classes.get(target, target)
        for value in values if isinstance(values, list | tuple) else [values]:
            known[plain(str(value))] = target
    return known


def words_of(cell: str, known: Mapping[str, str]) -> list[str]:
    """The categories in a cell, as `plain` has them: one, or several as `a;b`, `a, b`, `A:F` or `["a", "b"]`."""
    text = cell.strip()
    if plain(text) in known:
        return [plain(text)]
    if listed := re.fullmatch(r"\[(.*)\]", text, re.DOTALL):
        try:
            words = json.loads(text)
        except ValueError:  # as Python or numpy write it
            words = [quoted[1] for quoted in re.findall(r"""(["'])(.*?)\1""", text)] or re.split(r"[;,\s]", listed[1])
    else:
        words = re.split(r"[;,:|/]", text)
        if any(re.fullmatch(r"[\d.]+%?", word.strip()) and plain(word) not in known for word in words):
            words = [text]  # numbers beside categories say how often, or how strong
    return [plain(str(word)) for word in words if str(word).strip()]


def add_classes(sheet: Sheet, known: Mapping[str, str], name: str, found: list[Finding], hidden: bool) -> None:
    """A column of 0 and 1 for each target of a column of categories, or of counts where a cell has several.

    Rows of other categories are left out. hidden: those without one are not.
    """
    at = find_columns(sheet.header, LABEL)[0]
    votes = {id(row): words_of(row[at], known) for _, row in sheet.rows}
    masked = {id(row) for _, row in sheet.rows if hidden and plain(row[at]) in HIDDEN}
    kept = {key for key, words in votes.items() if key in masked or any(word in known for word in words)}
    other = [(line, f"its label is '{row[at].strip()}'") for line, row in sheet.rows if id(row) not in kept]
    found += gather("row of no class in data.classes, left out", name, other, error=False)
    sheet.rows[:] = [(line, row) for line, row in sheet.rows if id(row) in kept]
    for target in dict.fromkeys(known.values()):
        words = [word for word, of in known.items() if of == target]
        counts = {key: str(sum(map(votes[key].count, words))) for key in kept - masked}
        add_column(sheet, target, lambda row, counts=counts: counts.get(id(row), ""))  # type: ignore[misc]
