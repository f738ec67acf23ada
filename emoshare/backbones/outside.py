"""A class from outside as a backbone: made, tried on a small batch, its weights written and read as data.

Shapes: B clips, N samples (16 000 per second), T frames, D features.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emoshare.backbones.base import Backbone, fingerprint
from emoshare.core.config import RATE, SHORTEST, WindowConfig
from emoshare.core.errors import EmoshareError, brief, limit_errno
from emoshare.core.masks import length_mask
from emoshare.core.outside import crash, source_hash
from emoshare.data.window import Window

WEIGHTS = "model.safetensors"
SAME = 1e-3  # largest difference of a clip's frames alone from those beside a longer clip, as a share of the largest


class OutsideBackbone(Backbone):
    """A module from outside, with samples and lengths as it expects them."""

    def __init__(self, module: nn.Module, identity: dict[str, Any], window: WindowConfig, frozen: bool) -> None:
        super().__init__(module, identity, frozen)
        self.float32_only = bool(getattr(module, "float32_only", True))
        self.window_samples, self.padded = Window.of(window).samples, window.pad == "zeros"
        self.equal_lengths = not self.padded and identity["equal_lengths"]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> OutsideBackbone:
        """Move to another device, and to another precision where the module can compute in it."""
        change = (lambda tensor: tensor.to(fn(tensor).device)) if self.float32_only else fn
        return super()._apply(change, recurse)  # type: ignore[no-untyped-call]

    def frame_counts(self, samples: np.ndarray) -> np.ndarray:
        """Samples of speech in the window (N,) → frames of each clip (N,), those of the zero padding included."""
        seen = np.maximum(np.asarray(samples, np.int64), SHORTEST)
        return counts_of(self.encoder, np.full_like(seen, self.window_samples) if self.padded else seen)

    def encode(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As `Backbone.forward`. A clip of fewer than 400 samples is taken with zeros after it.

        Raises:
            EmoshareError: the module gives other frames than its `frame_counts` has announced.
        """
        waves, lengths = self.prepare(waves, lengths)
        given = self.encoder(waves, lengths)
        announced = counts_of(self.encoder, lengths.cpu().numpy())
        if problem := shape_problem(given, announced, self.dim):
            raise EmoshareError(f"{self.identity['class']}: {problem}")
        frames, counts = given
        counts = counts.to(frames.device, torch.long)
        return torch.where(length_mask(counts, frames.shape[1])[..., None], frames, 0.0), counts

    def prepare(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Samples of at least 400 and in the precision of the weights, zeros after each clip; and their lengths."""
        waves = nn.functional.pad(waves, (0, max(SHORTEST - waves.shape[1], 0)))
        lengths = lengths.to(waves.device).clamp(min=SHORTEST)
        lengths = torch.full_like(lengths, waves.shape[1]) if self.padded else lengths
        waves = torch.where(length_mask(lengths, waves.shape[1]), waves, 0.0)
        kinds = [p.dtype for p in self.encoder.parameters() if p.is_floating_point()]
        return waves if self.float32_only or not kinds else waves.to(kinds[0]), lengths


def make(config: Any, seed: int = 0) -> Any:
    """The module with weights from the seed, from itself, or from the folder `_weights_`.

    Raises:
        EmoshareError: it is no module, lacks what a backbone has, or the weights are of another.
        OutsideError: it raises when it is made.
    """
    cls, name = config.load_target(), config._target_
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise EmoshareError(f"backbone._target_={name}: must be a class of torch.nn.Module")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            module = cls(**config.options)
        except Exception as error:
            raise error if limit_errno(error) else crash(error, name) from error
    width = getattr(module, "width", None)
    if isinstance(width, bool) or not isinstance(width, int) or width < 1:
        raise EmoshareError(f"{name}: needs an attribute width, the numbers of a frame, and it is {width!r}")
    if not callable(getattr(module, "frame_counts", None)):
        raise EmoshareError(f"{name}: needs a method frame_counts(samples (N,)) -> frames of each clip (N,)")
    if config._weights_:
        read(module, Path(config._weights_).expanduser() / WEIGHTS, name)
    return module


def read(module: nn.Module, path: Path, name: str) -> None:
    """Load weights. EmoshareError where they cannot be read, or are of another class."""
    from safetensors.torch import load_file

    try:
        module.load_state_dict(load_file(path))
    except Exception as error:  # safetensors' own, torch's, the system's
        raise EmoshareError(f"{path}: not the weights of {name} ({brief(error)}); export the run again") from error


def load(config: Any, window: WindowConfig, dtype: torch.dtype, seed: int) -> OutsideBackbone:
    """The backbone of a config, on the CPU. EmoshareError as `make`."""
    module = make(config, seed)
    backbone = OutsideBackbone(module, identify(config, window, module), window, config.frozen)
    return backbone.to(dtype)


def identify(config: Any, window: WindowConfig, module: Any) -> dict[str, Any]:
    """Everything that frames depend on: class, source, options and weights."""
    equal = bool(getattr(module, "equal_lengths", False))
    return {
        "name": config.name, "path": config._target_, "type": config.type, "revision": None, "pretrained": True,
        "dim": module.width, "layers": 0, "layer": "last", "class": config._target_,
        "source": source_hash(config.load_target()), "options": config.options,
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "weights": fingerprint((name, value) for name, value in module.state_dict().items()),
        "equal_lengths": equal, "mask": window.pad == "none" and not equal, **({} if equal else {"step": 1}),
    }  # fmt: skip


def counts_of(module: Any, samples: np.ndarray) -> np.ndarray:
    """The numbers of frames that the module announces: samples (N,) → (N,)."""
    return np.asarray(module.frame_counts(samples)).astype(np.int64)


def shape_problem(given: Any, announced: np.ndarray, width: int) -> str:
    """The mistake in a module's output, compared with the announced frames (B,); empty where there is none."""
    if not isinstance(given, tuple | list) or [*map(type, given)] != [Tensor, Tensor]:
        return "its forward must give two tensors, frames (B, T, D) and the counts (B,) of those that count"
    (frames, counts), clips = given, len(announced)
    if frames.ndim != 3 or frames.shape[0] != clips or frames.shape[2] != width:
        return f"its forward gives frames {tuple(frames.shape)} for {clips} clips; they must be ({clips}, T, {width})"
    if counts.shape != (clips,) or counts.is_floating_point():
        return f"its forward gives counts {tuple(counts.shape)} of {counts.dtype}; they must be ({clips},) integers"
    if counts.tolist() != announced.tolist():
        return f"its forward gives {counts.tolist()} frames, and its frame_counts says {announced.tolist()}"
    if not 1 <= int(counts.min()) <= int(counts.max()) <= frames.shape[1]:
        return (
            f"its forward counts {counts.tolist()} frames of {frames.shape[1]}; each clip must have 1 or more of them"
        )
    return ""


def probe(config: Any, window: WindowConfig) -> None:
    """Raise EmoshareError unless the class makes a backbone that gives finite frames of a small batch."""
    module = make(config)
    name = config._target_
    if not config.frozen and not any(parameter.is_floating_point() for parameter in module.parameters()):
        raise EmoshareError(f"backbone.frozen=false: {name} has no parameters to train; set it to true")
    backbone = OutsideBackbone(module, identify(config, window, module), window, frozen=True)
    size = backbone.window_samples if backbone.padded else min(backbone.window_samples, RATE)
    alike = backbone.padded or backbone.equal_lengths
    lengths = torch.tensor([size, size if alike else max(size * 3 // 5, min(size, SHORTEST))])
    waves = torch.from_numpy(np.random.default_rng(0).standard_normal((2, size)).astype(np.float32)) * 0.1
    try:
        announced = counts_of(module, lengths.clamp(min=SHORTEST).numpy())
    except Exception as error:
        raise crash(error, f"{name}.frame_counts on {lengths.tolist()} samples") from error
    if announced.shape != (2,):
        raise EmoshareError(f"{name}: its frame_counts gives {announced.shape} for 2 clips; it must give (2,)")
    try:
        frames, counts = backbone(waves, lengths)
        alone, _ = backbone(waves[1:, : lengths[1]], lengths[1:])
    except EmoshareError:
        raise
    except Exception as error:
        raise error if limit_errno(error) else crash(error, f"{name} on waves (2, {size})") from error
    check_frames(name, frames, alone[0], int(counts[1]))


def check_frames(name: str, frames: Tensor, alone: Tensor, count: int) -> None:
    """Raise EmoshareError for frames (2, T, D) that are not finite, or depend on the clip beside.

    alone: (T, D) of the second clip by itself. count: of its frames that count.
    """
    if not bool(torch.isfinite(frames).all()):
        raise EmoshareError(f"{name}: its frames of noise are NaN or infinite")
    beside, alone = frames[1, :count].float(), alone[:count].float()
    if float((beside - alone).abs().max()) > SAME * max(1.0, float(alone.abs().max())):
        raise EmoshareError(
            f"{name}: its frames of a clip change with the clips beside it; leave out what lies beyond lengths, draw "
            "nothing at random in evaluation mode, or set equal_lengths = True in the class"
        )


def write(config: Any, window: WindowConfig, seed: int, weights: dict[str, Tensor], folder: Path) -> None:
    """Write the module's weights into a folder; weights: those that a run has trained, by their names in a backbone."""
    from safetensors.torch import save_file

    backbone = load(config, window, torch.float32, seed)
    if weights:
        backbone.load_state_dict(weights)
    folder.mkdir(parents=True)
    save_file(
        {name: value.contiguous().clone() for name, value in backbone.encoder.state_dict().items()}, folder / WEIGHTS
    )
