"""Attribution of shares to stretches of a recording: occlusion, integrated gradients, the attention of the head.

Occlusion silences a stretch and asks the whole model again: what a share loses is what the stretch added to it. That
works for every system and needs no gradients (M. Zeiler and R. Fergus, ECCV 2014).

Integrated gradients go through the head alone, from frames to shares (M. Sundararajan, A. Taly and Q. Yan, Axiomatic
attribution for deep networks, ICML 2017). They are computed here and not by captum, which takes one target at a time,
knows no frames that do not count, and does not raise the number of points until the values are complete.

Shapes: B clips, N samples at 16 kHz, T frames, W numbers per frame, S stretches, E targets.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from emoshare.core.config import HOP, RATE, SHORTEST
from emoshare.core.masks import length_mask
from emoshare.core.progress import Meter
from emoshare.data.window import frame_count
from emoshare.models.head import Head

log = logging.getLogger("emoshare")

FADE = 0.005  # seconds from full sound to silence: a hard edge would be a click, which the recording does not hold
ROOM = 10 ** (-70 / 20)  # of the loudest sample: the noise of a quiet room, used as silence
BATCH = 16  # masked clips whose frames are in memory at once
NUMBERS = 20_000_000  # of frames in one pass of integrated gradients: 80 MB
STEPS = (32, 64, 128, 256)  # points on the path of integrated gradients, until they are complete
TOLERANCE = 1e-3  # of completeness, in shares: below what a figure shows

Predict = Callable[[np.ndarray], np.ndarray]  # stretches to silence (B, 2) → shares (B, E)


def stretches_of(samples: int, length: int, step: int) -> np.ndarray:
    """(S, 2) first sample of each stretch and the one after its last; the last stretches end with the recording.

    Each sample from 0 to `samples` is in at least one stretch.

    Args:
        samples: of the recording.
        length: of a stretch, in samples.
        step: samples from the start of one to the start of the next.
    """
    count = 1 + max(-((length - samples) // step), 0)
    starts = np.arange(count) * step
    return np.stack([starts, np.minimum(starts + length, samples)], 1)


def silence(wave: np.ndarray, start: int, end: int) -> np.ndarray:
    """(N,) with silence in place of the samples from start to end, and ramps of FADE to both sides of them.

    The silence is the noise of a quiet room, the same at each call. Samples that are all zero would be unlike any
    recording: on the demo corpus they move the shares of an openSMILE SVR by 0.8, this noise by 0.1 to 0.3. A head on
    log-mel frames gives the same shares for both.
    """
    fade = round(FADE * RATE)
    time = np.arange(len(wave))
    away = np.maximum(start - time, time - (end - 1))  # samples to the stretch; 0 or less inside
    gain = np.clip(away / (fade + 1), 0, 1)
    room = ROOM * np.abs(wave).max() * np.random.default_rng(0).standard_normal(len(wave))
    return (wave * gain + room * (1 - gain)).astype(np.float32)


def occlusion(predict: Predict, stretches: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The contribution of each stretch to each share: the share with it minus the share without it, (S, E) float32.

    Args:
        predict: the whole model, on the recording in which a stretch is silenced.
        stretches: (S, 2) samples.
        shares: (E,) of the recording as it is.
    """
    meter = Meter(log, "explain")
    without = []
    for rows in chunks(len(stretches), BATCH):
        without.append(predict(stretches[rows]))
        done = min(rows.stop, len(stretches))
        meter.report(f"stretch {done} of {len(stretches)}", done / len(stretches))
    return (shares - np.concatenate(without)).astype(np.float32)


def resample_to_frames(stretches: np.ndarray, values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(S, E) of stretches that overlap → (cells, E): in each cell the mean over the stretches that cover its middle.

    Args:
        stretches: (S, 2) start and end, in the unit of edges.
        values: (S, E).
        edges: (cells + 1,) of the cells.
    """
    middle = (edges[:-1] + edges[1:]) / 2
    change = np.zeros((len(edges), values.shape[1] + 1))  # from cell to cell: of the sums, and of how many there are
    ones = np.append(values, np.ones((len(values), 1)), 1)
    np.add.at(change, np.searchsorted(middle, stretches[:, 0]), ones)
    np.add.at(change, np.searchsorted(middle, stretches[:, 1]), -ones)
    sums = change.cumsum(0)[:-1]
    return sums[:, :-1] / np.maximum(sums[:, -1:], 1)


class Gradients(NamedTuple):
    """Integrated gradients of one clip or several."""

    values: Tensor  # (B, T, E), summed over the numbers of a frame; zeros for frames that do not count
    baseline: Tensor  # (B, E) shares of the baseline
    gap: float  # largest |sum of values − (share − share of the baseline)|


def mean_frame(frames: Tensor, counts: Tensor) -> Tensor:
    """(B, T, W) where every frame is the mean of the clip's frames that count.

    The baseline of integrated gradients: a clip in which no frame stands out, and whose numbers are as large as those
    that the head was trained on. Zeros are not neutral: as log-mel bands they are a loud noise, and no speech encoder
    gives them. On runs of the demo corpus gradients against the mean frame agree with occlusion (their correlation over
    time is 0.8), those against zeros do not (0 and less).
    """
    mask = length_mask(counts, frames.shape[1])[..., None]
    mean = (frames * mask).sum(1, keepdim=True) / counts.clamp(min=1)[:, None, None]
    return mean.expand_as(frames)


def integrated_gradients(
    head: Callable[[Tensor, Tensor], Tensor], frames: Tensor, counts: Tensor, baseline: Tensor | None = None,
    steps: Sequence[int] = STEPS,
) -> Gradients:  # fmt: skip
    """The contribution of each frame to each share, against a baseline: Σ_w (x − x′) ∫₀¹ ∂share(x′ + α (x − x′))/∂x dα.

    Over all frames this sums up to share − share of the baseline. The integral is taken by Gauss-Legendre quadrature
    with more and more points, until that holds within TOLERANCE; what is still missing is the result's `gap`.

    Args:
        head: frames (B, T, W) and counts → shares (B, E), in evaluation mode.
        frames: (B, T, W) float32.
        counts: (B,) frames that count.
        baseline: (B, T, W); by default `mean_frame`.
        steps: numbers of points to try.
    """
    if baseline is None:
        baseline = mean_frame(frames, counts)
    change = (frames - baseline) * length_mask(counts, frames.shape[1])[..., None]
    with torch.no_grad():
        low, high = head(baseline, counts).cpu(), head(frames, counts).cpu()
    for points in steps:
        values = along_path(head, baseline, change, counts, points)
        gap = float((values.cpu().double().sum(1) - (high.double() - low.double())).abs().max())
        if gap <= TOLERANCE:
            break
    return Gradients(values, low, gap)


def along_path(
    head: Callable[[Tensor, Tensor], Tensor], baseline: Tensor, change: Tensor, counts: Tensor, points: int
) -> Tensor:
    """The change times the mean gradient of each share along the straight path from the baseline: (B, T, E)."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    total = torch.zeros(())
    for rows in chunks(points, max(NUMBERS // baseline.numel(), 1)):
        alpha = torch.as_tensor((nodes[rows] + 1) / 2, dtype=baseline.dtype, device=baseline.device)
        weight = torch.as_tensor(weights[rows] / 2, dtype=baseline.dtype, device=baseline.device)
        place = (baseline + alpha[:, None, None, None] * change).flatten(0, 1).requires_grad_()  # (A·B, T, W)
        shares = head(place, counts.repeat(len(alpha)))  # (A·B, E)
        for_each = []
        for target in range(shares.shape[1]):
            [slope] = torch.autograd.grad(shares[:, target].sum(), place, retain_graph=True)
            for_each.append(torch.einsum("a,abtw,btw->bt", weight, slope.unflatten(0, (len(alpha), -1)), change))
        total = torch.stack(for_each, 2) + total.to(baseline.device)
    return total


def chunks(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, start + size)


def attention_of(head: Head, frames: Tensor, counts: Tensor) -> Tensor | None:
    """(B, T) weights with which the head's attention averages the frames, their sum 1; None for another pooling.

    Of several queries it is the mean.
    """
    score = getattr(getattr(head, "pooling", None), "score", None)
    if score is None:
        return None
    with torch.no_grad():
        scores = score(head.mix(frames))  # (B, T, queries)
        silent = ~length_mask(counts, frames.shape[1])[..., None]
        return scores.masked_fill(silent, -torch.inf).softmax(1).mean(2)


def frame_times(frames: int, samples: int) -> np.ndarray:
    """(T, 2) seconds at which the hop of each frame begins and ends, from the beginning of a window of `samples`.

    A speech encoder's frame sees 25 ms every 20 ms: its hop is the 20 ms in the middle. Where a backbone has another
    rate, its frames share the window equally.
    """
    if frames == frame_count(samples):
        starts = np.arange(frames) * HOP + (SHORTEST - HOP) / 2
        return np.stack([starts, starts + HOP], 1) / RATE
    edges = np.linspace(0, samples / RATE, frames + 1)
    return np.stack([edges[:-1], edges[1:]], 1)
