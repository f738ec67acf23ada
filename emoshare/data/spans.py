"""Clips that are a segment of a recording: `file#t=start,end` in seconds, as media fragments of the web are called.

The name is all that is kept of a segment: `audio.read` cuts what it says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

SEGMENT = re.compile(r"(.+)#t=(\d+(?:\.\d+)?)(?:,(\d+(?:\.\d+)?))?", re.DOTALL)
TIME = re.compile(r"(?:(\d+) days? \+?)?(\d+):(\d+):(\d+(?:[.,]\d+)?)")  # pandas' timedeltas, a subtitle's times
NO_TIME = ("", "nat", "nan", "none", "null")  # cells of an end that is the recording's, in lower case
ROUNDING = 0.01  # seconds: tables give times so exactly, and ends may lie so far behind that of the recording


class Span(NamedTuple):
    """Where a segment begins and ends, in seconds; the end is infinite where it is the recording's."""

    start: float
    end: float

    def samples(self, rate: int, count: int) -> tuple[int, int]:
        """Its first sample, and the one behind its last, of a recording of `count` samples. ValueError."""
        seconds = count / rate
        if self.start >= seconds or (self.end > seconds + ROUNDING and np.isfinite(self.end)):
            remedy = "correct the segment's times, or leave start and end out where clips are cut already"
            raise ValueError(f"the recording ends at {seconds:.6g} s; {remedy}")
        first, last = (min(round(time * rate), count) if np.isfinite(time) else count for time in self)
        if first >= last:
            raise ValueError("the segment holds no sample; correct its times")
        return first, last


def segment_name(file: str, span: Span) -> str:
    """The name of a segment; that of the recording where it is all of it."""
    end = f",{decimal(span.end)}" if np.isfinite(span.end) else ""
    return f"{file}#t={decimal(span.start)}{end}" if end or span.start else file


def decimal(seconds: float) -> str:
    """Seconds to the microsecond, without zeros at the end."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def split_name(name: str) -> tuple[str, Span | None]:
    """The recording of a clip, and its span; None where the clip is a file."""
    match = SEGMENT.fullmatch(name)
    return (match[1], Span(float(match[2]), float(match[3] or "inf"))) if match else (name, None)


def recording_of(name: str) -> str:
    """The file that a clip is in."""
    return split_name(name)[0]


def span_of(cells: Mapping[str, str]) -> Span | str:
    """The span in the cells of start and end, where there are both; or what is wrong with them."""
    start, end = (seconds_of(cells.get(word, ""), empty) for word, empty in (("start", 0.0), ("end", float("inf"))))
    if start is None or end is None:
        strange = [f"{word}='{cells[word]}'" for word, time in (("start", start), ("end", end)) if time is None]
        return f"{' and '.join(strange)}: must be seconds, or a time as 0 days 00:00:01.5"
    return Span(start, end) if start < end else f"start {cells.get('start') or 0} is not before end {cells['end']}"


def seconds_of(cell: str, empty: float) -> float | None:
    """Seconds of a time: a number, or `0 days 00:00:01.5`, `00:00:01,5`; `empty` without one, None of other text."""
    text = cell.strip().lower()
    if text in NO_TIME:
        return empty
    if re.fullmatch(r"\d*[.,]?\d+(?:e[+-]?\d+)?|\d+[.,]", text):
        return float(text.replace(",", "."))
    if not (match := TIME.fullmatch(text)):
        return None
    days, hours, minutes = (int(part or 0) for part in match.groups()[:3])
    return ((days * 24 + hours) * 60 + minutes) * 60 + float(match[4].replace(",", "."))
