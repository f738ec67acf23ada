"""How a number, and a table of them, is written: HTML (by the page's template), Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import dataclass
from typing import Any

NONE = "–"  # stands where there is no number
PAGE = 40  # lines of a table that a page holds
LATEX = {
    "\\": r"\textbackslash{}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "−": "$-$", "≈": r"$\approx$", "°": r"$^\circ$", "×": r"$\times$", "Δ": r"$\Delta$", "²": "$^2$",
    "<": "$<$", ">": "$>$", "|": r"\textbar{}", "→": r"$\to$",
    "–": "--", "≥": r"$\geq$", "≤": r"$\leq$", "…": r"\ldots{}",
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One field of a table: its text, a smaller line below it, whether it is the best, what is wrong with it."""

    text: str
    small: str = ""
    bold: bool = False
    state: str = ""  # failed | unfinished | waiting: drawn as a gap


@dataclass(frozen=True)
class Table:
    """A table to be read; `records` are the same rows with every number in full precision, for machines."""

    name: str  # of its files
    title: str
    caption: str
    header: tuple[str, ...]
    rows: list[list[Entry]]
    records: list[dict[str, Any]]
    words: int = 1  # leading columns of text, aligned to the left


def score(value: float) -> str:
    """A correlation: three decimals."""
    return number(value, 3)


def signed(value: float) -> str:
    """A difference of correlations: three decimals and its sign."""
    return NONE if not math.isfinite(value) else f"{value:+z.3f}".replace("-", "−")


def spread(low: float, high: float) -> str:
    """An interval of correlations."""
    return f"[{score(low)}, {score(high)}]" if math.isfinite(low) else ""


def number(value: float | None, decimals: int = 1) -> str:
    """A plain number with thousands apart."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:z,.{decimals}f}".replace("-", "−")  # z: no minus before a rounded zero


def chance(p: float) -> str:
    """A p value."""
    return NONE if not math.isfinite(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


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
    return f"{item:g}" if isinstance(item, float) else str(item)


def markdown(table: Table) -> str:
    """A GitHub table with its title above and its caption below."""

    def line(fields: list[str]) -> str:
        return "| " + " | ".join(re.sub(r"([|<])", r"\\\1", text).replace("\n", " ") for text in fields) + " |"

    def show(entry: Entry) -> str:
        text = f"**{entry.text}**" if entry.bold else entry.text
        return f"{text} {entry.small}".strip()

    rows = [line([show(entry) for entry in row]) for row in table.rows]
    rule = "|" + " --- |" * table.words + " ---: |" * (len(table.header) - table.words)
    return "\n".join([f"### {table.title}", "", line(list(table.header)), rule, *rows, "", table.caption, ""])


def latex(table: Table) -> str:
    r"""A floating table for \usepackage{booktabs}, or a long one for \usepackage{longtable} where it fills a page.

    Small lines (intervals) stand below their numbers. A table of words alone has a last column that is broken into
    lines.
    """
    prose = table.words == len(table.header)
    aligned = "l" * table.words + "r" * (len(table.header) - table.words)
    columns = rf"{aligned[:-1]}p{{0.55\linewidth}}" if prose else aligned
    header = " & ".join(_stack(*_split(text), side) for text, side in zip(table.header, aligned, strict=True))
    header = rf"\toprule {header} \\ \midrule"
    rows = []
    for row in table.rows:
        fields = [_field(entry, side) for entry, side in zip(row, aligned, strict=True)]
        if prose:
            fields[-1] = rf"\rightskip=0pt plus 1fil {_field(row[-1], 'p')}"  # ragged; \raggedright would need array
        rows.append(re.sub(r"^[\[*]", r"{\g<0>}", " & ".join(fields)) + r" \\")  # no option of the row before
    caption = rf"\caption{{{escape(table.title)}. {escape(table.caption)}}} \label{{tab:{table.name}}}"
    style = r"\footnotesize \setlength{\tabcolsep}{4pt}"
    if sum(map(_lines, table.rows)) > PAGE:
        start = [r"\begingroup " + style, rf"\begin{{longtable}}{{{columns}}}", caption + r" \\"]
        start += [header + r" \endfirsthead", header + r" \endhead", r"\bottomrule \endfoot"]
        end = [r"\end{longtable}", r"\endgroup"]
    else:
        start = [r"\begin{table}[t]", r"\centering", caption, style, rf"\begin{{tabular}}{{{columns}}}", header]
        end = [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join([*start, *rows, *end, ""])


def _lines(row: list[Entry]) -> int:
    """Lines of print that a row takes, where about 60 letters of prose fill one."""
    return max(math.ceil(len(entry.text) / 60) + math.ceil(len(entry.small) / 60) for entry in row)


def _field(entry: Entry, side: str) -> str:
    text = rf"\textbf{{{escape(entry.text)}}}" if entry.bold else escape(entry.text)
    return _stack(text, rf"\scriptsize {escape(entry.small)}" if entry.small else "", side)


def _stack(text: str, below: str, side: str) -> str:
    """One line above another, flush with a side (l | r), or in a paragraph (p)."""
    if not below:
        return text
    if side == "p":
        return rf"{text} \newline {{{below}}}"
    return rf"\begin{{tabular}}[t]{{@{{}}{side}@{{}}}}{text} \\ {{{below}}}\end{{tabular}}"


def _split(text: str) -> tuple[str, str]:
    """A column's title, and what it holds in brackets."""
    title, bracket, rest = text.partition(" (")
    return escape(title), escape((bracket + rest).strip())


def escape(text: str) -> str:
    """Text as LaTeX prints it."""
    return re.sub("|".join(map(re.escape, LATEX)), lambda match: LATEX[match.group()], text.replace("\n", " "))


def comma(table: Table) -> str:
    """The records as CSV; an empty field is a number that is not there."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for record in table.records for key in record)))
    writer.writeheader()
    for record in table.records:
        writer.writerow({key: "" if _nan(item) else item for key, item in record.items()})
    return text.getvalue()


def _nan(item: Any) -> bool:
    return isinstance(item, float) and not math.isfinite(item)
