"""A trained model as one PyTorch module that can be traced: samples and their lengths → shares.

It cuts and pads each clip to the window as training did, so that whoever runs it needs nothing but samples at 16 kHz.
A clip's shares depend on no other clip of its batch: what is padded is masked. Frames stay in float32: the rounding of
stored frames, which a run's own shares went through, is left out.

Shapes: B clips, N samples, S samples of a window, T frames, D features, E targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from emoshare.backbones.base import Backbone
from emoshare.backbones.extractor import frozen_backbone
from emoshare.core.config import SHORTEST
from emoshare.core.errors import EmoshareError
from emoshare.data.window import Window
from emoshare.inference.bundle import Bundle
from emoshare.inference.part import Part, TrainedBackbone


class ModelGraph(nn.Module):
    """Samples (B, N) float32 at 16 kHz and lengths (B,) int64 → shares (B, E) float32."""

    def __init__(self, parts: Sequence[PartGraph], weights: Sequence[float]) -> None:
        super().__init__()
        self.parts, self.weights = nn.ModuleList(parts), list(weights)
        self.longest = max(part.window.samples for part in parts)

    def forward(self, samples: Tensor, lengths: Tensor) -> Tensor:
        whole = torch.ones_like(samples[:, 0], dtype=torch.long) * samples.shape[1]
        lengths = lengths.clamp(min=1).minimum(whole)  # lengths (1,) is that of all clips, too
        shares: Any = [part(samples, lengths) for part in self.parts]
        if len(shares) == 1:
            return shares[0]
        return sum(w * each.double() for w, each in zip(self.weights, shares, strict=True)).float()


class SamplesAlone(nn.Module):
    """The same for samples (B, N) alone: NaN follows the end of a clip that is shorter than others.

    For an engine whose inputs cannot be left out. OpenVINO runs a model without one of its inputs, with what was given
    for it the last time.
    """

    def __init__(self, graph: ModelGraph) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, samples: Tensor) -> Tensor:
        heard = ~samples.isnan()
        return self.graph(torch.where(heard, samples, 0.0), heard.long().sum(1))


class PartGraph(nn.Module):
    """One backbone with its head, from the whole clip on."""

    def __init__(self, window: Window, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.window, self.backbone, self.head = window, backbone, head

    def forward(self, samples: Tensor, lengths: Tensor) -> Tensor:
        windows, speech = cut(self.window, samples, lengths, self.backbone.shortest)
        frames, counts = self.backbone(windows, speech)
        return self.head(frames, counts)


def cut(window: Window, samples: Tensor, lengths: Tensor, shortest: int) -> tuple[Tensor, Tensor]:
    """Cut and pad as `Window.cut` does: clips (B, N) and lengths (B,) → windows and the samples of speech.

    Windows have `shortest` samples or more.
    """
    speech = lengths.clamp(max=window.samples)
    size: Any = window.samples
    if window.pad == "none":
        whole = torch.div((speech - SHORTEST).clamp(min=0), window.step, rounding_mode="floor")
        speech = SHORTEST + whole * window.step
        size = speech.max().clamp(min=shortest)
    spare = (lengths - speech).clamp(min=0)
    start = torch.zeros_like(speech) if window.crop == "start" else torch.div(spare, 2, rounding_mode="floor")
    place = torch.arange(size, device=samples.device)
    inside = (place < speech[:, None]) & (place < lengths[:, None])
    at = (start[:, None] + place).minimum(lengths[:, None] - 1)
    return torch.where(inside, samples.gather(1, at), 0.0), speech


def part_graph(bundle: Bundle, part: Part) -> PartGraph:
    """A part of a model. EmoshareError where its backbone cannot be traced."""
    extractor: Any = part.extractor
    if isinstance(extractor, TrainedBackbone):
        backbone = extractor.backbone
    else:  # whose weights are packed
        backbone = frozen_backbone(extractor.config, extractor.device, extractor.cache)
    reason = bundle.config.backbone.untraceable
    if backbone.equal_lengths:
        reason = f"{backbone.identity['class']} takes clips of equal length alone, and an ONNX file takes any"
    if reason:
        raise EmoshareError(f"{bundle.results.run}: {reason}; use --to hub")
    return PartGraph(part.window, backbone, part.learned.graph())
