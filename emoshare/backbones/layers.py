"""An encoder made of layers, of which one hidden state is given, or all of them.

Shapes: B clips, T frames, D features, L layers.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class LayeredEncoder(nn.Module):
    """Chooses hidden states of `transformer`, which has `layers` and, where `final_norm`, a `layer_norm` after them.

    `layer`: "last" is the model's last_hidden_state, an index i transformers' hidden_states[i], "weighted" all of them.
    hidden_states[L] is taken before the final norm, but for Whisper and its like (`tied`), where it is the last one.
    """

    def __init__(self, transformer: Any, layer: str, final_norm: bool, tied: bool = False) -> None:
        super().__init__()
        self.transformer = transformer
        self.weighted = layer == "weighted"
        self.tied = tied and final_norm
        self.states: list[Tensor] = []  # hidden states of the batch, for layer=weighted
        self.augment: SpecAugment | None = None
        if layer.isdigit():
            whole = int(layer) == len(transformer.layers)
            transformer.layers = transformer.layers[: int(layer)]
            if final_norm and not (tied and whole):
                transformer.layer_norm = nn.Identity()
        if self.weighted:
            transformer.layers[0].register_forward_pre_hook(self.keep_input)
            for block in transformer.layers:
                block.register_forward_hook(self.keep_output)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Input → frames (B, T, width). lengths: how much of it is each clip's own (B,); None: all of it."""
        raise NotImplementedError

    def keep_input(self, block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.states = [inputs[0]]  # also where memory did not suffice for an earlier batch, which left some

    def keep_output(self, block: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        self.states.append(output[0] if isinstance(output, tuple) else output)

    def select_states(self, last: Tensor) -> Tensor:
        """The model's last hidden state (B, T, D) → the chosen states one after the other, (B, T, width).

        Numbers before the frames in the layers, as learned tokens are, are left out.
        """
        if not self.weighted:
            return last
        states, self.states = [state[:, state.shape[1] - last.shape[1] :] for state in self.states], []
        if self.tied:
            states[-1] = last
        return torch.stack(states, dim=2).flatten(2)  # (B, T, (L + 1)·D)


class SpecAugment(nn.Module):
    """Masks stretches of frames and of features in training, by transformers' own code. Park et al., 2019.

    transformers draws with NumPy: here from a state that PyTorch's generator gives, as a resumed run restores that one.
    """

    def __init__(self, config: Any, mask: Any, vector: nn.Parameter | None = None, time: int = 1) -> None:
        """mask: the method of transformers' class that masks; vector: (D,) the content of masked frames, or zeros.

        time: the axis of the frames.
        """
        super().__init__()
        self.whole, self.masked_spec_embed, self.mask, self.time = config, vector, mask, time
        self.still = copy.copy(config)  # for clips with fewer frames than are masked together: they keep all
        self.still.mask_time_prob = 0.0

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, D), or for Whisper (B, D, T), and (B, T) true for frames of speech or None → the same shape."""
        if not self.training:
            return hidden
        self.config = self.whole if hidden.shape[self.time] >= self.whole.mask_time_length else self.still
        before = np.random.get_state()
        np.random.seed(int(torch.randint(2**32, ())))
        try:
            return self.mask(self, hidden, attention_mask=mask)
        finally:
            np.random.set_state(before)
