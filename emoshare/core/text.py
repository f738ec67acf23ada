"""Small words: the nearest of several names, and tables for the terminal."""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path


def near(word: str, words: list[str], alike: float = 0.5) -> str:
    """`; did you mean 'x'?` for the closest of words, else nothing. alike: how much it must be, of 1."""
    close = difflib.get_close_matches(word, words, n=1, cutoff=alike)
    return f"; did you mean '{close[0]}'?" if close else ""


def near_or_all(word: str, words: Sequence[str], alike: float = 0.5) -> str:
    """The closest of words as `near` says it; where none is, those that there are."""
    filled = [title for title in words if title]
    return near(word, filled, alike) or (f"; there are {several(filled, 8)}" if filled else "")


def search_place(path: str) -> str:
    """` (looked for in /home/me)` for a relative path, else nothing."""
    return "" if Path(os.path.expanduser(path)).is_absolute() else f" (looked for in {Path.cwd()})"


def several(names: Sequence[str], shown: int = 3) -> str:
    """The first names of a list, and how many more there are."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")


def console_table(columns: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table for the terminal, as wide as its cells, without rules; it ends with a line break.

    Args:
        columns: their titles.
        rows: the cells of each row, as plain text; a cell may have several lines.
        left: how many columns, from the first, are flush left; the others, as those of numbers, flush right.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False)
    for number, title in enumerate(columns):
        grid.add_column(Text(title), justify="left" if number < left else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*map(Text, row))
    console = Console(width=100_000, color_system=None)  # no cell is cut
    with console.capture() as capture:
        console.print(grid)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def printable(text: str) -> str:
    """The text without control characters (a space stands for each), which a terminal would obey."""
    return "".join(" " if unicodedata.category(letter) == "Cc" else letter for letter in text)
