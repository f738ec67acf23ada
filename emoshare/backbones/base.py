"""What a backbone is: samples (B, N) → frames (B, T, D), with an identity, found by its type.

Shapes: B clips, N samples (16 000 per second), T frames, D features, L layers.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emoshare.backbones import checkpoint
from emoshare.backbones.architecture import FAMILIES, check_parameters
from emoshare.backbones.auto import settle
from emoshare.backbones.finetuning import check_trained, prepare
from emoshare.core.config import SHORTEST, BackboneConfig, WindowConfig, hidden_states
from emoshare.core.errors import EmoshareError
from emoshare.core.kinds import is_outside
from emoshare.core.text import near
from emoshare.data.window import frame_count

# backbone.type → its module in this package, where it is not called as the type is.
MODULES = {kind: "ssl" for kind, family in FAMILIES.items() if family.samples}
MODULES |= {"whisper": "whisper", "wav2vec2-bert": "w2v_bert"}
CONFIG_KEYS = ("name", "path", "type", "revision", "dim", "layers", "pretrained", "layer")  # that an identity holds


class Backbone(nn.Module):
    """An encoder that takes samples and lengths, and what its frames depend on.

    `width` is D, or (L + 1)·D for layer=weighted: the hidden states of a frame one after the other. `padded`: windows
    are padded with zeros that the encoder sees. `equal_lengths`: all clips of a batch must be equally long.
    """

    float32_only = True  # whatever precision is asked for
    convertible = False  # to another engine than PyTorch

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

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Backbone:
        """Move to another device, and to another precision where the encoder can compute in it."""
        return super()._apply((lambda tensor: tensor.to(fn(tensor).device)) if self.float32_only else fn, recurse)

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
    config: Any,
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
    if is_outside(config):
        return config.load(window, dtype, seed, cache)
    config = settle(config, window)
    check_layer(config)
    backbone = loader(config.type)(config, window, dtype, seed, cache)
    assert isinstance(backbone, Backbone)
    prepare(backbone, config, seed)
    return backbone


def check_backbone(config: Any, window: WindowConfig) -> None:
    """Raise EmoshareError for all that config and checkpoint tell of a backbone without its weights.

    NotAtHandError where a package is missing. A checkpoint that has to be fetched first is left to `load_backbone`.
    """
    if is_outside(config):
        return config.check_loadable(window)
    config = settle(config, window)
    check_layer(config)
    check_trained(config)
    module = sys.modules[loader(config.type).__module__]
    if not hasattr(module, "check"):
        return
    published = of_checkpoint(config)
    if published and not checkpoint.at_hand(config):
        return
    found = module.check(replace(config, pretrained=config.pretrained and not published), window)
    if config.type in FAMILIES and (config.path == "tiny" or not config.pretrained):
        check_parameters(config, found[1])


def of_checkpoint(config: BackboneConfig) -> bool:
    """Whether the path is that of a checkpoint: a folder of transformers' kind, or a name on the hub."""
    return not is_outside(config) and (config.type in MODULES or ("/" in config.path and config.type != "audeep"))


def check_layer(config: BackboneConfig) -> None:
    """Raise EmoshareError for a layer that the encoder has not."""
    if config.layer.isdigit() and int(config.layer) > config.layers:
        raise EmoshareError(f"backbone.layer={config.layer}: {config.name} has the layers 0 to {config.layers}")


def loader(kind: str) -> Callable[..., Any]:
    """The function `load` of a type's module. EmoshareError for a type that there is not, with those that there are."""
    name = f"emoshare.backbones.{MODULES.get(kind, kind)}"
    if kind.isidentifier() or kind in MODULES:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
        else:
            if load := getattr(module, "load", None):
                return load
    known = types()
    raise EmoshareError(
        f"backbone.type={kind}: must be one of {', '.join(known)}{near(kind, known)}. Encoders of another architecture "
        "can't be loaded: choose one of the backbones that there are, or add a file to emoshare/backbones"
    )


def types() -> list[str]:
    """All values of backbone.type, each with a module that has a function `load`."""
    modules = [found.name for found in pkgutil.iter_modules([str(Path(__file__).parent)])]
    own = [name for name in modules if hasattr(importlib.import_module(f"emoshare.backbones.{name}"), "load")]
    return sorted({*MODULES, *own} - set(MODULES.values()))


def identify(config: BackboneConfig, window: WindowConfig, facts: dict[str, Any], encoder: nn.Module) -> dict[str, Any]:
    """Everything that frames of a window depend on, as JSON: two backbones with equal identity give equal frames.

    facts: what the encoder says of itself; where they name no `weights`, those of `encoder` are hashed.
    """
    identity = {key: getattr(config, key) for key in CONFIG_KEYS} | {"window_normalize": window.normalize} | facts
    if "weights" not in identity:
        identity["weights"] = fingerprint(encoder.state_dict().items())
    check_dim(config, identity["dim"])
    return json.loads(json.dumps(identity))


def check_dim(config: BackboneConfig, found: int, why: str = "") -> None:
    """Raise EmoshareError where a backbone gives another number of features than the config says."""
    if found != config.dim:
        raise EmoshareError(f"backbone.dim={config.dim}: {config.name}{why} gives {found} features; set it to that")


def fingerprint(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Hex sha256 over names, shapes and float32 values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().float().contiguous().numpy().data)
    return digest.hexdigest()
