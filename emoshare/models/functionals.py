"""Pooling of frames into one vector per clip: statistics over the frames that count.

Shapes: B clips, T frames, D features, S statistics.
"""

from __future__ import annotations

import torch
from torch import Tensor

from emoshare.core.masks import length_mask

POOLINGS = ("mean", "std", "mean_std", "functionals")
PERCENTILES = (5, 25, 50, 75, 95)
THIRD = 1 / 3 + 1e-6  # of relative time: a frame that lies exactly there is in neither, however it was rounded
STATISTICS = (
    "mean", "std", *(f"percentile {p}" for p in PERCENTILES), "range 25-75", "range 5-95",
    "slope", "curvature", "first third", "last third", "change", "peaks",
)  # fmt: skip


def pooled_width(width: int, pooling: str, voicing: int | None = None) -> int:
    """F, the numbers that `pool` makes of frames of D numbers; `none` takes the one frame of a clip as it is."""
    if pooling != "functionals":
        return {"none": width, "mean": width, "std": width, "mean_std": 2 * width}[pooling]
    return len(STATISTICS) * width if voicing is None else 2 * len(STATISTICS) * width + 4


def pool(frames: Tensor, lengths: Tensor, pooling: str, voicing: int | None = None) -> Tensor:
    """Frames (B, T, D) and (B,) frames that count → (B, F) in float32; sums are taken in float64.

    `mean` and `std` (population) give F = D, `mean_std` 2·D, `functionals` S·D. Where `voicing` names the feature that
    is 1 in voiced frames and 0 in others, functionals are taken over the voiced frames a second time, and the share of
    voiced frames and the rate of voiced stretches join them. A clip without a voiced frame gets zeros there.
    """
    mask = length_mask(lengths, frames.shape[1])  # (B, T)
    frames = frames.double().masked_fill(~mask[..., None], 0)
    if pooling != "functionals":
        mean, std = moments(frames, mask)
        return torch.cat({"mean": [mean], "std": [std], "mean_std": [mean, std]}[pooling], 1).float()
    parts = [statistics(frames, mask)]
    if voicing is not None:
        voiced = mask & (frames[..., voicing] > 0.5)
        parts += [statistics(frames, voiced), stretches(voiced, mask)]
    return torch.cat(parts, 1).float()


def moments(frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population standard deviation over the frames of the mask, (B, D) each; zeros where it is empty."""
    weight = mask[..., None].double()
    count = weight.sum(1).clamp(min=1)
    mean = (frames * weight).sum(1) / count
    return mean, ((frames - mean[:, None]).square() * weight).sum(1).div(count).sqrt()


def statistics(frames: Tensor, mask: Tensor) -> Tensor:
    """The STATISTICS of each feature over the frames of the mask: (B, T, D), (B, T) → (B, S·D)."""
    mean, std = moments(frames, mask)
    quantile = percentiles(frames, mask)
    slope, curve = polynomial(frames, mask)
    position = relative_time(mask)
    first, last = (moments(frames, mask & part)[0] for part in (position < -THIRD, position > THIRD))
    values = [
        mean, std, *quantile, quantile[3] - quantile[1], quantile[4] - quantile[0],
        slope, curve, first, last, change(frames, mask), peaks(frames, mask, mean),
    ]  # fmt: skip
    return torch.cat(values, 1)


def percentiles(frames: Tensor, mask: Tensor) -> list[Tensor]:
    """PERCENTILES of each feature, (B, D) each, interpolated linearly between two values as NumPy does."""
    ordered = torch.where(mask[..., None], frames, torch.inf).sort(1).values
    count = mask.sum(1)
    result = []
    for percent in PERCENTILES:
        place = (count - 1).clamp(min=0) * percent / 100
        below = place.floor().long()
        above = torch.minimum(below + 1, (count - 1).clamp(min=0))
        low, high = (ordered.gather(1, at[:, None, None].expand(-1, 1, frames.shape[2]))[:, 0] for at in (below, above))
        share = (place - below)[:, None]
        result.append(torch.where(count[:, None] > 0, low + share * (high - low), 0.0))
    return result


def relative_time(mask: Tensor) -> Tensor:
    """(B, T): −1 at the first frame of the mask, 1 at its last, 0 where there is only one."""
    place = torch.arange(mask.shape[1], device=mask.device, dtype=torch.float64).expand(mask.shape)
    first = torch.where(mask, place, torch.inf).amin(1, keepdim=True)
    last = torch.where(mask, place, -torch.inf).amax(1, keepdim=True)
    half = (last - first) / 2
    return torch.where(mask & (half > 0), (place - first) / half.clamp(min=0.5) - 1, 0.0)


def polynomial(frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients of the least-squares line, and of t² in the parabola, over relative time: (B, D) each."""
    weight = mask.double()
    count = weight.sum(1, keepdim=True).clamp(min=1)
    time = relative_time(mask)
    line = (time - (time * weight).sum(1, keepdim=True) / count) * weight
    square = time.square()
    bow = (square - (square * weight).sum(1, keepdim=True) / count) * weight
    along = (line * line).sum(1, keepdim=True)
    bow = bow - line * (bow * line).sum(1, keepdim=True) / along.clamp(min=1e-12)  # at right angles to the line
    first = mask.int().argmax(1)[:, None, None].expand(-1, 1, frames.shape[2])
    frames = frames - frames.gather(1, first)  # a feature that stays as it is gets exactly 0, not a rounding error
    return tuple(  # type: ignore[return-value]
        torch.einsum("bt,btd->bd", basis, frames) / basis.square().sum(1, keepdim=True).clamp(min=1e-6)
        for basis in (line, bow)
    )


def change(frames: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring frames of the mask, (B, D)."""
    both = (mask[:, 1:] & mask[:, :-1])[..., None].double()
    return ((frames[:, 1:] - frames[:, :-1]).abs() * both).sum(1) / both.sum(1).clamp(min=1)


def peaks(frames: Tensor, mask: Tensor, mean: Tensor) -> Tensor:
    """Share of frames that are local maxima above the feature's mean, (B, D)."""
    here, inside = frames[:, 1:-1], (mask[:, 1:-1] & mask[:, :-2] & mask[:, 2:])[..., None]
    top = (here > frames[:, :-2]) & (here >= frames[:, 2:]) & (here > mean[:, None]) & inside
    return top.sum(1) / mask.sum(1).clamp(min=1)[:, None]


def stretches(voiced: Tensor, mask: Tensor) -> Tensor:
    """(B, 4): share of voiced frames, voiced stretches per frame, and mean frames of a voiced and an unvoiced one."""
    count = mask.sum(1).clamp(min=1)
    rises = (voiced[:, 1:] & ~voiced[:, :-1]).sum(1) + voiced[:, 0]
    silent = mask & ~voiced
    falls = (silent[:, 1:] & ~silent[:, :-1]).sum(1) + silent[:, 0]
    lengths = [part.sum(1) / times.clamp(min=1) for part, times in ((voiced, rises), (silent, falls))]
    return torch.stack([voiced.sum(1) / count, rises / count, *lengths], 1).double()
