"""Output to the terminal: log lines, and the newest report of progress: as a bar on a terminal, else as a line.

Such a line is printed after a minute in which nothing else was; in a long command after a twentieth of its time, or ten
minutes.
"""

from __future__ import annotations

import codecs
import logging
import os
import select
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

from emoshare.core.progress import BAR

if TYPE_CHECKING:
    from rich.live import Live

    from emoshare.core.progress import Step

log = logging.getLogger("emoshare")
SHORTEST_NAME = 24  # columns of a run's name that are left in a line that is cut
LIBRARIES = ("pytorch_lightning", "lightning", "transformers", "wandb")

SPELLED = {
    "±": "+-", "–": "-", "−": "-", "·": "|", "×": "x", "…": "...", "→": "->", "≥": ">=", "≤": "<=", "≈": "~", "²": "^2",
}  # fmt: skip


def _spell(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks by some that each has."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    return "".join(SPELLED.get(letter) or ascii(letter)[1:-1] for letter in text), error.end


codecs.register_error("emoshare", _spell)


def replace_missing_characters() -> None:
    """Print what the terminal or pipe has no character for in others, as +- for ±, in place of an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not in a notebook
            stream.reconfigure(errors="emoshare")


class LineHandler(logging.Handler):
    """Prints log lines on standard output; how far a run is on a terminal as a bar below them, else now and then.

    progress: whether that is wanted.
    """

    def __init__(self, progress: bool) -> None:
        super().__init__()
        self.progress = progress
        self.begun = self.printed = time.monotonic()
        self.live: Live | None = None
        self.details = False

    def emit(self, record: logging.LogRecord) -> None:
        step: Step | None = getattr(record, "step", None)
        if step is not None and self.progress and sys.stdout.isatty():
            self._draw(step)
        elif record.levelno >= (logging.DEBUG if self.details else logging.INFO):
            self._print(self.format(record))
        elif step is not None and self.progress and self._silent_for_long():
            self._print(step.text)

    def _silent_for_long(self) -> bool:
        now = time.monotonic()
        return now - self.printed >= min(max((now - self.begun) / 20, 60), 600)

    def _print(self, line: str) -> None:
        self.printed = time.monotonic()
        line = fit(line, columns()) if sys.stdout.isatty() else line
        try:
            if self.live is not None:
                self.live.console.print(line, markup=False, highlight=False, soft_wrap=True)
            else:
                print(line, flush=True)
        except BrokenPipeError:  # the work goes on, whether or not somebody reads of it
            if not drop_output():
                raise

    def _draw(self, step: Step) -> None:
        from rich.live import Live

        if self.live is None:
            self.live = Live(refresh_per_second=4, transient=True)
            self.live.start()
        self.live.update(_bar(step))
        if step.done >= 1:
            self.clear()

    def clear(self) -> None:
        """Take the bar off the terminal, as before a line that is printed by other means."""
        if self.live is not None:
            self.live.stop()
            self.live = None

    def close(self) -> None:
        self.clear()
        super().close()


def drop_output() -> bool:
    """Whether nobody reads standard output any longer, as after `| head`; what is printed goes nowhere then."""
    try:
        number, poll = sys.stdout.fileno(), select.poll()
    except (AttributeError, OSError):  # no file, as in a notebook; or a system without it
        return False
    poll.register(number, 0)
    gone = bool(poll.poll(0))  # no events: it tells of a closed end alone
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return gone


def columns() -> int:
    """The width of the terminal."""
    return shutil.get_terminal_size().columns


def fit(line: str, width: int) -> str:
    """A run's line with the end of its name cut off where it is wider: what comes after the first ` · ` is its score.

    Other lines stay as they are, and so does one of which too little would be left.
    """
    name, dot, rest = line.partition(" · ")
    kept = width - len(dot + rest) - 1
    return f"{name[:kept]}…{dot}{rest}" if dot and len(line) > width and kept >= SHORTEST_NAME else line


def _bar(step: Step) -> Any:
    """A bar of 10 columns and its text, which is cut at the terminal's width."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=10)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    grid.add_row(ProgressBar(total=1, completed=step.done, width=10), Text(fit(step.text, columns() - 13)))
    return grid


def speak(verbose: bool = False, progress: bool = True) -> None:
    """Print emoshare's log lines; with `verbose` its details and what libraries say, with `progress` how far it is."""
    replace_missing_characters()
    log.propagate = False
    log.setLevel(BAR)  # reports of progress are details; the handler decides on what is printed
    handler = next((handler for handler in log.handlers if isinstance(handler, LineHandler)), None)
    if handler is None:
        handler = LineHandler(progress)
        log.addHandler(handler)
    handler.progress, handler.details = progress, verbose
    handler.begun = handler.printed = time.monotonic()
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.INFO if verbose else logging.WARNING)


def quiet() -> None:
    """Take the bar off the terminal: an error or a table comes next."""
    for handler in log.handlers:
        if isinstance(handler, LineHandler):
            handler.clear()


def fail(message: str, status: int = 1) -> int:
    """Print a message to stderr: each mistake in it begins with the program's name; indented lines belong to one."""
    for line in message.splitlines():
        sys.stderr.write(f"{'' if line.startswith(' ') else 'emoshare: '}{line}\n")
    return status
