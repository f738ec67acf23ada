"""Variants of a clip that training sees beside it, by the words of `augment`: speed0.9, noise20, gain-6.

`data/augment.py` applies them to samples.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from emoshare.core.errors import EmoshareError
from emoshare.core.schema import value_text

KINDS = {  # → the least and the greatest value, and what it is
    "speed": (0.5, 2.0, "a factor with at most two decimals"),
    "noise": (-20.0, 100.0, "signal to noise in dB"),
    "gain": (-60.0, 60.0, "in dB"),
}
SAME = {"speed": 1.0, "gain": 0.0}  # values that change nothing
WORDS = "; ".join(f"{kind} and a number of {low:g} to {high:g}, {what}" for kind, (low, high, what) in KINDS.items())


@dataclass(frozen=True)
class Variant:
    """A change of a clip.

    Attributes:
        kind: speed | noise | gain.
        value: of speed a factor: 1.1 is faster and higher; of noise the signal to noise ratio in dB; of gain dB.
    """

    kind: str
    value: float

    def __str__(self) -> str:
        return f"{self.kind}{self.value:g}"


def variant(word: str) -> Variant:
    """The variant of a word. EmoshareError where it is none."""
    match = re.fullmatch(rf"({'|'.join(KINDS)})(-?\d+(?:\.\d+)?)", word)
    if not match:
        raise EmoshareError(f"{word}: must be {WORDS}")
    kind, value = match[1], float(match[2])
    low, high, what = KINDS[kind]
    if not low <= value <= high or (kind == "speed" and round(value, 2) != value):
        raise EmoshareError(f"{word}: {kind} takes {low:g} to {high:g}, {what}")
    if value == SAME.get(kind):
        raise EmoshareError(
            f"{word}: is the clip itself, which training sees anyway; name another value, or leave it out"
        )
    return Variant(kind, value)


def variants(words: Sequence[str]) -> list[Variant]:
    """The variants of some words. EmoshareError, a line for each that is none."""
    if mistakes := list(problems(words)):
        raise EmoshareError("\n".join(mistakes))
    return [variant(word) for word in words]


def problems(words: Sequence[str]) -> Iterator[str]:
    """The mistakes in the words of `augment`, a line each."""
    seen: set[Variant] = set()
    for word in words:
        try:
            parsed = variant(word)
        except EmoshareError as error:
            yield f"augment: {error}"
            continue
        if parsed in seen:
            yield f"augment={value_text(words)}: {word} is named twice"
        seen.add(parsed)
