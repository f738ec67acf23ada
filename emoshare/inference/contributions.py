"""The contribution of each stretch of a recording to each share, as data.

Shapes: N samples at 16 kHz, T frames, S stretches, E targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from emoshare.core.ranges import to_range, width

FORMAT = 1  # of the JSON


@dataclass(frozen=True, eq=False)
class Frames:
    """The head's attribution to the frames of the window. T frames.

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
class Contributions:
    """The contribution of each stretch of a recording to each share. All times are seconds from its beginning.

    Attributes:
        run: name of the run.
        file: the recording, as the caller named it.
        seconds: of the whole recording.
        start, end: the window that is explained; the silence that is appended to a short clip is not counted.
        samples: (N,) of that window.
        targets: names of the shares.
        shares: (E,) of the window, in the range of the corpus's labels for most heads; no probabilities.
        devel_error: mean absolute error on devel of each target; empty where it is not known.
        stretches: (S, 2) start and end of each stretch that was silenced.
        occlusion: (S, E) what each stretch adds: the share as it is, minus the share with the stretch silenced.
        frames: what the head makes of the frames; None for a fusion, an SVR, or one vector per clip.
        lowest: label of the corpus's range.
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
    lowest: float = 0.0

    def in_range(self, span: Sequence[float]) -> Self:
        """The same of shares that are scaled from 0 to 1 to the range `span`; devel_error is in its unit already."""
        factor, frames = width(span), self.frames
        scaled = frames and replace(
            frames, gradients=factor * frames.gradients, baseline=to_range(frames.baseline, span),
            gap=factor * frames.gap,
        )  # fmt: skip
        occluded = factor * self.occlusion
        return replace(
            self, shares=to_range(self.shares, span), occlusion=occluded, frames=scaled, lowest=float(span[0])
        )

    def strongest(self) -> list[tuple[str, float, float, float]]:
        """The stretch that changes each target's share most: target, start, end, what it adds."""
        rows = np.abs(self.occlusion).argmax(0)
        return [
            (target, float(self.stretches[row, 0]), float(self.stretches[row, 1]), float(self.occlusion[row, e]))
            for e, (target, row) in enumerate(zip(self.targets, rows, strict=True))
        ]

    def content(self) -> dict[str, Any]:
        """The content of the file of `write`, ready for JSON.

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


def numbers(values: np.ndarray) -> list[Any]:
    """The values as JSON takes them: six digits after the point are more than any of these has."""
    return np.round(values.astype(np.float64), 6).tolist()
