"""backbone.type=concat: several frozen backbones as one, whose frames are joined side by side.

Each part's frames are stored under its own recipe, shared with runs of that backbone alone, and joined when a batch is
gathered (`store/tensors.py`) or a recording is predicted (here): by the same function.

Under head=mlp every frame of a part is normalised over its features; under head=svr it is left alone, as the SVR scales
each feature by itself.

Shapes: P parts, B clips, N samples, T frames.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emoshare.backbones.extractor import BackboneExtractor, resolve
from emoshare.backbones.features import FeatureExtractor
from emoshare.core.backbones import BackboneOptions
from emoshare.core.config import SHORTEST, FramesConfig, WindowConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.masks import length_mask
from emoshare.core.parts import parts_of
from emoshare.data.window import Window
from emoshare.models.joining import join, joined_counts


class JoinedExtractor:
    """Samples → joined frames: an `Extractor`, with one for each part in `parts`."""

    precision = "float32"  # of joined frames; those of the parts are rounded as the stored ones are

    def __init__(self, config: FramesConfig, parts: list[BackboneExtractor]) -> None:
        self.config, self.parts, self.device = config, parts, parts[0].device
        self.compute = "+".join(sorted({part.compute for part in parts}))
        self.width = sum(part.width for part in parts)
        self.sees_padding = any(part.sees_padding for part in parts)
        self.normalized = config.normalized
        self.windows = [Window.of(config.window, part.identity) for part in parts]
        parameters = [part.identity.get("parameters") or 0 for part in parts]
        self.identity: dict[str, Any] = {
            "name": config.backbone.name, "path": config.backbone.path, "type": config.backbone.type,
            "revision": None, "pretrained": True,
            "dim": self.width, "layers": 0, "layer": "last", "parameters": sum(parameters),
            "step": min(window.step for window in self.windows),
            "normalized": self.normalized, "parts": [part.identity for part in parts],
        }  # fmt: skip

    @property
    def batch_seconds(self) -> float:
        """Audio in a batch, at most: what the most demanding part takes."""
        return min(part.batch_seconds for part in self.parts)

    @property
    def equal_lengths(self) -> bool:
        return any(part.equal_lengths for part in self.parts)

    def part_samples(self, samples: Tensor, window: Window) -> Tensor:
        """Samples of speech in the joined window (B,), of any length → those that a part's own window keeps (B,)."""
        samples = samples.cpu()
        return samples if window.pad == "zeros" else samples - (samples - SHORTEST).clamp(min=0) % window.step

    def frame_counts(self, samples: np.ndarray) -> np.ndarray:
        """Samples of speech in the window (B,) → frames of each clip (B,)."""
        kept = [self.part_samples(torch.from_numpy(samples), window).numpy() for window in self.windows]
        counts = [part.frame_counts(n) for part, n in zip(self.parts, kept, strict=True)]
        return joined_counts(torch.from_numpy(np.stack(counts))).numpy()

    def __call__(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Samples (B, N), samples of speech (B,) → frames (B, T, width) float32 and frames that count (B,)."""
        outputs = []
        for part, window in zip(self.parts, self.windows, strict=True):
            kept = self.part_samples(lengths, window)
            seen = waves.shape[1] if window.pad == "zeros" else int(kept.max())
            own = waves[:, :seen].masked_fill(~length_mask(kept, seen), 0)
            frames, counts = part(own, kept)
            outputs.append((frames.to(getattr(torch, part.precision)), counts.to(frames.device)))
        return join(outputs, self.normalized)


def extractor_of(config: FramesConfig, device: torch.device, cache: Path) -> BackboneExtractor | JoinedExtractor:
    """The extractor of a config's backbone, or of the several that it joins. EmoshareError as `resolve`."""
    return resolve_parts(config, device, cache) if config.backbone.parts else resolve(config, device, cache)


def with_features(extractor: Any, path: str) -> Any:
    """The extractor with features of another file in place of its own. EmoshareError as `FeatureExtractor.reading`."""
    if isinstance(extractor, JoinedExtractor):
        return JoinedExtractor(extractor.config, [with_features(part, path) for part in extractor.parts])
    return extractor.reading(path) if isinstance(extractor, FeatureExtractor) else extractor


def resolve_parts(config: FramesConfig, device: torch.device, cache: Path) -> JoinedExtractor:
    """The extractor of several backbones. EmoshareError as `resolve`, and for windows that they cannot share."""
    parts = [resolve(replace(config, backbone=part), device, cache) for part in parts_of(config.backbone)]
    extractor = JoinedExtractor(config, parts)
    steps = {window.step for window in extractor.windows}
    if config.window.pad == "none" and config.window.crop == "center" and len(steps) > 1:
        raise cut_differently([part.identity["name"] for part in parts])
    if config.window.pad == "zeros" and len({part.sees_padding for part in parts}) > 1:
        check_aligned(parts)
    return extractor


def check_windows(backbone: BackboneOptions, window: WindowConfig) -> None:
    """Raise EmoshareError for windows that the parts of a backbone cannot share, as far as their types tell it."""
    parts = [part for part in parts_of(backbone) if not (part.from_file and part.vector)]  # which stands for all of it
    whole = [part.name for part in parts if part.whole_clips]  # a clip to its last sample
    if window.pad == "none" and window.crop == "center" and 0 < len(whole) < len(parts):
        raise cut_differently([part.name for part in parts])
    seeing = [part.name for part in parts if not part.own_samples]
    blind = [part.name for part in parts if part.own_samples and not part.vector]
    if window.pad == "zeros" and seeing and blind:
        raise alignment_error(seeing, blind[0])


def cut_differently(names: list[str]) -> EmoshareError:
    return EmoshareError(
        f"window.crop=center: {' and '.join(names)} cut a clip at different samples; set window.crop to start"
    )


def alignment_error(seeing: list[str], blind: str) -> EmoshareError:
    return EmoshareError(
        f"window.pad=zeros: {' and '.join(seeing)} has frames of the zeros after a short clip, and {blind} has none; "
        "set window.pad to none"
    )


def check_aligned(parts: list[BackboneExtractor]) -> None:
    """Raise EmoshareError where some parts have frames of the zeros after a clip and others of the clip alone.

    A vector per clip stands for all of it either way.
    """
    second = np.array([16_000])
    short = [part for part in parts if not part.sees_padding and part.frame_counts(second)[0] > 1]
    if short:
        raise alignment_error([part.identity["name"] for part in parts if part.sees_padding], short[0].identity["name"])
