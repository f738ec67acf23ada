"""A head: a GRU over the frames of a clip, whose last state gives the shares."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence


class GruHead(nn.Module):
    """Frames (B, T, D), of which the first `lengths` (B,) count → shares (B, E)."""

    def __init__(self, width: int, targets: int, units: int = 32) -> None:
        super().__init__()
        self.gru = nn.GRU(width, units, batch_first=True)
        self.last = nn.Linear(units, targets)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(frames, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, state = self.gru(packed)  # (1, B, units)
        return torch.sigmoid(self.last(state[0]))
