"""How far a long computation is, said through the log: the command line draws it, a log file keeps it as text."""

from __future__ import annotations

import logging
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One report of progress."""

    text: str  # what is done and what is left, without a newline
    done: float  # from 0 to 1


def report(log: logging.Logger, text: str, done: float) -> None:
    """Report progress at level DEBUG: lines of it are details, while a bar on a terminal shows the newest."""
    log.debug("%s", text, extra={"step": Step(text, done)})


def duration(seconds: float) -> str:
    """`20 s`, `3 min`, `1 h 10`, `2 d 3 h`: as exact as somebody who waits needs it."""
    if seconds < 60:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d}" if hours < 24 else f"{hours // 24} d {hours % 24} h"
