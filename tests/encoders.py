"""Small backbones of every family in pairs, of which an engine takes one over, and batches for them."""

from collections.abc import Callable

import checkpoints
import torch

from emoshare.backbones.base import load_backbone
from emoshare.core.config import WindowConfig

SECONDS, SAMPLES = 0.25, 4_000


def backbones(folder, name, layer="last", pad="zeros", dtype=torch.float32):
    """Twice the same: an engine moves and marks the weights of its own."""
    config = (checkpoints.write_mel if name in checkpoints.MELS else checkpoints.write)(folder, name)
    config.layer = layer
    return [load_backbone(config, WindowConfig(seconds=SECONDS, pad=pad), dtype) for _ in range(2)]


def batch(backbone, clips: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips of which every other one is shorter, zeros after them."""
    lengths = torch.full((clips,), SAMPLES)
    lengths[1::2] = 2_600
    return torch.randn(clips, SAMPLES) * 0.1 * (torch.arange(SAMPLES) < lengths[:, None]), lengths


def shake(model: torch.nn.Module, size: float = 0.1) -> None:
    """Move all parameters at random, so that none is 0 or 1."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * size)


def ragged(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips of some lengths, the first the longest, NaN after the others, and their lengths."""
    waves = torch.full((len(lengths), lengths[0]), torch.nan)
    for row, n in enumerate(lengths):
        waves[row, :n] = torch.randn(n) * 0.1 + 0.01
    return waves, torch.tensor(lengths)


def check_batch(backbone, waves, lengths, reference: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Hold each clip of a batch against itself alone, and that against a reference: samples (N,) → frames (T, D).

    Gives the number of frames of each clip.
    """
    frames, counts = backbone(waves, lengths)
    assert counts.tolist() == backbone.frame_counts(lengths.numpy()).tolist()
    for wave, n, clip, count in zip(waves, lengths.tolist(), frames, counts.tolist(), strict=True):
        alone = backbone(wave[None, :n])[0][0]
        torch.testing.assert_close(clip[:count], alone, rtol=0, atol=1e-5)
        assert not clip[count:].any()
        torch.testing.assert_close(alone, reference(wave[:n])[:count], rtol=0, atol=2e-5)
    return counts


def error(found: torch.Tensor, true: torch.Tensor) -> float:
    return float((found.float() - true).square().mean().sqrt())
