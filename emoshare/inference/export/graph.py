"""A trained model as one PyTorch module that can be traced: samples and their lengths → shares.

It cuts and pads each clip to the window as training did, so that whoever runs it needs nothing but samples at 16 kHz.
A clip's shares depend on no other clip of its batch: what is padded is masked. Frames stay in float32: the rounding of
stored frames, which a run's own shares went through, is left out.

Shapes: B clips, N samples, S samples of a window, T frames, D features, E targets.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from emoshare.backbones.audeep import AuDeep
from emoshare.backbones.base import Backbone
from emoshare.backbones.deepspectrum import DeepSpectrum
from emoshare.backbones.extractor import frozen_backbone
from emoshare.backbones.frontend import FrontEnd
from emoshare.backbones.logmel import LogMel
from emoshare.backbones.masked import MaskedBackbone, normalize
from emoshare.backbones.outside import OutsideBackbone
from emoshare.backbones.prosody import ProsodyEncoder
from emoshare.backbones.ssl import SpeechEncoder
from emoshare.core.config import HOP, SHORTEST
from emoshare.core.errors import EmoshareError
from emoshare.core.masks import length_mask
from emoshare.data.window import Window
from emoshare.inference.bundle import Bundle
from emoshare.inference.export.features import AuDeepGraph, DeepSpectrumGraph, LogMelGraph, ProsodyGraph
from emoshare.inference.part import Part, TrainedBackbone


class ModelGraph(nn.Module):
    """Samples (B, N) float32 at 16 kHz and lengths (B,) int64 → shares (B, E) float32."""

    def __init__(self, parts: Sequence[PartGraph], weights: Sequence[float]) -> None:
        super().__init__()
        self.parts, self.weights = nn.ModuleList(parts), list(weights)
        self.longest = max(part.window.samples for part in parts)

    def forward(self, samples: Tensor, lengths: Tensor) -> Tensor:
        whole = torch.ones_like(samples[:, 0], dtype=torch.long) * samples.shape[1]
        lengths = lengths.clamp(min=1).minimum(whole)  # lengths (1,) stands for all clips, too
        shares: Any = [part(samples, lengths) for part in self.parts]
        if len(shares) == 1:
            return shares[0]
        return sum(w * each.double() for w, each in zip(self.weights, shares, strict=True)).float()


class SamplesAlone(nn.Module):
    """The same for samples (B, N) alone: NaN stands after the end of a clip that is shorter than others.

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

    def __init__(self, window: Window, frames: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.window, self.frames, self.head = window, frames, head

    def forward(self, samples: Tensor, lengths: Tensor) -> Tensor:
        windows, kept = cut(self.window, samples, lengths)
        frames, counts = self.frames(windows, kept)
        return self.head(frames, counts)


def cut(window: Window, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """As `Window.cut` and the padding after it: clips (B, N) and lengths (B,) → windows and the samples of speech."""
    kept = lengths.clamp(max=window.samples)
    size: Any = window.samples
    if window.pad == "none":
        whole = torch.div((kept - SHORTEST).clamp(min=0), window.step, rounding_mode="floor")
        kept = SHORTEST + whole * window.step
        size = kept.max()
    spare = (lengths - kept).clamp(min=0)
    start = torch.zeros_like(kept) if window.crop == "start" else torch.div(spare, 2, rounding_mode="floor")
    place = torch.arange(size, device=samples.device)
    inside = (place < kept[:, None]) & (place < lengths[:, None])
    at = (start[:, None] + place).minimum(lengths[:, None] - 1)
    return torch.where(inside, samples.gather(1, at), 0.0), kept


class MaskedFrames(nn.Module):
    """A `MaskedBackbone`: windows (B, S) and samples of speech (B,) → frames (B, T, D), frames that count (B,).

    Where the backbone takes clips of equal length alone, its GroupNorm is masked, too, and so are the convolutions over
    time of its transformer, through which data2vec-audio and conformers mix padding into speech.
    """

    def __init__(self, backbone: MaskedBackbone) -> None:
        super().__init__()
        self.normalize, self.masked = backbone.normalize, not backbone.padded
        self.encoder = encoder_graph(backbone.encoder)
        self.norms: list[MaskedGroupNorm] = []
        self.convolutions: list[MaskedConvolution] = []
        if backbone.equal_lengths and isinstance(self.encoder, SpeechEncoder):
            layers: Any = self.encoder.features.conv_layers
            for layer in layers:
                if isinstance(norm := getattr(layer, "layer_norm", None), nn.GroupNorm):
                    layer.layer_norm = MaskedGroupNorm(norm, layer.conv)
                    self.norms.append(layer.layer_norm)
            self.convolutions = mask_convolutions(self.encoder.transformer)

    def forward(self, windows: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        if self.normalize:
            windows = normalize(windows, kept)
        if not self.masked:
            frames = self.encoder(windows, None)
            return frames, torch.ones_like(kept) * frames.shape[1]
        for norm in self.norms:
            norm.samples = kept
        counts = 1 + torch.div(kept - SHORTEST, HOP, rounding_mode="floor")
        mask = length_mask(counts, counts.max())  # type: ignore[arg-type]
        for convolution in self.convolutions:
            convolution.mask = mask
        return self.encoder(windows, mask) * mask[..., None], counts


class MaskedGroupNorm(nn.Module):
    """The GroupNorm of one group per channel behind the first convolution, over each clip's own steps."""

    samples: Tensor  # (B,), of each clip; set before each use

    def __init__(self, norm: nn.GroupNorm, conv: nn.Conv1d) -> None:
        super().__init__()
        self.norm, self.kernel, self.stride = norm, conv.kernel_size[0], conv.stride[0]

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, C, T) → (B, C, T)."""
        counts = 1 + torch.div(self.samples - self.kernel, self.stride, rounding_mode="floor")
        mask = length_mask(counts, hidden.shape[2])[:, None]
        count = counts[:, None, None].to(hidden.dtype)
        mean = torch.where(mask, hidden, 0.0).sum(2, keepdim=True) / count
        centred = hidden - mean
        variance = torch.where(mask, centred, 0.0).square().sum(2, keepdim=True) / count
        normed = centred / (variance + self.norm.eps).sqrt()
        return normed * self.norm.weight[:, None] + self.norm.bias[:, None]


class MaskedConvolution(nn.Module):
    """A convolution over time that takes the frames of padding as the zeros that it adds around a clip."""

    mask: Tensor  # (B, T), of speech; set before each use

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, C, T) → (B, C, T)."""
        return self.conv(torch.where(self.mask[:, None], hidden, 0.0))


def mask_convolutions(module: nn.Module) -> list[MaskedConvolution]:
    """Put a `MaskedConvolution` in place of each convolution over more than one frame; those that were put in."""
    found: list[MaskedConvolution] = []
    for name, child in module.named_children():
        if isinstance(child, nn.Conv1d) and child.kernel_size[0] > 1:
            found.append(MaskedConvolution(child))
            setattr(module, name, found[-1])
        else:
            found += mask_convolutions(child)
    return found


class VectorFrames(nn.Module):
    """A backbone that measures each clip's own speech: takes and gives what `MaskedFrames` does."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, windows: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        return self.encoder(windows, kept.clamp(min=SHORTEST))


class OutsideFrames(nn.Module):
    """A module from outside: takes and gives what `MaskedFrames` does."""

    def __init__(self, backbone: OutsideBackbone, name: str) -> None:
        super().__init__()
        if backbone.equal_lengths:
            raise EmoshareError(
                f"{name}: {backbone.identity['class']} takes clips of equal length alone, and an ONNX file takes any; "
                "use --to hub"
            )
        self.backbone = backbone

    def forward(self, windows: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        windows, kept = self.backbone.prepare(windows, kept)
        frames, counts = self.backbone.encoder(windows, kept)
        mask = length_mask(counts, frames.shape[1])
        return torch.where(mask[..., None], frames, 0.0), counts


def encoder_graph(encoder: nn.Module) -> nn.Module:
    """An encoder of samples and a mask in ordinary operations; the one given stays as it is."""
    if isinstance(encoder, LogMel):
        return LogMelGraph(encoder)
    encoder = copy.deepcopy(encoder).float().eval()
    if isinstance(encoder, SpeechEncoder):
        if isinstance(encoder.features, FrontEnd):
            encoder.features = encoder.features.original
        encoder.augment = None
    return encoder


def frames_graph(backbone: Backbone, name: str) -> nn.Module:
    """A backbone as windows (B, S), samples of speech (B,) → frames and frames that count.

    Raises:
        EmoshareError: it computes with another library than PyTorch, or in a way that is not known here.
    """
    encoder = backbone.encoder
    if isinstance(backbone, OutsideBackbone):
        return OutsideFrames(backbone, name)
    if isinstance(backbone, MaskedBackbone) and type(backbone).prepare is MaskedBackbone.prepare:
        return MaskedFrames(backbone)
    if isinstance(encoder, ProsodyEncoder):
        return VectorFrames(ProsodyGraph())
    if isinstance(encoder, DeepSpectrum):
        return VectorFrames(DeepSpectrumGraph(encoder))
    if isinstance(encoder, AuDeep):
        return VectorFrames(AuDeepGraph(encoder))
    raise EmoshareError(
        f"{name}: what {backbone.identity['type']} makes of samples cannot be expressed in ONNX or OpenVINO; --to hub "
        "exports every run"
    )


def part_graph(bundle: Bundle, part: Part) -> PartGraph:
    """A part of a model. EmoshareError where its backbone cannot be exported."""
    extractor: Any = part.extractor
    if isinstance(extractor, TrainedBackbone):
        backbone = extractor.backbone
    else:  # its engine has taken over the one that the extractor has loaded
        backbone = frozen_backbone(extractor.config, extractor.device, extractor.cache)
    return PartGraph(part.window, frames_graph(backbone, bundle.results.run), part.learned.graph())
