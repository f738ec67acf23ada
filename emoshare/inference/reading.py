"""Many files, read ahead by threads, worked on in groups of bounded size; bad ones are left out and named.

N samples at 16 kHz.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np

from emoshare.core.config import RATE
from emoshare.core.errors import EmoshareError, UnusableClips
from emoshare.core.prefetch import prefetch
from emoshare.core.progress import Meter
from emoshare.inference.recording import Speechless, read_file

log = logging.getLogger("emoshare")
Table = TypeVar("Table")
FILES, SECONDS = 64, 600.0  # recordings, and seconds of audio, that are held and worked on at once, at most


@dataclass
class Reading:
    """The progress of the work on some files.

    Attributes:
        title: what reports of progress begin with.
        total: files in all.
        done: files that are done, those of an earlier attempt included.
        failed: file → what is wrong with it.
        odd: lines about recordings that can be used, but are odd.
        speechless: recordings that nothing can be told from.
        seconds: of audio that was worked on.
    """

    title: str
    total: int
    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    odd: list[str] = field(default_factory=list)
    speechless: Speechless = field(default_factory=Speechless)
    seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def warnings(self) -> list[str]:
        """All that is to be said of recordings that were used."""
        return [*self.odd, *self.speechless.lines()]

    @property
    def speed(self) -> float:
        """Seconds of audio per second of time."""
        return self.seconds / max(time.monotonic() - self.started, 1e-9)

    def tables(
        self, files: Sequence[str], function: Callable[[list[str], list[np.ndarray]], Table], scale: float | None = None
    ) -> Iterator[Table]:
        """`function` of the names and samples (N,) of each group of files, in order, with progress.

        scale: of files of floats, as for `audio.read`.

        The function raises UnusableClips for recordings that it cannot use, and is called again without them.
        """
        meter = Meter(log, self.title)
        with closing(prefetch(partial(self._read, scale=scale), files, ahead=8)) as recordings:
            for names, waves in self._groups(recordings):
                yield usable(function, names, waves, self.failed)
                self.done, self.seconds = self.done + len(names), self.seconds + sum(map(len, waves)) / RATE
                passed = f"{self.done}/{self.total} files, {self.seconds / 3600:.2f} h of audio"
                part = min((self.done + len(self.failed)) / self.total, 1.0)
                meter.report(f"{passed}, {self.speed:.1f} × real time", part)

    def _read(self, name: str, scale: float | None) -> tuple[str, np.ndarray | EmoshareError]:
        """A file's samples (N,) at 16 kHz, or what is wrong with it."""
        try:
            wave, odd = read_file(name, scale)
        except EmoshareError as error:
            return name, error
        self.odd += filter(None, [odd])
        return name, wave

    def _groups(
        self, recordings: Iterator[tuple[str, np.ndarray | EmoshareError]]
    ) -> Iterator[tuple[list[str], list[np.ndarray]]]:
        """Recordings in groups of a bounded size; those that could not be read are failed."""
        names: list[str] = []
        waves: list[np.ndarray] = []
        for name, wave in recordings:
            if isinstance(wave, EmoshareError):
                self.failed[name] = str(wave)
                continue
            self.speechless.note(name, len(wave) / RATE, wave)
            names.append(name)
            waves.append(wave)
            if len(names) >= FILES or sum(map(len, waves)) > SECONDS * RATE:
                yield names, waves
                names, waves = [], []
        if names:
            yield names, waves


def usable(
    function: Callable[[list[str], list[np.ndarray]], Table], names: list[str], waves: list[np.ndarray],
    failed: dict[str, str],
) -> Table:  # fmt: skip
    """`function` of the recordings that it can use; the others go to `failed`. It takes an empty group, too."""
    while True:
        try:
            return function(names, waves)
        except UnusableClips as error:
            failed |= {names[row]: f"{names[row]}: {error.reason}" for row in error.rows}
            good = [row for row in range(len(names)) if row not in set(error.rows)]
            names, waves = [names[row] for row in good], [waves[row] for row in good]
