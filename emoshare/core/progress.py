"""Progress of a long computation, reported through the log: the command line draws it, a log file keeps it as text."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

MINUTE = 60  # seconds
BAR = 5  # log level, below DEBUG: for a bar alone, not worth a line in a log file


@dataclass(frozen=True)
class Step:
    """One report of progress."""

    text: str  # the work that is done and the rest, without a newline
    done: float  # from 0 to 1


def report(log: logging.Logger, text: str, done: float, level: int = logging.DEBUG) -> None:
    """Report progress: lines of it are details, while a bar on a terminal shows the newest."""
    log.log(level, "%s", text, extra={"step": Step(text, done)})


class Meter:
    """Reports of a loop with short steps: to a bar four times a second, to a log file every tenth and every minute."""

    def __init__(self, log: logging.Logger, title: str) -> None:
        self.log, self.title = log, title
        self.begun = self.shown = self.noted = time.monotonic()
        self.tenth = 0

    def report(self, text: str, done: float) -> None:
        """Report title, text and the time left; done: from 0 to 1."""
        now, tenth = time.monotonic(), int(done * 10)
        if tenth == self.tenth and now - self.shown < 0.25:
            return
        left = f" · {duration((now - self.begun) * (1 - done) / done)} left" if 0 < done < 1 else ""
        note = tenth != self.tenth or now - self.noted >= MINUTE
        report(self.log, f"{self.title} · {text}{left}", done, logging.DEBUG if note else BAR)
        self.shown, self.tenth, self.noted = now, tenth, now if note else self.noted


def duration(seconds: float) -> str:
    """`20 s`, `3 min`, `1 h 10`, `2 d 3 h`: as exact as somebody who waits needs it."""
    if seconds < 60:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d}" if hours < 24 else f"{hours // 24} d {hours % 24} h"
