"""The head: frames → shares. Pooling over time and a multi-layer perceptron, as in the paper.

Shapes: B clips, T frames, L hidden states, D features, H hidden units, E emotions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from emoshare.core.config import HeadConfig

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "tanh": nn.Tanh}
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm1d,
    "layer": nn.LayerNorm,
    "none": lambda _: nn.Identity(),
}
OUTPUTS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "softmax": lambda: nn.Softmax(dim=1),
    "linear": nn.Identity,
}


class LayerMix(nn.Module):
    """Softmax-weighted sum of all hidden states, one learned weight per state (as in SUPERB)."""

    def __init__(self, states: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(states))

    def forward(self, frames: Tensor) -> Tensor:
        """(B, T, L·D) → (B, T, D)."""
        states = frames.reshape(*frames.shape[:2], len(self.weight), -1)  # (B, T, L, D)
        weight = self.weight.softmax(0).to(states.dtype)
        return torch.einsum("btld,l->btd", states, weight)


class Pooling(nn.Module):
    """Frames of a clip → one vector: attention (one learned query), mean or max over the frames that count."""

    def __init__(self, kind: str, dim: int) -> None:
        super().__init__()
        self.kind = kind
        self.score = nn.Linear(dim, 1, bias=False) if kind == "attention" else None

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) and (B,) frames that count → (B, D) in float32.

        Attention is two matrix products in the frames' own precision; its softmax is taken in float32.
        """
        silent = torch.arange(frames.shape[1], device=frames.device) >= lengths[:, None]  # (B, T)
        if self.kind == "max":
            return frames.masked_fill(silent[:, :, None], -torch.inf).amax(1).float()
        if self.score is not None:
            scores = (frames @ self.score.weight.to(frames.dtype).T).squeeze(2).float()  # (B, T)
        else:
            scores = frames.new_zeros(frames.shape[:2], dtype=torch.float32)
        weights = scores.masked_fill(silent, -torch.inf).softmax(1)  # (B, T)
        return (weights.to(frames.dtype)[:, None] @ frames).squeeze(1).float()  # (B, D)


class Head(nn.Module):
    """Pooling, Linear(D→H), norm, activation, Linear(H→E), norm, output: the paper's classifier by default."""

    def __init__(self, width: int, states: int, emotions: int, config: HeadConfig) -> None:
        """Width is what a frame holds: D, or L·D when the hidden states are mixed here (states = L > 1)."""
        super().__init__()
        dim, norm = width // states, NORMS[config.norm]
        self.mix = LayerMix(states) if states > 1 else nn.Identity()
        self.pooling = Pooling(config.pooling, dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, config.hidden),
            norm(config.hidden),
            ACTIVATIONS[config.activation](),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, emotions),
            norm(emotions),
            OUTPUTS[config.output](),
        )

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, width) and (B,) frames that count → (B, E) shares."""
        if frames.device.type == "cpu" and frames.dtype == torch.float16:
            frames = frames.float()  # a processor has no float16 matrix products worth the name
        pooled = self.pooling(self.mix(frames), lengths)  # (B, D)
        return self.mlp(pooled.to(self.mlp[0].weight.dtype))
