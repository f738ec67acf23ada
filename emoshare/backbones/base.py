"""The base class of backbones: samples (B, N) → frames (B, T, D), with an identity, made by type.

Shapes: B clips, N samples (16 000 per second), T frames, D features, L layers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emoshare.core.backbones import BackboneOptions
from emoshare.core.config import SHORTEST, WindowConfig, hidden_states
from emoshare.core.errors import EmoshareError
from emoshare.data.window import frame_count

CONFIG_KEYS = ("name", "path", "type", "revision", "dim", "layers", "pretrained", "layer")  # that an identity holds


class Backbone(nn.Module):
    """An encoder that takes samples and lengths, and what its frames depend on.

    `width` is D, or (L + 1)·D for layer=weighted: the hidden states of a frame one after the other. `padded`: windows
    are padded with zeros that the encoder sees. `equal_lengths`: all clips of a batch must be equally long.
    """

    float32_only = True  # whatever the configured precision: such an encoder is a `Float32`
    shortest = SHORTEST  # samples that it is given at least, with zeros after a shorter clip

    def __init__(
        self,
        encoder: nn.Module,
        identity: dict[str, Any],
        frozen: bool = True,
        frame_count: Callable[[int], int] = frame_count,
    ) -> None:
        """frame_count: samples of speech → frames of a clip; by default one per 20 ms."""
        super().__init__()
        self.encoder, self.identity, self.frozen, self.frame_count = encoder, identity, frozen, frame_count
        self.padded = self.equal_lengths = False
        self.dim: int = identity["dim"]
        self.states = hidden_states(identity["layer"], identity["layers"])
        self.width = self.dim * self.states
        self.requires_grad_(not frozen)
        self.train(not frozen)

    @property
    def blocks(self) -> list[nn.Module]:
        """The layers of the encoder, the lowest first; none where it is no encoder of transformers."""
        transformer: Any = getattr(self.encoder, "transformer", None)
        return list(getattr(transformer, "layers", ()))

    def train(self, mode: bool = True) -> Backbone:
        return super().train(mode and not self.frozen)

    def frame_counts(self, samples: np.ndarray) -> np.ndarray:
        """Samples of speech in the window (N,) → frames of each clip (N,)."""
        return np.array([self.frame_count(max(n, SHORTEST)) for n in samples.tolist()], np.int64)

    def forward(self, waves: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Raw samples (B, N) float32 and samples of speech (B,) → frames (B, T, width), frames that count (B,).

        Frames that don't count are zeros. A frozen backbone computes without gradients and without autocast.
        """
        if lengths is None:
            lengths = torch.full((len(waves),), waves.shape[1])
        if not self.frozen:
            return self.encode(waves, lengths)
        with torch.no_grad(), torch.autocast(waves.device.type, enabled=False):
            return self.encode(waves, lengths)

    def encode(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`; a clip shorter than a frame is taken with the zeros after it."""
        return self.encoder(waves, lengths.clamp(min=min(SHORTEST, waves.shape[1])))


def one_frame(samples: int) -> int:
    """Of a backbone that gives a vector per clip."""
    return 1


def load_backbone(
    config: BackboneOptions,
    window: WindowConfig,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    cache: Path = Path("cache"),
) -> Backbone:
    """The backbone that the config describes, on the CPU, its weights in `dtype`.

    `seed` is that of a random encoder (pretrained=false). `cache`: paths.cache, for what a backbone keeps.
    Raises EmoshareError where the type is unknown, or the checkpoint can't be had, isn't what the config says, or
    lacks a tensor.
    """
    backbone = config.load(window, dtype, seed, cache)
    assert isinstance(backbone, Backbone)
    return backbone


def identify(
    config: BackboneOptions, window: WindowConfig, facts: dict[str, Any], encoder: nn.Module
) -> dict[str, Any]:
    """Everything that frames of a window depend on, as JSON: two backbones with equal identity give equal frames.

    facts: what the encoder says of itself; where they name no `weights`, those of `encoder` are hashed.
    """
    identity = {key: getattr(config, key) for key in CONFIG_KEYS} | {"window_normalize": window.normalize} | facts
    if "weights" not in identity:
        identity["weights"] = fingerprint(encoder.state_dict().items())
    check_dim(config, identity["dim"])
    return json.loads(json.dumps(identity))


def check_dim(config: BackboneOptions, actual: int, why: str = "") -> None:
    """Raise EmoshareError where a backbone gives another number of features than the config says."""
    if actual != config.dim:
        raise EmoshareError(f"backbone.dim={config.dim}: {config.name}{why} gives {actual} features; set it to that")


def fingerprint(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Hex sha256 over names, shapes and float32 values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().float().contiguous().numpy().data)
    return digest.hexdigest()
