"""auDeep's recurrent sequence autoencoder: a spectrogram (B, T, F) → a representation (B, R), learned without labels.

The encoder reads the frames in order. Its last states, through a linear layer and tanh, are the representation, which
is also the first state of the decoder. The decoder writes the frames in reversed order.

Freitag et al. (2018), auDeep: Unsupervised Learning of Representations from Audio with Deep Recurrent Neural Networks,
JMLR 18(173). PyTorch's GRU applies the reset gate after the recurrent product, TensorFlow's before it: weights cannot
be exchanged with the original.

Shapes: B clips, T frames, F mel bands, U units, L layers, R = 2 · L · U.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GRUStack(nn.Module):
    """GRU layers in one direction, with dropout on the input and on the output of each layer."""

    def __init__(self, features: int, units: int, layers: int, dropout: float) -> None:
        super().__init__()
        sizes = [features] + [units] * (layers - 1)
        self.layers = nn.ModuleList(nn.GRU(size, units, batch_first=True) for size in sizes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor, start: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Frames (B, T, F) and first states (L, B, U), zeros by default → outputs (B, T, U), last states (L, B, U)."""
        states = []
        for index, layer in enumerate(self.layers):
            first = None if start is None else start[index : index + 1].contiguous()
            frames, state = layer(self.dropout(frames), first)
            frames = self.dropout(frames)
            states.append(state)
        return frames, torch.cat(states)


class SequenceAutoencoder(nn.Module):
    """Encoder of one direction, decoder of two; values of the spectrogram lie in [-1, 1]."""

    def __init__(self, bands: int = 128, units: int = 256, layers: int = 2, dropout: float = 0.2) -> None:
        super().__init__()
        self.units, self.stack_layers = units, layers
        self.size = 2 * layers * units  # R
        self.encoder = GRUStack(bands, units, layers, dropout)
        self.representation = nn.Linear(layers * units, self.size)
        self.decoders = nn.ModuleList(GRUStack(bands, units, layers, dropout) for _ in ("forward", "backward"))
        self.output = nn.Linear(2 * units, bands)

    def encode(self, spectrogram: Tensor) -> Tensor:
        """(B, T, F) → representation (B, R)."""
        _, states = self.encoder(spectrogram)  # (L, B, U)
        return self.representation(states.transpose(0, 1).flatten(1)).tanh()

    def decode(self, representation: Tensor, inputs: Tensor) -> Tensor:
        """(B, R) and the decoder's inputs (B, T, F) → the reconstruction (B, T, F), reversed in time."""
        starts = representation.unflatten(1, (2, self.stack_layers, self.units)).permute(1, 2, 0, 3)  # (2, L, B, U)
        onward, _ = self.decoders[0](inputs, starts[0])
        back, _ = self.decoders[1](inputs.flip(1), starts[1])
        return self.output(torch.cat([onward, back.flip(1)], 2)).tanh()

    def forward(self, spectrogram: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, F) → the reconstruction and what it should be, both (B, T, F) and reversed in time."""
        target = reversed_target(spectrogram)
        return self.decode(self.encode(spectrogram), decoder_inputs(target)), target


def reversed_target(spectrogram: Tensor) -> Tensor:
    """The decoder's target: the frames (B, T, F) from the last to the first."""
    return spectrogram.flip(1)


def decoder_inputs(target: Tensor) -> Tensor:
    """The decoder's input: at each frame the target's frame before it, at the first one zeros. (B, T, F)."""
    return nn.functional.pad(target[:, :-1], (0, 0, 1, 0))


def rms_error(reconstruction: Tensor, target: Tensor) -> Tensor:
    """√(mean of squared differences) over all values: (B, T, F), (B, T, F) → scalar."""
    return (reconstruction - target).square().mean().sqrt()
