"""The head: frames → shares. Pooling over time and a multi-layer perceptron, as in the paper.

Shapes: B clips, T frames, L hidden states, D features, F features of a pooled clip, M segments of all clips, H hidden
units, E emotions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from emoshare.models.pooling import Pooling, Segments, mean_of_segments

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


class Layout(Protocol):
    """The layers of a head, as the options of head=mlp say."""

    pooling: str
    heads: int
    segment_seconds: float
    hop_seconds: float
    hidden: int
    norm: str
    activation: str
    dropout: float
    output: str


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


class Head(nn.Module):
    """Pooling, Linear(F→H), norm, activation, Linear(H→E), norm, output: the paper's classifier by default.

    With no hidden units it is one linear layer. With pooling=segments it scores every segment of a clip by itself, and
    the shares of the clip are the mean of theirs.
    """

    def __init__(self, width: int, states: int, emotions: int, config: Layout) -> None:
        """Width is what a frame holds: D, or L·D when the hidden states are mixed here (states = L > 1)."""
        super().__init__()
        dim, norm = width // states, NORMS[config.norm]
        self.mix = LayerMix(states) if states > 1 else nn.Identity()
        self.pooling: Pooling | Segments
        if config.pooling == "segments":
            self.pooling, size = Segments(config.segment_seconds, config.hop_seconds), dim
        else:
            self.pooling = Pooling(config.pooling, dim, config.heads)
            size = self.pooling.size
        hidden: list[nn.Module] = []
        if config.hidden:
            hidden = [nn.Linear(size, config.hidden), norm(config.hidden), ACTIVATIONS[config.activation]()]
        last = [nn.Dropout(config.dropout), nn.Linear(config.hidden or size, emotions), norm(emotions)]
        self.mlp = nn.Sequential(*hidden, *last, OUTPUTS[config.output]())

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, width) and (B,) frames that count → (B, E) shares."""
        if isinstance(self.pooling, Segments):
            means, present = self.pooling(self.one_state(frames), lengths)  # (M, D), (B, S)
            return mean_of_segments(self.classify(means), present)
        return self.classify(self.pool_frames(frames, lengths))

    def pool_frames(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, width) and (B,) frames that count → (B, F); not with pooling=segments."""
        assert isinstance(self.pooling, Pooling)
        return self.pooling(self.one_state(frames), lengths)

    def one_state(self, frames: Tensor) -> Tensor:
        """(B, T, width) → (B, T, D), in a precision that the device multiplies in."""
        if frames.device.type == "cpu" and frames.dtype == torch.float16:
            frames = frames.float()  # a processor is slow at float16 matrix products
        return self.mix(frames)

    def classify(self, pooled: Tensor) -> Tensor:
        """Pooled clips or segments (B, F) → shares (B, E)."""
        return self.mlp(pooled.to(next(self.mlp.parameters()).dtype))


class OutsideHead(nn.Module):
    """A head of the user's own behind the mix of hidden states: the same calls as `Head`, frames in float32."""

    def __init__(self, own: nn.Module, states: int) -> None:
        super().__init__()
        self.mix = LayerMix(states) if states > 1 else nn.Identity()
        self.own: Any = own

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, width) and (B,) frames that count → (B, E) shares."""
        return self.own(self.mix(frames.float()), lengths)

    def pool_frames(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, width) and (B,) frames that count → (B, F)."""
        return self.own.pool_frames(self.mix(frames.float()), lengths)

    def classify(self, pooled: Tensor) -> Tensor:
        """(B, F) → shares (B, E)."""
        return self.own.classify(pooled)
