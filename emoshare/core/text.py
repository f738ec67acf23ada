"""Small words: the nearest of several names, and tables for the terminal."""

from __future__ import annotations

import difflib
import unicodedata
from typing import Any


def near(word: str, words: list[str]) -> str:
    """`; did you mean 'x'?` for the closest of words, else nothing."""
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""


def render(grid: Any) -> str:
    """A rich table as text, as wide as it needs."""
    from rich.console import Console

    console = Console(width=160)
    with console.capture() as capture:
        console.print(grid)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def printable(text: str) -> str:
    """The text without control characters (a space stands for each), which a terminal would obey."""
    return "".join(" " if unicodedata.category(letter) == "Cc" else letter for letter in text)
