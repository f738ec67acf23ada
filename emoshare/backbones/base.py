"""A frozen self-supervised speech encoder: waveforms (B, N) → frames (B, T, D), 50 per second.

A checkpoint is loaded as what it is: by its own class, every tensor accounted for, normalised and masked as its
authors did, or not at all. What frames depend on is collected in `Backbone.identity`.

Shapes: B clips, N samples (16 000 per second), T frames, D features, L layers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from emoshare.backbones import checkpoint
from emoshare.backbones.frontend import accelerate
from emoshare.core.config import HOP, RATE, SHORTEST, BackboneConfig, WindowConfig
from emoshare.core.errors import EmoshareError
from emoshare.data.window import frame_count

# What the tensors alone don't tell of a model, and its frames depend on.
ARCHITECTURE = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act", "layer_norm_eps",
    "feat_extract_norm", "feat_extract_activation", "feat_proj_layer_norm", "do_stable_layer_norm", "conv_dim",
    "conv_kernel", "conv_stride", "conv_bias", "num_conv_pos_embeddings", "num_conv_pos_embedding_groups",
    "conv_pos_batch_norm", "num_buckets", "max_bucket_distance",
)  # fmt: skip


class Encoder(nn.Module):
    """The parts of a transformers model between normalised samples and hidden states.

    `layer`: "last" is the model's last_hidden_state, an index i its hidden_states[i], "weighted" all of them.
    """

    def __init__(self, model: Any, layer: str) -> None:
        super().__init__()
        self.features, self.projection = model.feature_extractor, model.feature_projection
        self.transformer = model.encoder
        self.stable = bool(model.config.do_stable_layer_norm)  # its last norm comes after hidden_states[L]
        self.weighted = layer == "weighted"
        self.tapped: list[Tensor] = []
        if layer.isdigit():
            self.transformer.layers = self.transformer.layers[: int(layer)]
            if self.stable:
                self.transformer.layer_norm = nn.Identity()
        if self.weighted:
            self.transformer.layers[0].register_forward_pre_hook(self.tap_input)
            for block in self.transformer.layers:
                block.register_forward_hook(self.tap_output)

    def tap_input(self, block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.tapped = [inputs[0]]

    def tap_output(self, block: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        self.tapped.append(output[0] if isinstance(output, tuple) else output)

    def forward(self, waves: Tensor, mask: Tensor | None = None) -> Tensor:
        """Samples (B, N) and, where clips differ in length, (B, T) true for frames of speech → (B, T, width)."""
        self.tapped = []  # of a batch that memory did not suffice for
        waves = waves.to(self.projection.projection.weight.dtype)
        hidden = self.features(waves).transpose(1, 2)  # (B, T, C)
        hidden = self.projection(hidden)  # (B, T, D)
        if isinstance(hidden, tuple):
            hidden = hidden[0]
        hidden = self.transformer(hidden, attention_mask=mask).last_hidden_state
        if self.weighted:
            hidden, self.tapped = torch.stack(self.tapped, dim=2).flatten(2), []  # (B, T, (L + 1)·D)
        return hidden


class LogMel(nn.Module):
    """80 log-mel bands of 25 ms every 20 ms: a backbone that has learned nothing, (B, N) → (B, T, 80).

    Always in float32: half precision would gain nothing, and give other frames on other machines.
    """

    def __init__(self, bands: int) -> None:
        super().__init__()
        from torchaudio.transforms import MelSpectrogram

        self.mel = MelSpectrogram(RATE, n_fft=SHORTEST, hop_length=HOP, n_mels=bands, center=False)

    def forward(self, waves: Tensor, mask: Tensor | None = None) -> Tensor:
        return (self.mel(waves.float()) + 1e-6).log().transpose(1, 2)  # (B, T, D)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LogMel:
        """Move to another device, but not to another precision, whatever Lightning asks for."""
        return super()._apply(lambda tensor: tensor.to(fn(tensor).device), recurse)


class Backbone(nn.Module):
    """A speech encoder with its checkpoint's normalisation and mask.

    `width` is D, or (L + 1)·D for layer=weighted: the hidden states of a frame one after the other. `padded`: windows
    are padded with zeros that the encoder sees. `equal_lengths`: all clips of a batch must be equally long.
    """

    def __init__(self, encoder: nn.Module, identity: dict[str, Any], padded: bool, frozen: bool) -> None:
        super().__init__()
        self.encoder, self.identity, self.padded, self.frozen = encoder, identity, padded, frozen
        self.dim: int = identity["dim"]
        self.states: int = identity["layers"] + 1 if identity["layer"] == "weighted" else 1
        self.width = self.dim * self.states
        self.normalize: bool = identity["normalize"]
        self.equal_lengths = not padded and not identity["mask"]
        self.requires_grad_(not frozen)
        self.train(not frozen)

    def train(self, mode: bool = True) -> Backbone:
        return super().train(mode and not self.frozen)

    def forward(self, waves: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Raw samples (B, N) float32 and samples of speech (B,) → frames (B, T, width), frames that count (B,).

        Frames are in the precision of the weights (a LogMel's in float32); those that don't count are zeros. Raises
        ValueError for fewer than 400 samples and for unequal lengths where the encoder can't tell padding from speech
        (`equal_lengths`).
        """
        waves, mask, counts = self.prepare(waves, lengths)
        if not self.frozen:
            return self.finish(self.encoder(waves, mask), mask), counts
        with torch.no_grad(), torch.autocast(waves.device.type, enabled=False):
            return self.finish(self.encoder(waves, mask), mask), counts

    def prepare(self, waves: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor]:
        """What the encoder takes: normalised samples (B, N), a mask of frames (B, T) or None; and frame counts (B,)."""
        if lengths is None:
            lengths = torch.full((len(waves),), waves.shape[1])
        if self.equal_lengths:
            if len(lengths.unique()) > 1:
                raise ValueError(
                    f"{self.identity['name']} takes clips of equal length in a batch, not {lengths.tolist()}"
                )
            waves = waves[:, : int(lengths[0])]
        if waves.shape[1] < SHORTEST or (not self.padded and int(lengths.min()) < SHORTEST):
            raise ValueError(f"a backbone needs at least {SHORTEST} samples, not {int(lengths.min())}")
        lengths = lengths.to(waves.device)
        frames = frame_count(waves.shape[1])
        if self.normalize:
            waves = normalize(waves.float(), lengths)
        if self.padded or self.equal_lengths:
            return waves, None, torch.full_like(lengths, frames)
        counts = 1 + (lengths - SHORTEST) // HOP
        waves = torch.where(before(lengths, waves.shape[1]), waves, 0.0)
        return waves, before(counts, frames), counts

    def finish(self, frames: Tensor, mask: Tensor | None) -> Tensor:
        return frames if mask is None else frames * mask[..., None]


def before(lengths: Tensor, size: int) -> Tensor:
    """(B,) lengths → (B, size), true at positions below each length."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def normalize(waves: Tensor, lengths: Tensor) -> Tensor:
    """Zero mean and unit variance of each clip's speech, zeros after it: (x - mean) / sqrt(var + 1e-7).

    As transformers' Wav2Vec2FeatureExtractor: (B, N), (B,) samples of speech → (B, N).
    """
    speech, count = before(lengths, waves.shape[1]), lengths.clamp(min=1)[:, None]
    centred = torch.where(speech, waves - torch.where(speech, waves, 0.0).sum(1, keepdim=True) / count, 0.0)
    return centred / (centred.square().sum(1, keepdim=True) / count + 1e-7).sqrt()


def load_backbone(
    config: BackboneConfig, window: WindowConfig, dtype: torch.dtype = torch.float32, seed: int = 0, fast: bool = True
) -> Backbone:
    """The backbone that the config describes, on the CPU, its weights in `dtype`.

    `seed` is that of a random encoder (pretrained=false). `fast`: a frozen one gets the channels-last front end.
    Raises EmoshareError where the checkpoint can't be had, isn't what the config says, or lacks a tensor.
    """
    if config.layer.isdigit() and int(config.layer) > config.layers:
        raise EmoshareError(f"backbone.layer={config.layer}: {config.name} has the layers 0 to {config.layers}")
    if config.type == "logmel":
        encoder: nn.Module = LogMel(config.dim)
        facts = {"class": "LogMel", "parameters": 0} | checkpoint.policy(config, window, None, None)
        return Backbone(encoder, identify(config, window, encoder, facts), window.pad == "zeros", config.frozen)
    folder = checkpoint.locate(config)
    architecture = checkpoint.describe(config, folder)
    facts = checkpoint.policy(config, window, architecture.feat_extract_norm, folder)
    with torch.random.fork_rng(devices=[]):
        model = checkpoint.build(config, architecture, folder, seed)
    facts |= {"class": type(model).__name__, "parameters": checkpoint.count_parameters(config, model)}
    encoder = Encoder(model, config.layer)  # cuts the layers that nobody reads
    facts |= {"commit": folder.name if folder and folder.parent.name == "snapshots" else None}
    facts |= {"seed": None if config.pretrained else seed}
    facts |= {"architecture": {key: getattr(architecture, key, None) for key in ARCHITECTURE}}
    identity = identify(config, window, encoder, facts)
    if config.frozen:
        fold(encoder)
        encoder.features = accelerate(encoder.features) if fast else encoder.features
    return Backbone(encoder.to(dtype), identity, window.pad == "zeros", config.frozen)


def identify(config: BackboneConfig, window: WindowConfig, encoder: nn.Module, facts: dict[str, Any]) -> dict[str, Any]:
    """Everything that frames of a window depend on, as JSON: two backbones with equal identity give equal frames."""
    keys = ("name", "path", "type", "revision", "dim", "layers", "pretrained", "layer")
    identity = {key: getattr(config, key) for key in keys} | {"window_normalize": window.normalize} | facts
    identity["weights"] = fingerprint(encoder.state_dict().items())
    return json.loads(json.dumps(identity))


def fingerprint(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Hex sha256 over names, shapes and float32 values; of what SpecAugment alone uses, nothing."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().float().contiguous().numpy().data)
    return digest.hexdigest()


def fold(encoder: Encoder) -> None:
    """Multiply the positional convolution's weight norm out, once instead of in every batch."""
    convolution = getattr(encoder.transformer.pos_conv_embed, "conv", None)
    if convolution is not None and parametrize.is_parametrized(convolution, "weight"):
        parametrize.remove_parametrizations(convolution, "weight")
