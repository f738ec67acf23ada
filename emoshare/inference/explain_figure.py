"""The figure of an explanation: sound, spectrogram, attention, and what each stretch adds to each share, over time.

matplotlib takes a second to import: import this module where a figure is drawn. N samples, E targets.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import blended_transform_factory

from emoshare.core.config import RATE, SHORTEST
from emoshare.core.plotting import BLUE, GREY, INK, ORANGE, PALE, RC, RED, save
from emoshare.inference.attribution import TOLERANCE, resample_to_frames

if TYPE_CHECKING:
    from emoshare.inference.contributions import Contributions

WIDTH = 12.0  # inches; 1920 pixels
COLUMNS = 1200  # of waveform and spectrogram: more than the figure has pixels for
DYNAMIC = 60.0  # dB that the spectrogram shows
PREEMPHASIS = 0.95  # of the spectrogram: +6 dB per octave, which makes up for the fall of a voice's spectrum
ROW = 0.215  # inches of a target
LETTERS = 32  # of a name that is shown
LEAST = 0.001  # share of the darkest colour, at least
SHOWN = 0.03  # seconds of appended silence that are worth showing
ADDS = LinearSegmentedColormap.from_list("adds", ["#00436b", BLUE, "#8fc1e0", "white", "#f2b58c", RED, "#7d3600"])
SOUND = LinearSegmentedColormap.from_list("sound", ["white", "#c9d3df", "#5b6b80", INK])


def draw(result: Contributions, path: Path) -> None:
    """Write the figure as a PNG, whole or not at all."""
    with matplotlib.rc_context(RC):
        save(figure_of(result), path)


def picture(result: Contributions) -> bytes:
    """The same PNG, smaller, for a notebook."""
    content = io.BytesIO()
    with matplotlib.rc_context(RC):
        figure_of(result).savefig(content, dpi=90)
    return content.getvalue()


def figure_of(result: Contributions) -> Figure:
    frames, rows = result.frames, ROW * len(result.targets)
    attention = frames is not None and frames.attention is not None
    heights = [0.75, 1.15, *([0.45] if attention else []), rows, *([rows] if frames else [])]
    size = (WIDTH, sum(heights) + 0.33 * len(heights) + 0.75)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(h_pad=0.03, w_pad=0.06, hspace=0, wspace=0))
    grid = GridSpec(len(heights), 2, figure, height_ratios=heights, width_ratios=[5.3, 1])
    axes = [figure.add_subplot(grid[row, 0]) for row in range(len(heights))]
    order = np.argsort(-result.shares, kind="stable")
    waveform(axes[0], result)
    spectrogram(axes[1], result)
    if attention:
        attend(axes[2], result)
    occluded = axes[2 + attention]
    edges = np.unique(np.round(result.stretches, 6))
    length = float(np.diff(result.stretches[0])[0])
    mesh(occluded, edges, resample_to_frames(result.stretches, result.occlusion, edges), result, order)
    entitle(occluded, f"What each stretch adds: the share, less the share with {length:.2g} s of it silenced")
    side = bars(figure.add_subplot(grid[2 + attention, 1]), result, result.shares, order)
    if frames:
        edges = np.append(frames.times[:, 0], frames.times[-1, 1])
        mesh(axes[-1], edges, sum_around(frames.gradients, edges, length), result, order)
        missing = f" (they miss {frames.gap:.1g})" if frames.gap > TOLERANCE else ""
        words = f"What {length:.2g} s of frames add: integrated gradients of the head, from the mean frame"
        entitle(axes[-1], words + missing)
        below = bars(figure.add_subplot(grid[3 + attention, 1], sharex=side), result, frames.baseline, order, GREY)
        entitle(below, "Share of the mean frame")
    errors(side, result, order)  # last: their ends are the limits of both
    dress(figure, axes, result)
    return figure


def waveform(axes: Axes, result: Contributions) -> None:
    """The range of the samples in each column of pixels."""
    size = max(len(result.samples) // COLUMNS, 1)
    count = len(result.samples) // size
    parts = result.samples[: count * size].reshape(count, size)
    time = result.start + (np.arange(count) + 0.5) * size / RATE
    axes.fill_between(time, parts.min(1), parts.max(1), color=BLUE, linewidth=0.4)
    peak = max(float(np.abs(result.samples).max()), 1e-6)
    axes.set(ylim=(-1.1 * peak, 1.1 * peak), yticks=[])
    entitle(axes, "Sound")


def spectrogram(axes: Axes, result: Contributions) -> None:
    """Power in dB over time and frequency, 25 ms at a time."""
    samples = np.append(result.samples[:1], result.samples[1:] - PREEMPHASIS * result.samples[:-1])
    hop = max(len(samples) // COLUMNS, 40)
    padded = np.pad(samples, SHORTEST // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, SHORTEST)[: len(samples) : hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(SHORTEST), 512, axis=1)) ** 2
    decibel = 10 * np.log10(power + 1e-10)
    top = max(float(decibel.max()), DYNAMIC - 100)  # of silence, too, which has −100 dB
    axes.imshow(
        decibel.T, SOUND, aspect="auto", origin="lower", vmin=top - DYNAMIC, vmax=top, interpolation="bilinear",
        extent=(result.start, result.end, 0, RATE / 2000),
    )  # fmt: skip
    axes.set(yticks=[0, 2, 4, 6, 8], ylim=(0, RATE / 2000))
    entitle(axes, "Spectrogram (kHz)")


def attend(axes: Axes, result: Contributions) -> None:
    """The weight of each frame, relative to equal weights."""
    assert result.frames is not None
    assert result.frames.attention is not None
    weight = result.frames.attention * len(result.frames.attention)
    time = result.frames.times.mean(1)
    axes.fill_between(time, weight, color=ORANGE, alpha=0.35, linewidth=0)
    axes.plot(time, weight, color=ORANGE, linewidth=1.1)
    axes.axhline(1, color=GREY, linewidth=0.7, linestyle=(0, (3, 3)))
    axes.set_ylim(0, max(1.15 * float(weight.max()), 1.5))
    axes.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    entitle(axes, "Attention of the head (1: what each frame would get of equal weights)")


def mesh(axes: Axes, edges: np.ndarray, values: np.ndarray, result: Contributions, order: np.ndarray) -> None:
    """Values (cells, E) as colours, a row per target, with their scale above."""
    largest = max(float(np.abs(values).max()), LEAST)
    lines = np.arange(len(order) + 1) - 0.5
    drawn = axes.pcolormesh(edges, lines, values[:, order].T, cmap=ADDS, vmin=-largest, vmax=largest, rasterized=True)
    axes.hlines(lines[1:-1], *edges[[0, -1]], color="white", linewidth=1.2)
    axes.set(yticks=range(len(order)), ylim=(len(order) - 0.5, -0.5))
    axes.set_yticklabels([shorten(result.targets[row]) for row in order])
    axes.tick_params(axis="y", length=0)
    height = ROW * len(order)
    scale = axes.inset_axes((0.825, 1 + 0.06 / height, 0.09, 0.09 / height))
    bar = axes.figure.colorbar(drawn, cax=scale, orientation="horizontal", ticks=[])
    bar.outline.set_visible(False)
    for place, text, side in ((-0.05, f"takes {-largest:.2g}", "right"), (1.05, f"adds +{largest:.2g}", "left")):
        scale.text(
            place, 0.4, text.replace("-", "−"), ha=side, va="center", fontsize=8.5, transform=scale.transAxes
        )  # fmt: skip


def bars(axes: Axes, result: Contributions, values: np.ndarray, order: np.ndarray, colour: str = BLUE) -> Axes:
    """A number per target, as bars beside the rows of a map."""
    places = np.arange(len(order))
    axes.barh(places, values[order] - result.lowest, left=result.lowest, height=0.62, color=colour)
    right = blended_transform_factory(axes.transAxes, axes.transData)
    for place, value in enumerate(values[order]):
        text = f"{value:.2f}".replace("-", "−")
        axes.text(1, place, text, va="center", ha="right", fontsize=8.5, transform=right)
    low, high = result.lowest, max(values.max(), result.shares.max(), result.lowest + 0.1)
    ends = min(low, float(result.shares.min())), low + 1.55 * float(high - low)  # room for the number
    axes.set(ylim=(len(order) - 0.5, -0.5), xlim=ends, xticks=[], yticks=[])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.grid(False)
    return axes


def errors(axes: Axes, result: Contributions, order: np.ndarray) -> None:
    """The mean error on devel to both sides of each share."""
    known = [(place, row) for place, row in enumerate(order) if result.targets[row] in result.devel_error]
    places, rows = [place for place, _ in known], [row for _, row in known]
    error = np.array([result.devel_error[result.targets[row]] for row in rows])
    if known:
        axes.errorbar(result.shares[rows], places, xerr=error, fmt="none", ecolor=INK, elinewidth=0.9, capsize=2)
        (low, high), first = axes.get_xlim(), result.lowest
        axes.set_xlim(low, max(high, first + 1.45 * float((result.shares[rows] + error).max() - first)))
    entitle(axes, "Share ± devel error" if known else "Share")


def dress(figure: Figure, axes: list[Axes], result: Contributions) -> None:
    """Draw what all rows have in common: the time, the silence that is appended, the title."""
    end = result.end if result.frames is None else max(result.end, float(result.frames.times[-1, 1]))
    for row in axes:
        row.set_xlim(result.start, end)
        row.grid(False)
        row.spines[["left", "bottom"]].set_visible(row is axes[-1])
        row.spines["left"].set_visible(False)
        row.tick_params(axis="x", labelbottom=row is axes[-1], length=3 if row is axes[-1] else 0)
        if end - result.end > SHOWN:
            row.axvspan(result.end, end, facecolor=PALE, alpha=0.55, linewidth=0, zorder=0.5)
    if end - result.end > SHOWN:
        axes[0].text(
            (result.end + end) / 2,
            0,
            "appended\nsilence" if end - result.end > (end - result.start) / 12 else "",
            color=GREY,
            ha="center",
            va="center",
            fontsize=8.5,
        )
    axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes[-1].set_xlabel("Time (s)")
    figure.suptitle(" ", fontsize=19)
    figure.text(0.01, 0.988, name_of(result), fontsize=14, fontweight="bold", va="top")
    figure.text(0.992, 0.985, window_of(result), fontsize=9.5, color=GREY, va="top", ha="right")


def name_of(result: Contributions) -> str:
    return f"Which stretch of {shorten(Path(result.file).name)} adds to which share"


def shorten(name: str) -> str:
    return name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"


def window_of(result: Contributions) -> str:
    whole = result.end - result.start > result.seconds - 0.005
    window = (
        f"{result.seconds:.2f} s" if whole else f"{result.start:.2f} to {result.end:.2f} s of {result.seconds:.2f} s"
    )
    return f"{result.run}  ·  {window}"


def entitle(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", color=INK, y=1.0, pad=4)  # y: not lifted above the scale of colours


def sum_around(values: np.ndarray, edges: np.ndarray, seconds: float) -> np.ndarray:
    """(T, E) summed over `seconds` around each frame: as long as the stretches above, and as easy to read."""
    width = max(round(seconds / float(edges[1] - edges[0])), 1)
    padded = np.pad(values, ((width // 2, width - 1 - width // 2), (0, 0)))
    return np.lib.stride_tricks.sliding_window_view(padded, width, axis=0).sum(-1)
