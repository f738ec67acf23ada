"""The figure of an explanation: sound, spectrogram, attention, and what each stretch adds to each share, over time.

matplotlib takes a second to import: import this module where a figure is drawn. N samples, E targets.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.ticker import FuncFormatter, MaxNLocator

from emoshare.core.config import RATE
from emoshare.core.plotting import BLUE, GREY, INK, ORANGE, PALE, RC, RED, save
from emoshare.inference.attribution import over_time
from emoshare.inference.explanation import Explanation

WIDTH = 10.0  # inches; 1600 pixels
COLUMNS = 1200  # of waveform and spectrogram: more than the figure has pixels for
DYNAMIC = 65.0  # dB that the spectrogram shows
ROW = 0.25  # inches of a target
LETTERS = 40  # of a name that the title shows
ADDS = LinearSegmentedColormap.from_list("adds", ["#00436b", BLUE, "#8fc1e0", "white", "#f2b58c", RED, "#7d3600"])
SOUND = LinearSegmentedColormap.from_list("sound", ["white", "#c9d3df", "#5b6b80", INK])


def draw(found: Explanation, path: Path) -> None:
    """Write the figure as a PNG, whole or not at all."""
    with matplotlib.rc_context(RC):
        save(figure_of(found), path)


def figure_of(found: Explanation) -> Figure:
    frames, rows = found.frames, ROW * len(found.targets)
    attention = frames is not None and frames.attention is not None
    heights = [0.8, 1.25, *([0.5] if attention else []), rows, *([rows] if frames else [])]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.36 * len(heights) + 0.8), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.03, w_pad=0.06, hspace=0.0, wspace=0.0)  # type: ignore[union-attr]
    grid = GridSpec(len(heights), 2, figure, height_ratios=heights, width_ratios=[5.2, 1])
    axes = [figure.add_subplot(grid[row, 0]) for row in range(len(heights))]
    order = np.argsort(-found.shares, kind="stable")
    waveform(axes[0], found)
    spectrogram(axes[1], found)
    if attention:
        attend(axes[2], found)
    occluded = axes[2 + attention]
    edges = cell_edges(found)
    mesh(occluded, edges, over_time(found.stretches, found.occlusion, edges), found, order)
    length = float(np.diff(found.stretches[0])[0])
    entitle(occluded, f"What each stretch adds: the share less that with {length:.2g} s of silence in its place")
    bars(figure.add_subplot(grid[2 + attention, 1]), found, order)
    if frames:
        cells = np.append(frames.times[:, 0], frames.times[-1, 1])
        mesh(axes[-1], cells, smoothed(frames.gradients, cells, length), found, order)
        entitle(axes[-1], "What each frame adds: integrated gradients of the head, from the clip's mean frame")
    dress(figure, axes, found)
    return figure


def waveform(axes: Axes, found: Explanation) -> None:
    """The range of the samples in each column of pixels."""
    size = max(len(found.samples) // COLUMNS, 1)
    count = len(found.samples) // size
    parts = found.samples[: count * size].reshape(count, size)
    time = found.start + (np.arange(count) + 0.5) * size / RATE
    axes.fill_between(time, parts.min(1), parts.max(1), color=BLUE, linewidth=0.4)
    peak = max(float(np.abs(found.samples).max()), 1e-6)
    axes.set(ylim=(-1.1 * peak, 1.1 * peak), yticks=[])
    axes.grid(False)
    entitle(axes, "Sound")


def spectrogram(axes: Axes, found: Explanation) -> None:
    """Power in dB over time and frequency, 25 ms at a time."""
    size = 400
    samples = np.pad(found.samples, (size // 2, size))
    hop = max(len(found.samples) // COLUMNS, 40)
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[: len(found.samples) : hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(size), 512, axis=1)) ** 2
    decibel = 10 * np.log10(power + 1e-10)
    top = float(decibel.max())
    axes.imshow(
        decibel.T, SOUND, aspect="auto", origin="lower", vmin=top - DYNAMIC, vmax=top, interpolation="bilinear",
        extent=(found.start, found.end, 0, RATE / 2000),
    )  # fmt: skip
    axes.set(yticks=[0, 2, 4, 6, 8], ylim=(0, RATE / 2000))
    axes.grid(False)
    entitle(axes, "Spectrogram (kHz)")


def attend(axes: Axes, found: Explanation) -> None:
    """The weight of each frame, relative to equal weights."""
    assert found.frames is not None
    assert found.frames.attention is not None
    weight = found.frames.attention * len(found.frames.attention)
    time = found.frames.times.mean(1)
    axes.fill_between(time, weight, color=ORANGE, alpha=0.35, linewidth=0)
    axes.plot(time, weight, color=ORANGE, linewidth=1.1)
    axes.axhline(1, color=GREY, linewidth=0.7, linestyle=(0, (3, 3)))
    axes.set_ylim(0, max(1.15 * float(weight.max()), 1.5))
    axes.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    axes.grid(False)
    entitle(axes, "Attention of the head (1: as much as every frame would get on average)")


def mesh(axes: Axes, edges: np.ndarray, values: np.ndarray, found: Explanation, order: np.ndarray) -> None:
    """Values (cells, E) as colours, a row per target, with their scale above."""
    largest = max(float(np.abs(values).max()), 1e-6)
    lines = np.arange(len(order) + 1) - 0.5
    drawn = axes.pcolormesh(edges, lines, values[:, order].T, cmap=ADDS, vmin=-largest, vmax=largest, rasterized=True)
    axes.hlines(lines[1:-1], *edges[[0, -1]], color="white", linewidth=1.4)
    axes.set(yticks=range(len(order)), ylim=(len(order) - 0.5, -0.5))
    axes.set_yticklabels([found.targets[row] for row in order])
    axes.tick_params(axis="y", length=0)
    axes.grid(False)
    scale = axes.inset_axes((0.845, 1.03, 0.1, 0.22 / len(order)))
    bar = axes.figure.colorbar(drawn, cax=scale, orientation="horizontal", ticks=[])
    bar.outline.set_visible(False)  # type: ignore[operator]
    for place, value, side in ((-0.04, -largest, "right"), (1.04, largest, "left")):
        scale.text(place, 0.5, signed(value), ha=side, va="center", fontsize=8, transform=scale.transAxes)


def bars(axes: Axes, found: Explanation, order: np.ndarray) -> None:
    """The shares, with the mean error on devel to both sides."""
    shares = found.shares[order]
    errors = np.array([found.devel_error.get(found.targets[row], np.nan) for row in order])
    places = np.arange(len(order))
    axes.barh(places, shares, height=0.62, color=BLUE)
    if np.isfinite(errors).any():
        axes.errorbar(shares, places, xerr=errors, fmt="none", ecolor=INK, elinewidth=0.9, capsize=2)
    reach = float(np.nanmax(np.concatenate([shares, shares + errors, [0.1]])))
    for place, share in enumerate(shares):
        axes.text(1.06 * reach, place, f"{share:.2f}", va="center", fontsize=8.5)
    axes.set(ylim=(len(order) - 0.5, -0.5), xlim=(min(0.0, float(shares.min())), 1.35 * reach), yticks=[])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_xticks([])
    axes.grid(False)
    entitle(axes, "Share ± devel error" if np.isfinite(errors).any() else "Share")


def dress(figure: Figure, axes: list[Axes], found: Explanation) -> None:
    """What all rows have in common: the time, the silence that is appended, the title."""
    end = found.end if found.frames is None else max(found.end, float(found.frames.times[-1, 1]))
    for row in axes:
        row.set_xlim(found.start, end)
        row.tick_params(labelbottom=row is axes[-1])
        if row is not axes[-1]:
            row.tick_params(axis="x", length=0)
        if end - found.end > 0.03:
            row.axvline(found.end, color=GREY, linewidth=0.8)
    if end - found.end > 0.03:
        middle = (found.end + end) / 2
        axes[0].text(middle, 0, "appended\nsilence", color=GREY, ha="center", va="center", fontsize=8.5)
    axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes[-1].set_xlabel("Time (s)")
    figure.suptitle(" ", fontsize=20)
    figure.text(0.012, 0.99, name_of(found), fontsize=13, fontweight="bold", va="top")
    figure.text(0.988, 0.988, window_of(found), fontsize=9.5, color=GREY, va="top", ha="right")


def name_of(found: Explanation) -> str:
    file = Path(found.file).name
    file = file if len(file) <= LETTERS else f"{file[: LETTERS - 1]}…"
    return f"Which stretch of {file} adds to which share"


def window_of(found: Explanation) -> str:
    whole = found.end - found.start > found.seconds - 0.005
    window = f"{found.seconds:.2f} s" if whole else f"{found.start:.2f} to {found.end:.2f} s of {found.seconds:.2f} s"
    return f"{found.run}  ·  {window}"


def entitle(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", color=INK, pad=4)


def cell_edges(found: Explanation) -> np.ndarray:
    """(cells + 1,) of the map of occlusion: where any stretch begins or ends."""
    return np.unique(np.round(found.stretches, 6))


def smoothed(values: np.ndarray, edges: np.ndarray, seconds: float) -> np.ndarray:
    """(T, E) summed over so many seconds around each frame: as long as the stretches above, and as easy to read."""
    width = max(round(seconds / float(edges[1] - edges[0])), 1)
    kernel = np.ones(width)
    return np.stack([np.convolve(column, kernel, "same")[: len(values)] for column in values.T], 1)


def signed(value: float) -> str:
    return f"{value:+.2g}".replace("-", "−")
