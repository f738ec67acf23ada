"""The keys that fit label tables, for who has not named their columns yet."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np

from emoshare.core.config import DataConfig
from emoshare.core.schema import MISSING
from emoshare.data.derived import FILES
from emoshare.data.labels import HIDDEN, to_numbers
from emoshare.data.sheet import Sheet
from emoshare.data.tables import FILENAME, decimal_points, plain, read_table_of

GROUPS = (
    "speaker", "speaker_id", "spkr", "actor", "subject", "gender", "sex", "country", "language", "accent", "session",
    "age_group", "ethnicity", "race",
)  # fmt: skip
NO_LABELS = ("start", "end", "duration", "seconds", "age", "id", "index", *GROUPS)  # numbers, but none of emotion
TABLES = 6  # that are named


def suggest_columns(config: DataConfig) -> str:
    """`; the tables have these columns: …` for the tables of train and devel; empty where nothing is found.

    Label columns hold numbers from 0 to 1 alone, in both tables. Where a table is not there, others are named.
    """
    root, sheets = Path(config.root).expanduser(), []
    if config.table == FILES or config.root == MISSING:
        return ""
    for name in (config.table or config.train, config.table or config.devel):
        try:
            sheets.append(read_table_of(root, name))
        except FileNotFoundError:
            there = sorted(str(path.relative_to(root)) for kind in ("", "*/") for path in root.glob(f"{kind}*.[ct]sv"))
            tables = f"; there are the tables {', '.join(there[:TABLES])}" if there else ""
            where = "data.table" if config.table else "data.train and data.devel"
            return f"; there is no table {name} in {root}: set {where}{tables}"
        except (OSError, ValueError, csv.Error):  # what is wrong with it is said where it is read
            return ""
    first, second = ({plain(name): name for name in sheet.header} for sheet in sheets)
    shared = [first[name] for name in first if name in second and name not in ("", plain(FILENAME))]
    spans = {name: span for name in shared if (span := _span(name, sheets)) and plain(name) not in NO_LABELS}
    labels = [name for name, (low, high) in spans.items() if low >= 0 and high <= 1]
    groups = [plain(name) for name in shared if plain(name) in GROUPS]
    keys = [_key("data.targets", labels), _key("data.groups", groups)]
    texts = [f"the tables have these columns: {' '.join(filter(None, keys))}"] if labels else []
    others = [f"{name} ({low:g} to {high:g})" for name, (low, high) in spans.items() if name not in labels]
    if others:
        texts.append(f"numbers outside 0 to 1 are labels by data.range or data.normalize: {', '.join(others)}")
    return "".join(f"; {text}" for text in texts)


def _span(name: str, sheets: list[Sheet]) -> tuple[float, float] | None:
    """The least and the largest number of a column; None where it holds something else, or nothing."""
    values: list[float] = []
    for sheet in sheets:
        at = [plain(title) for title in sheet.header].index(plain(name))
        cells = [[row[at]] for _, row in sheet.rows if plain(row[at]) not in HIDDEN]
        values += [number for row in decimal_points(cells) for number in to_numbers(row)]
    return (min(values), max(values)) if values and np.isfinite(values).all() else None


def _key(key: str, names: list[str]) -> str:
    """A key with its columns, as it is typed in a shell; empty where there are none."""
    words = (name if re.fullmatch(r"[^\W\d][\w.+-]*", name) else f'"{name}"' for name in names)
    return f"'{key}=[{','.join(words)}]'" if names else ""
