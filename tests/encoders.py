"""Small backbones of every family in pairs, of which an engine takes one over, and batches for them."""

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


def error(found: torch.Tensor, true: torch.Tensor) -> float:
    return float((found.float() - true).square().mean().sqrt())
