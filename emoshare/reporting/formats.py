"""The formats of numbers and tables: HTML (by the page's template), Markdown, LaTeX and CSV.

CSV is written by pandas, from the table's frame. What is read by people is not: a field has a number, its interval
below it, a mark and a link. pandas' Markdown needs another package and escapes nothing; its LaTeX has no second line
in a field, and repeats a long table's caption, here a paragraph, on every page.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from emoshare.core.text import printable
from emoshare.reporting.comparison import LEVEL

if TYPE_CHECKING:
    from pandas import DataFrame

_narrow = ContextVar("narrow", default=False)
NONE = "–"  # shown where there is no number
WRAPPED = 50  # letters of a small line in LaTeX that are broken where there are more
PAGE = 40  # lines of a table that a page of print holds
LATEX = {
    "\\": r"\textbackslash{}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "−": "$-$", "≈": r"$\approx$", "°": r"$^\circ$", "×": r"$\times$", "Δ": r"$\Delta$", "²": "$^2$",
    "<": "$<$", ">": "$>$", "|": r"\textbar{}", "→": r"$\to$",
    "–": "--", "≥": r"$\geq$", "≤": r"$\leq$", "…": r"\ldots{}",
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One field of a table.

    Attributes:
        text: what is read.
        small: a smaller line below it.
        bold: whether it is the best of its column.
        state: a key of `loaded.STATES`: drawn as a gap.
        link: where a click leads.
        sort: a number to sort by, where the text does not begin with it.
    """

    text: str
    small: str = ""
    bold: bool = False
    state: str = ""
    link: str = ""
    sort: float | None = None


@dataclass(frozen=True)
class Table:
    """A table to be read; `records` are the same rows with every number in full precision, for machines."""

    name: str  # of its files
    title: str
    caption: str
    header: tuple[str, ...]
    rows: list[list[Entry]]
    records: list[dict[str, Any]]
    text_columns: int = 1  # leading columns of text, aligned to the left

    @cached_property
    def frame(self) -> DataFrame:
        """The records, a column each: numbers as numbers (Int64 where all are whole, else float64), texts as texts."""
        import pandas as pd

        frame = pd.DataFrame(self.records, dtype=object)
        kinds = {name: pd.api.types.infer_dtype(frame[name], skipna=True) for name in frame}
        # pandas alone makes floats of whole numbers with a gap: 13.0 for epoch 13
        return frame.astype({name: "Int64" for name, kind in kinds.items() if kind == "integer"}).infer_objects()

    @property
    def prose(self) -> bool:
        """Whether all columns are text."""
        return self.text_columns == len(self.header)

    def _repr_markdown_(self) -> str:
        """The table in a notebook."""
        return markdown(self)


@contextmanager
def narrow() -> Iterator[None]:
    """Tables that are made within fit a column of print: two decimals, no intervals, no deviations."""
    token = _narrow.set(True)
    try:
        yield
    finally:
        _narrow.reset(token)


def is_narrow() -> bool:
    """Whether tables are to fit a column of print."""
    return _narrow.get()


def score(value: float) -> str:
    """A correlation: three decimals, two where it is narrow."""
    return number(value, 2 if is_narrow() else 3)


def delta(value: float) -> str:
    """A difference of correlations: as many decimals as a correlation has, and its sign."""
    return NONE if not math.isfinite(value) else f"{value:+z.{2 if is_narrow() else 3}f}".replace("-", "−")


def interval(low: float, high: float) -> str:
    """An interval of correlations; nothing where it is narrow."""
    return f"[{score(low)}, {score(high)}]" if math.isfinite(low) and not is_narrow() else ""


def in_brackets(drawn: str) -> str:
    """The part of a caption about intervals, of which narrow tables have none; drawn: by the bootstrap."""
    return "" if is_narrow() else f"; in brackets the 95 % bootstrap interval over {drawn}"


def number(value: float | None, decimals: int = 1) -> str:
    """A plain number with separated thousands."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:z,.{decimals}f}".replace("-", "−")  # z: no minus before a rounded zero


def p_value(p: float) -> str:
    """A p value with three decimals, or as many as show on which side of LEVEL it lies."""
    if not math.isfinite(p):
        return NONE
    if p < 0.001:
        return "< 0.001"
    texts = (f"{p:.{decimals}f}" for decimals in range(3, 9))
    return next((text for text in texts if (float(text) < LEVEL) == (p < LEVEL)), f"< {LEVEL}")


def duration(seconds: float | None) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    if seconds < 120:
        return f"{number(seconds)} s"
    return f"{number(seconds / 60)} min" if seconds < 7200 else f"{number(seconds / 3600)} h"


def size(count: float | None) -> str:
    """Bytes in the nearest decimal unit."""
    if count is None or not math.isfinite(count):
        return NONE
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{number(count, 0 if unit == 'B' else 1)} {unit}"
        count /= 1000
    return f"{number(count)} TB"


def value(item: Any) -> str:
    """A config value."""
    if item is None:
        return "null"
    if isinstance(item, list):
        return f"[{','.join(map(value, item))}]"
    if isinstance(item, dict) and "name" in item:
        return str(item["name"])  # a backbone among several
    return f"{item:g}" if isinstance(item, float) else str(item)


def markdown(table: Table) -> str:
    """A GitHub table with its title above and its caption below."""

    def show(entry: Entry) -> str:
        text = escape_markdown(entry.text)
        return f"{f'**{text}**' if entry.bold else text} {escape_markdown(entry.small)}".strip()

    header = [escape_markdown(text) for text in table.header]
    rule = [":---"] * table.text_columns + ["---:"] * (len(header) - table.text_columns)
    lines = [header, rule, *([show(entry) for entry in row] for row in table.rows)]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"### {table.title}\n\n{text}\n\n{escape_markdown(table.caption)}\n"


def escape_markdown(text: str) -> str:
    """Text as Markdown shows it: no HTML, no link or picture, no new column."""
    return re.sub(r"([|<`\\]|(?<=\])\()", r"\\\1", printable(text))


def latex(table: Table) -> str:
    r"""A floating table, or a long one where it fills a page; its first line names the packages that it needs.

    Small lines (intervals) are below their numbers. A table of text has a last column that is broken into lines.
    """
    sides = ["l"] * table.text_columns + ["r"] * (len(table.header) - table.text_columns)
    header = [_stack(*_split_title(text), side) for text, side in zip(table.header, sides, strict=True)]
    sides[-1] = "p" if table.prose else sides[-1]
    columns = "".join(sides).replace("p", r"p{0.55\linewidth}")
    rows = [" & ".join(_field(*field) for field in zip(row, sides, strict=True)) + r" \\" for row in table.rows]
    rows = [re.sub(r"^[\[*]", r"{\g<0>}", row) for row in rows]  # LaTeX would take it for an option of the row before
    top = rf"\toprule {' & '.join(header)} \\ \midrule"
    caption = rf"\caption{{{escape(table.title)}. {escape(table.caption)}}} \label{{tab:{table.name}}}"
    style = rf"\footnotesize \setlength{{\tabcolsep}}{{{2 if is_narrow() else 4}pt}}"
    if sum(map(_lines, table.rows)) > PAGE and not is_narrow():  # a long table does not work in a column
        start = [rf"\begingroup {style}", rf"\begin{{longtable}}{{{columns}}}", caption + r" \\"]
        start += [top + r" \endfirsthead", top + r" \endhead", r"\bottomrule \endfoot"]
        end = [r"\end{longtable}", r"\endgroup"]
    else:
        start = [r"\begin{table}[t]", r"\centering", caption, style, rf"\begin{{tabular}}{{{columns}}}", top]
        end = [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    needs = "% needs \\usepackage{booktabs}" + " and \\usepackage{longtable}" * ("longtable" in end[0])
    return "\n".join([needs, *start, *rows, *end, ""])


def _lines(row: list[Entry]) -> int:
    """Lines of print that a row takes, where about 60 letters of prose fill one."""
    return max(math.ceil(len(entry.text) / 60) + math.ceil(len(entry.small) / 60) for entry in row)


def _field(entry: Entry, side: str) -> str:
    text = rf"\textbf{{{escape(entry.text)}}}" if entry.bold else escape(entry.text)
    text = rf"\rightskip=0pt plus 1fil {text}" if side == "p" else text  # ragged; \raggedright would need array
    small = "" if is_narrow() and entry.small.startswith("[") else entry.small
    return _stack(text, rf"\scriptsize {escape(small)}" if small else "", side)


def _stack(text: str, below: str, side: str) -> str:
    """One line above another, flush with a side (l | r), or in a paragraph (p); a long lower one is broken."""
    if not below:
        return text
    if side == "p":
        return rf"{text} \newline {{{below}}}"
    side = r"p{0.4\linewidth}" if len(below) > WRAPPED else side
    return rf"\begin{{tabular}}[t]{{@{{}}{side}@{{}}}}{text} \\ {{{below}}}\end{{tabular}}"


def _split_title(text: str) -> tuple[str, str]:
    """A column's title, and what it holds in brackets."""
    title, bracket, content = text.partition(" (")
    return escape(title), escape((bracket + content).strip())


def escape(text: str) -> str:
    """Text as LaTeX prints it."""
    return re.sub("|".join(map(re.escape, LATEX)), lambda match: LATEX[match.group()], printable(text))


def to_csv(table: Table) -> str:
    """The records as CSV; an empty field is a number that is not there."""
    return table.frame.astype(object).map(_csv_field).to_csv(index=False)


def _csv_field(item: Any) -> Any:
    """No NaN, and no text that a spreadsheet would take for a formula: an apostrophe before it keeps it text."""
    if isinstance(item, float) and not math.isfinite(item):
        return ""
    if isinstance(item, str):
        text = printable(item)
        return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text
    return item
