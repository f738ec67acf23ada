"""The sequence autoencoder's shift, reversal and directions on cases that are worked out by hand."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from emoshare.models.autoencoder import (
    GRUStack,
    SequenceAutoencoder,
    decoder_inputs,
    reversed_target,
    rms_error,
)


def test_target_is_reversed_and_the_decoder_reads_it_one_frame_late() -> None:
    spectrogram = torch.tensor([[[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]])  # B = 1, T = 3, F = 2
    target = reversed_target(spectrogram)
    assert target.tolist() == [[[3, 30], [2, 20], [1, 10]]]
    assert decoder_inputs(target).tolist() == [[[0, 0], [3, 30], [2, 20]]]


def test_the_error_is_the_root_of_the_mean_over_all_values() -> None:
    assert rms_error(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.tensor([[[1.0, 0.0], [3.0, 0.0]]])) == 5**0.5


def gru(layer: nn.GRU, frames: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One layer over (T, F) from state (U,), written out from PyTorch's documentation: outputs (T, U), last state."""
    w, u, b, c = (getattr(layer, f"{name}_l0").detach().double().numpy() for name in
                  ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))  # fmt: skip
    outputs = []
    for x in frames:
        (ir, iz, inew), (hr, hz, hnew) = np.split(w @ x + b, 3), np.split(u @ state + c, 3)
        r, z = 1 / (1 + np.exp(-(ir + hr))), 1 / (1 + np.exp(-(iz + hz)))
        state = (1 - z) * np.tanh(inew + r * hnew) + z * state
        outputs.append(state)
    return np.stack(outputs), state


def stack(layers: GRUStack, frames: np.ndarray, states: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    last = []
    for layer, state in zip(layers.layers, states, strict=True):
        frames, final = gru(layer, frames, state)
        last.append(final)
    return frames, last


def test_the_whole_model_against_loops_over_frames() -> None:
    torch.manual_seed(0)
    model = SequenceAutoencoder(bands=5, units=3, layers=2).eval()
    spectrogram = torch.rand(2, 7, 5) * 2 - 1
    with torch.no_grad():
        reconstruction, target = model(spectrogram)
        representation = model.encode(spectrogram)
    assert representation.shape == (2, 12)
    linear = [model.representation, model.output]
    (w, b), (v, c) = ((m.weight.detach().double().numpy(), m.bias.detach().double().numpy()) for m in linear)
    for clip in range(2):
        frames = spectrogram[clip].double().numpy()
        _, states = stack(model.encoder, frames, np.zeros((2, 3)))
        vector = np.tanh(w @ np.concatenate(states) + b)
        np.testing.assert_allclose(representation[clip].numpy(), vector, atol=1e-6)
        shifted = np.vstack([np.zeros(5), frames[::-1][:-1]])
        onward, _ = stack(model.decoders[0], shifted, vector[:6].reshape(2, 3))
        back, _ = stack(model.decoders[1], shifted[::-1], vector[6:].reshape(2, 3))
        written = np.tanh(np.hstack([onward, back[::-1]]) @ v.T + c)
        np.testing.assert_allclose(reconstruction[clip].numpy(), written, atol=1e-6)
        np.testing.assert_array_equal(target[clip].numpy(), spectrogram[clip].numpy()[::-1])


def test_dropout_stands_before_and_after_every_layer() -> None:
    layers = GRUStack(4, 3, layers=2, dropout=0.2)
    seen: list[tuple[int, ...]] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(tuple(output.shape))

    layers.dropout.register_forward_hook(note)
    layers(torch.rand(2, 6, 4))
    assert seen == [(2, 6, 4), (2, 6, 3), (2, 6, 3), (2, 6, 3)]
    assert layers.dropout.p == 0.2
    outputs, states = layers(torch.rand(2, 6, 4))
    assert (outputs == 0).any()  # dropped
    assert (states != 0).all()  # never the states


def test_clips_of_a_batch_do_not_see_each_other() -> None:
    model = SequenceAutoencoder(bands=5, units=3).eval()
    spectrogram = torch.rand(4, 7, 5)
    with torch.no_grad():
        alone = torch.cat([model.encode(clip[None]) for clip in spectrogram])
        torch.testing.assert_close(model.encode(spectrogram.flip(0)).flip(0), alone, rtol=0, atol=1e-6)
