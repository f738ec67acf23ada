"""An explanation of one recording: what each stretch of time adds to each share, as a figure and as JSON.

Shapes: N samples at 16 kHz, T frames, S stretches, E targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from emoshare.core.config import RATE, SHORTEST
from emoshare.core.errors import EmoshareError, UnusableClips
from emoshare.core.files import write_json
from emoshare.inference.attribution import (
    attention_of,
    frame_times,
    integrated_gradients,
    occlusion,
    silenced,
    stretches_of,
)
from emoshare.inference.part import Part
from emoshare.inference.recording import cuts

if TYPE_CHECKING:
    from emoshare.inference.model import Model

FORMAT = 1  # of the JSON
STRETCH = 0.25  # seconds: a short syllable with its neighbours
SHORTEST_STRETCH = 0.025  # seconds: a frame


@dataclass(frozen=True, eq=False)
class Frames:
    """What the head makes of the frames of the window. T frames.

    Attributes:
        times: (T, 2) seconds at which each begins and ends.
        attention: (T,) the weights of the head's attention, which sum up to 1; None for a head without.
        gradients: (T, E) integrated gradients of the head, summed over the numbers of a frame: what the frame adds to
            each share, against a clip in which every frame is the mean frame of this one.
        baseline: (E,) the shares of that clip; baseline + the sum of gradients = shares.
        gap: the largest difference between the two sides of that equation.
    """

    times: np.ndarray
    attention: np.ndarray | None
    gradients: np.ndarray
    baseline: np.ndarray
    gap: float


@dataclass(frozen=True, eq=False)
class Explanation:
    """What each stretch of a recording adds to each share. All times are seconds from the beginning of the recording.

    Attributes:
        run: name of the run.
        file: the recording, as it was asked for.
        seconds: of the whole recording.
        start, end: the window that is explained; the silence that is appended to a short clip is not counted.
        samples: (N,) of that window.
        targets: names of the shares.
        shares: (E,) of the window, in [0, 1] for most heads; no probabilities.
        devel_error: mean absolute error on devel of each target; empty where it is not known.
        stretches: (S, 2) start and end of each stretch that was silenced.
        occlusion: (S, E) what each stretch adds: the share as it is, minus the share with the stretch silenced.
        frames: what the head makes of the frames; None for a fusion, an SVR, or one vector per clip.
    """

    run: str
    file: str
    seconds: float
    start: float
    end: float
    samples: np.ndarray
    targets: tuple[str, ...]
    shares: np.ndarray
    devel_error: dict[str, float]
    stretches: np.ndarray
    occlusion: np.ndarray
    frames: Frames | None

    def strongest(self) -> list[tuple[str, float, float, float]]:
        """For each target the stretch that changes its share most: target, start, end, what it adds."""
        rows = np.abs(self.occlusion).argmax(0)
        return [
            (target, float(self.stretches[row, 0]), float(self.stretches[row, 1]), float(self.occlusion[row, e]))
            for e, (target, row) in enumerate(zip(self.targets, rows, strict=True))
        ]

    def content(self) -> dict[str, Any]:
        """What `write` writes, ready for JSON:

        format: 1
        run, file: names
        window: {start, end} seconds that are explained, {recording} seconds there are
        targets: [E names]
        shares, devel_error: {target: number}
        stretches: [S × [start, end]] seconds
        occlusion: [S × [E]] what each stretch adds to each share
        frames: [T × [start, end]] seconds, or null
        attention: [T], or null
        gradients: [T × [E]] what each frame adds to each share, or null
        baseline: {target: share of the mean frame}, or null; + the sum of gradients over frames = shares
        gap: the largest error of that equation, or null
        """
        frames = self.frames
        attention = None if frames is None or frames.attention is None else numbers(frames.attention)
        return {
            "format": FORMAT, "run": self.run, "file": self.file,
            "window": {"start": self.start, "end": self.end, "recording": self.seconds},
            "targets": list(self.targets),
            "shares": dict(zip(self.targets, numbers(self.shares), strict=True)),
            "devel_error": dict(self.devel_error),
            "stretches": numbers(self.stretches), "occlusion": numbers(self.occlusion),
            "frames": frames and numbers(frames.times), "attention": attention,
            "gradients": frames and numbers(frames.gradients),
            "baseline": frames and dict(zip(self.targets, numbers(frames.baseline), strict=True)),
            "gap": frames and frames.gap,
        }  # fmt: skip

    def write(self, path: str | Path) -> None:
        """Write the JSON that `content` describes, whole or not at all. OSError where it cannot be written."""
        write_json(Path(path), self.content())

    def figure(self, path: str | Path) -> None:
        """Draw a PNG, whole or not at all. OSError where it cannot be written."""
        from emoshare.inference.explain_figure import draw

        draw(self, Path(path))

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        from emoshare.inference.explain_figure import picture

        return picture(self)


def numbers(values: np.ndarray) -> list[Any]:
    """As JSON takes them: six significant digits after the point are more than any of these has."""
    return np.round(values.astype(np.float64), 6).tolist()


def explain(
    model: Model, name: str, wave: np.ndarray, start: float | None = None, windows: float | None = None,
    stretch: float = STRETCH,
) -> Explanation:  # fmt: skip
    """Explain one window of a recording.

    Args:
        model: that predicts.
        name: of the recording.
        wave: (N,) its samples at 16 kHz.
        start: seconds at which the window begins; by default it is cut as in training.
        windows: seconds of the window; by default those that the run was trained with.
        stretch: seconds that are silenced at once, every half of it.

    Raises:
        EmoshareError: start or stretch are out of range, a backbone cannot work on the recording, or what comes out is
            not finite.
    """
    check(name, len(wave) / RATE, start, stretch)
    views = [view_of(part.resized(windows), weight, wave, start) for part, weight in model.parts]
    first, last = min(view.start for view in views), max(view.end for view in views)
    length = min(round(stretch * RATE), last - first)
    stretches = first + stretches_of(last - first, length, max(length // 2, 1))
    try:
        shares = sum(view.weight * view.part.predict([view.samples])[0] for view in views)
        check_finite(name, "shares", shares)
        occluded = occlusion(lambda silent: predict(views, silent), stretches, shares)
        check_finite(name, "shares with a stretch silenced", occluded)
        frames = frames_of(views[0]) if len(views) == 1 and views[0].part.head is not None else None
    except UnusableClips as error:
        remedy = "take a longer recording or window, or a shorter stretch"
        raise EmoshareError(f"{name}: {error.reason}; {remedy}") from None
    if frames is not None:
        check_finite(name, "gradients", frames.gradients)
    return Explanation(
        model.results.run, name, len(wave) / RATE, first / RATE, last / RATE, wave[first:last], model.targets,
        shares.astype(np.float32), dict(model.devel_error), stretches / RATE, occluded, frames,
    )  # fmt: skip


class View(NamedTuple):
    """What one part of a model sees of the recording."""

    part: Part
    weight: float
    start: int  # samples before it in the recording
    end: int  # where it ends, in samples; what is appended to a short recording is not counted
    samples: np.ndarray  # (N,)


def view_of(part: Part, weight: float, wave: np.ndarray, start: float | None) -> View:
    """The window of a recording (N,): as it is cut in training, or from `start` seconds on."""
    skipped = 0 if start is None else round(start * RATE)
    window = part.window if start is None else replace(part.window, crop="start")
    cut = cuts(wave[skipped:], window, None)[0]
    return View(part, weight, skipped + round(cut.start * RATE), skipped + round(cut.end * RATE), cut.samples)


def predict(views: Sequence[View], stretches: np.ndarray) -> np.ndarray:
    """Shares (B, E) of the recording with one of the stretches (B, 2) silenced each time."""
    found: np.ndarray | float = 0.0
    for view in views:
        clips = [silenced(view.samples, start - view.start, end - view.start) for start, end in stretches.tolist()]
        found = found + view.weight * view.part.predict(clips)
    assert isinstance(found, np.ndarray)
    return found


def frames_of(view: View) -> Frames | None:
    """What the head makes of the frames of a window; None where they are a single one."""
    part = view.part
    assert part.head is not None
    frames = part.frames([view.samples])[0][None]  # (1, T, W)
    counts = torch.tensor([frames.shape[1]], device=frames.device)
    if frames.shape[1] == 1:
        return None
    path = integrated_gradients(part.head, frames, counts)
    attention = attention_of(part.head, frames, counts)
    times = view.start / RATE + frame_times(frames.shape[1], part.padded(len(view.samples)))
    return Frames(
        times,
        None if attention is None else attention[0].cpu().numpy(),
        path.values[0].cpu().numpy(),
        path.baseline[0].cpu().numpy(),
        path.gap,
    )


def check_finite(name: str, what: str, values: np.ndarray) -> None:
    """Raise EmoshareError where a number is NaN or infinite."""
    if not np.isfinite(values).all():
        raise EmoshareError(f"{name}: its {what} are NaN or infinite")


def check(name: str, seconds: float, start: float | None, stretch: float) -> None:
    """Raise EmoshareError where start or stretch are out of range."""
    problems = []
    if not SHORTEST_STRETCH <= stretch <= 60:
        problems.append(f"stretch={stretch:g}: must be from {SHORTEST_STRETCH:g} to 60 s")
    if start is not None and not 0 <= start <= seconds - SHORTEST / RATE:
        latest = max(seconds - SHORTEST / RATE, 0)
        problems.append(f"start={start:g}: {name} has {seconds:.4g} s; must be from 0 to {latest:.4g} s")
    if problems:
        raise EmoshareError("\n".join(problems))
