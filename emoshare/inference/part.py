"""A backbone ready for new recordings, and one with a head: samples → frames → shares.

Frames are rounded to the precision in which the run's own were stored, and the head computes in float32, so that the
shares of a clip are those that the run predicted for it.

Shapes: B clips, N samples, T frames, W numbers per frame, E targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from emoshare.backbones.base import Backbone, load_backbone
from emoshare.backbones.concat import extractor_of
from emoshare.backbones.extractor import batch_seconds
from emoshare.core.config import RATE, Config, FramesConfig
from emoshare.core.errors import EmoshareError, UnusableClips, out_of_memory
from emoshare.core.records import to_json
from emoshare.data.window import Window
from emoshare.runs.results import Results
from emoshare.store.recipe import without_provenance
from emoshare.store.tensors import DTYPES, Extractor, batch_size
from emoshare.systems.learned import LearnedHead


@dataclass(frozen=True, eq=False)
class Encoder:
    """A backbone with its window.

    Attributes:
        config: of the run, with a backbone that can be found from here.
        extractor: samples → frames.
        window: what the backbone sees of a clip.
        rounded: precision to which frames are rounded, as the stored ones are; None where they were never stored.
    """

    config: Config
    extractor: Extractor
    window: Window
    rounded: str | None

    def resize(self, seconds: float | None) -> Self:
        """The same with windows of another length; None: of its own."""
        return self if seconds is None else replace(self, window=replace(self.window, seconds=seconds))

    def frames(self, clips: Sequence[np.ndarray]) -> list[Tensor]:
        """Windows (N,), as `window.cut` gives them → frames (T, W) of each in its own order, on the device.

        Raises:
            UnusableClips: the backbone cannot work on some of the clips, whose places it names.
            EmoshareError: memory does not suffice for a single clip.
        """
        by_place: dict[int, Tensor] = {}
        seconds = self.extractor.batch_seconds
        waiting = sorted(range(len(clips)), key=lambda row: len(clips[row]))
        while waiting:
            sizes = (self.padded_length(len(clips[row])) for row in waiting)
            rows = waiting[: batch_size(sizes, seconds, self.extractor.equal_lengths)]
            try:
                by_place |= dict(zip(rows, self._compute([clips[row] for row in rows]), strict=True))
            except UnusableClips as error:
                raise UnusableClips([rows[row] for row in error.rows], error.reason) from None
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if len(rows) == 1:
                    length = len(clips[rows[0]]) / RATE
                    raise EmoshareError(
                        f"out of memory on {self.extractor.device} with a single window of {length:g} s"
                    ) from None
                seconds = len(rows) * self.padded_length(len(clips[rows[-1]])) / RATE / 2
            else:
                waiting = waiting[len(rows) :]
        return [by_place[row] for row in range(len(clips))]

    def span(self, seconds: float) -> tuple[float, float]:
        """Start and end in seconds of the window of a recording of `seconds`, cut as in training."""
        length = self.window.length(seconds) / RATE
        start = 0.0 if self.window.crop == "start" else max(seconds - length, 0) / 2
        return start, min(start + length, seconds)

    def mix_states(self, frames: Tensor) -> Tensor:
        """Frames (T, W) → (T, D): a learned sum of hidden states where a head has learned it, else as they are."""
        return frames

    def padded_length(self, samples: int) -> int:
        """Samples that the backbone sees of a window of `samples`: with the zeros that are appended to a short one."""
        return self.window.samples if self.window.pad == "zeros" else samples

    def _compute(self, clips: Sequence[np.ndarray]) -> list[Tensor]:
        waves = torch.zeros(len(clips), max(self.padded_length(len(clip)) for clip in clips))
        for wave, clip in zip(waves, clips, strict=True):
            wave[: len(clip)] = torch.from_numpy(clip)
        frames, counts = self.extractor(waves, torch.tensor([len(clip) for clip in clips]))
        if self.rounded:
            frames = frames.to(DTYPES[self.rounded])
        return [clip[:count].float() for clip, count in zip(frames, counts.tolist(), strict=True)]


@dataclass(frozen=True, eq=False)
class Part(Encoder):
    """A backbone with its window and its head.

    Attributes:
        learned: frames → shares.
    """

    learned: LearnedHead

    @property
    def head(self) -> Any:
        """The head of PyTorch, in evaluation mode; None where there is none, as of an SVR."""
        return self.learned.module

    def mix_states(self, frames: Tensor) -> Tensor:
        return frames if self.head is None else self.head.mix(frames[None])[0]

    def shares(self, frames: Sequence[Tensor]) -> np.ndarray:
        """Frames (T, W) of B clips → (B, E) float32."""
        lengths = torch.tensor([len(clip) for clip in frames], device=frames[0].device)
        with torch.no_grad():
            return self.learned.score(pad_sequence(list(frames), batch_first=True), lengths)

    def predict(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Windows (N,) → (B, E) float32. Raises what `frames` raises."""
        return self.shares(self.frames(clips))


class TrainedBackbone:
    """The backbone of a run that trained it, or ran it in its loop: an `Extractor` whose frames are not stored."""

    precision = "float32"
    sees_padding = False  # of no use where nothing is stored

    def __init__(self, backbone: Backbone, max_batch_seconds: str, device: torch.device) -> None:
        self.backbone = backbone.to(device).eval().requires_grad_(False)
        self.device, self.identity, self.width = device, backbone.identity, backbone.width
        self.compute, self.equal_lengths = "float32", backbone.equal_lengths
        self.frame_counts = backbone.frame_counts
        self.batch_seconds = batch_seconds(max_batch_seconds, device)

    def __call__(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Samples (B, N) and samples of speech (B,) → frames (B, T, W) and frames that count (B,)."""
        with torch.no_grad():
            frames, counts = self.backbone(waves.to(self.device), lengths.to(self.device))
        return frames, counts


def make_part(
    config: Config, results: Results, head: LearnedHead, weights: dict[str, Tensor] | None,
    device: torch.device, cache: Path, origin: Path,
) -> Part:  # fmt: skip
    """The part of a run.

    Args:
        config: of the run, with a backbone that can be found from here.
        results: of the run.
        head: what it has learned on frames.
        weights: of the backbone, where the run trained it.
        device: that computes.
        cache: folder for what backbones compute.
        origin: the folder that errors name.

    Raises:
        EmoshareError: the backbone cannot be had, or is another than the run was trained with.
    """
    in_loop = results.frames.source == "backbone"
    extractor: Extractor
    try:
        if in_loop:  # as in training
            backbone = load_backbone(config.backbone, config.window, torch.float32, config.seed, cache)
            extractor = TrainedBackbone(backbone, config.extract.max_batch_seconds, device)
        else:
            extractor = extractor_of(fitting(config.frames, device), device, cache)
    except EmoshareError as error:
        raise type(error)(f"{origin}: the backbone that it was trained with is not at hand: {error}") from error
    check_identity(extractor.identity, results, origin)
    if in_loop and weights:
        backbone.load_state_dict(weights)
    window = Window.of(config.window, extractor.identity)
    rounded = None if in_loop else results.resolved.stored or extractor.precision
    head.to(device)
    return Part(config, extractor, window, rounded, head)


def make_encoder(config: Config, device: torch.device) -> Encoder:
    """The frozen backbone of a config, without a head. EmoshareError where it cannot be had."""
    extractor = extractor_of(config.frames, device, Path(config.paths.cache))
    return Encoder(config, extractor, Window.of(config.window, extractor.identity), extractor.precision)


def fitting(config: FramesConfig, device: torch.device) -> FramesConfig:
    """The same with a precision that the device has: a run may come from another machine."""
    if config.extract.compute == "float16" and device.type == "cpu":
        return replace(config, extract=replace(config.extract, compute="auto"))
    return config


def check_identity(identity_now: dict[str, Any], results: Results, origin: Path) -> None:
    """Raise EmoshareError where a backbone is not the one that the run was trained with."""
    ours, theirs = (without_provenance(identity) for identity in (identity_now, to_json(results.backbone)))
    keys = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    if keys:
        raise EmoshareError(
            f"{origin}: was trained on another {results.backbone.name} than {identity_now['path']} holds now "
            f"({', '.join(keys)} differ); bring that checkpoint back"
        )
