"""The page's analysis of one recording: shares along it, and the head's attention.

Shapes: N samples at 16 kHz, M windows, E targets, B windows of one batch, T frames, P points along the recording.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from emoshare.core.config import HOP, RATE
from emoshare.core.errors import EmoshareError, UnusableClips
from emoshare.data.window import frame_count
from emoshare.inference.attribution import attention_of
from emoshare.inference.model import Model
from emoshare.inference.part import Part
from emoshare.inference.recording import Cut, cuts
from emoshare.inference.shares import Shares

BATCH = 16  # windows between two looks at whether the answer is still wanted
SHORTEST_STEP = 0.25  # seconds from one window to the next
MOST_STEPS = 100  # in a recording, as far as windows are long enough to overlap
POINTS = 600  # of a curve over a recording: more than a screen shows
Check = Callable[[], None]  # raises where the answer is no longer wanted


@dataclass(frozen=True, eq=False)
class Analysis:
    """A run's view of one recording.

    Attributes:
        shares: a row per window.
        attention: (P,) how much the head attends to each stretch of the recording, 1 where it attends to all frames
            alike; averaged over the windows that hold the stretch. None where the head has no attention.
    """

    shares: Shares
    attention: np.ndarray | None


def analyse(model: Model, name: str, wave: np.ndarray, windows: float | None, check: Check) -> Analysis:
    """Shares and attention of a recording (N,) by sliding windows.

    Args:
        model: the run.
        name: of the recording, for the table and for errors.
        windows: seconds of a window; None: those that the run was trained with.
        check: called before each batch of windows.

    Raises:
        EmoshareError: the run cannot work on the recording, or its shares are not finite.
    """
    seconds = windows or max(part.window.seconds for part, _ in model.parts)
    step = min(max(SHORTEST_STEP, len(wave) / RATE / MOST_STEPS), seconds)
    curve = Curve(len(wave))
    values, cut_windows = np.zeros((1, len(model.targets))), list[Cut]()
    for part, weight in model.parts:
        sized = part.resize(seconds)
        cut_windows = cuts(wave, sized.window, step)
        try:
            values = values + weight * shares_of(sized, cut_windows, curve, weight, check)
        except UnusableClips as error:
            raise EmoshareError(f"{name}: {error.reason}") from None
    if not np.isfinite(values).all():
        raise EmoshareError(f"{name}: its shares are NaN or infinite")
    start, end = np.array([cut.start for cut in cut_windows]), np.array([cut.end for cut in cut_windows])
    table = Shares((name,) * len(cut_windows), start, end, model.in_range(values), model.targets)
    return Analysis(table, curve.points())


def shares_of(part: Part, cut_windows: Sequence[Cut], curve: Curve, weight: float, check: Check) -> np.ndarray:
    """(M, E) shares of the windows of a recording; their attention is added to the curve."""
    values = []
    for first in range(0, len(cut_windows), BATCH):
        check()
        batch = cut_windows[first : first + BATCH]
        frames = part.frames([cut.samples for cut in batch])  # of each window (T, W)
        values.append(part.shares(frames))
        counts = torch.tensor([len(clip) for clip in frames], device=frames[0].device)
        together = pad_sequence(frames, batch_first=True)
        attention = attention_of(part.head, together, counts) if part.head and together.shape[1] > 1 else None
        if attention is not None:
            for cut, row, count in zip(batch, attention.cpu().numpy(), counts.tolist(), strict=True):
                curve.add(cut, row[:count] * count, weight)
    return np.concatenate(values)


class Curve:
    """The mean of curves over windows of one recording, on a grid of 20 ms."""

    def __init__(self, samples: int) -> None:
        self.total = np.zeros(max(samples // HOP, 1))
        self.weight = np.zeros_like(self.total)

    def add(self, cut: Cut, values: np.ndarray, weight: float) -> None:
        """Add the curve (T,) of a window; what lies in the padding after its end is left out."""
        speech, first = len(cut.samples), round(cut.start * RATE / HOP)
        size = min(max(speech // HOP, 1), len(self.total) - first)
        if size < 1:
            return
        if len(values) >= frame_count(speech) > 0:  # a frame per 20 ms, of speech and perhaps of padding
            at = np.minimum(np.arange(size), len(values) - 1)
        else:  # frames at another rate share the window equally
            at = np.arange(size) * len(values) // size
        self.total[first : first + size] += weight * values[at]
        self.weight[first : first + size] += weight

    def points(self) -> np.ndarray | None:
        """(P,) the mean, with at most `POINTS` points; None where no window has a curve."""
        if not self.weight.any():
            return None
        mean = self.total / np.maximum(self.weight, 1e-9)
        return np.array([stretch.mean() for stretch in np.array_split(mean, min(POINTS, len(mean)))])


def peaks(wave: np.ndarray) -> np.ndarray:
    """(N,) → (P,) the largest absolute value of each of at most `POINTS` stretches."""
    return np.array([np.abs(stretch).max() for stretch in np.array_split(wave, min(POINTS, len(wave)))])
