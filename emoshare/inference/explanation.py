"""An explanation of one recording: what each stretch of time adds to each share, as a figure and as JSON.

Shapes: N samples at 16 kHz, T frames, S stretches, E targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

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
    silence,
    stretches_of,
)
from emoshare.inference.contributions import Contributions, Frames
from emoshare.inference.part import Part
from emoshare.inference.recording import cuts

STRETCH = 0.25  # seconds: a short syllable with its neighbours
SHORTEST_STRETCH = 0.025  # seconds: a frame


@dataclass(frozen=True, eq=False)
class Explanation(Contributions):
    """The contribution of each stretch of a recording to each share, to be written, drawn, or shown in a notebook."""

    def write(self, path: str | Path) -> None:
        """Write the JSON that `content` describes, whole or not at all. OSError where it cannot be written."""
        write_json(Path(path), self.content())

    def figure(self, path: str | Path) -> None:
        """Draw a PNG, whole or not at all. OSError where it cannot be written."""
        from emoshare.inference.explain_figure import draw

        draw(self, Path(path))

    def _repr_png_(self) -> bytes:
        """The figure in a notebook."""
        from emoshare.inference.explain_figure import picture

        return picture(self)


def explain(
    parts: Sequence[tuple[Part, float]], about: dict[str, Any], name: str, wave: np.ndarray,
    start: float | None = None, windows: float | None = None, stretch: float = STRETCH,
) -> Explanation:  # fmt: skip
    """Explain one window of a recording.

    Args:
        parts: of the model that predicts, each with its weight.
        about: `run`, `targets` and `devel_error` of that model.
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
    views = [view_of(part.resize(windows), weight, wave, start) for part, weight in parts]
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
        **about, file=name, seconds=len(wave) / RATE, start=first / RATE, end=last / RATE, samples=wave[first:last],
        shares=shares.astype(np.float32), stretches=stretches / RATE, occlusion=occluded, frames=frames,
    )  # fmt: skip


class View(NamedTuple):
    """The samples of the recording that one part of a model sees."""

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
    total: np.ndarray | float = 0.0
    for view in views:
        clips = [silence(view.samples, start - view.start, end - view.start) for start, end in stretches.tolist()]
        total = total + view.weight * view.part.predict(clips)
    assert isinstance(total, np.ndarray)
    return total


def frames_of(view: View) -> Frames | None:
    """The head's attribution to the frames of a window; None where they are a single one."""
    part = view.part
    assert part.head is not None
    frames = part.frames([view.samples])[0][None]  # (1, T, W)
    counts = torch.tensor([frames.shape[1]], device=frames.device)
    if frames.shape[1] == 1:
        return None
    path = integrated_gradients(part.head, frames, counts)
    attention = attention_of(part.head, frames, counts)
    times = view.start / RATE + frame_times(frames.shape[1], part.padded_length(len(view.samples)))
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
