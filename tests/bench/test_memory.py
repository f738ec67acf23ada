"""The memory of fine-tuning on paper, against counts that are made by hand from the tiny architecture's sizes."""

from __future__ import annotations

import json

import pytest
from composed import config

from emoshare.bench.memory import memory_text, training_memory
from emoshare.core.errors import EmoshareError

B, T, D, INNER, H = 4, 49, 64, 128, 4  # clips of 1 s, frames, features, inner units, attention heads
ALL = 128_448 - D  # parameters as conf/backbone/tiny.yaml says, without SpecAugment's vector, which is not in use
LAYER = (
    4 * (D * D + D) + (D * INNER + INNER) + (INNER * D + D) + 2 * 2 * D
)  # query, key, value, output; in, out; two norms
KEPT = 4 * B * T * (
    6 * D  # input, its norm, query, key, value, attention's output
    + 3 * D  # dropout's mask, the sum with the input, its norm
    + 3 * INNER + D  # inner units before and after the activation, after dropout; the mask at the end
    + 4 + H  # mean and deviation of both norms; attention's log of sums
)  # fmt: skip


def tiny(*more: str):
    return config(
        "data=demo", "backbone=tiny", "backbone.frozen=false", "window.seconds=1", "data.batch_size=4",
        "trainer.precision=32-true", *more,
    )  # fmt: skip


def test_parameters_gradients_and_states_are_those_of_the_sizes() -> None:
    every, upper = training_memory(tiny()), training_memory(tiny("backbone.trainable_layers=2"))
    assert every.parameters == every.trained == ALL
    assert upper.trained == 2 * LAYER
    assert upper.weights == every.weights == 4 * ALL
    assert (upper.gradients, upper.optimizer) == (4 * 2 * LAYER, 8 * 2 * LAYER)
    assert training_memory(tiny("optimizer=sgd", "optimizer.momentum=0")).optimizer == 0
    half = training_memory(tiny("trainer.precision=bf16-true"))
    assert (half.weights, half.optimizer) == (every.weights // 2, every.optimizer // 2)


def test_activations_are_those_that_a_layer_keeps() -> None:
    two, one = (training_memory(tiny(f"backbone.trainable_layers={n}")).activations for n in (2, 1))
    assert two - one == KEPT
    rest = two - 2 * KEPT  # the norm at the end
    assert 0 < rest <= 4 * B * T * (D + 2)
    checkpointed = ("backbone.gradient_checkpointing=true",)
    saved = training_memory(tiny("backbone.trainable_layers=2", *checkpointed)).activations
    assert saved == rest + KEPT + 2 * 4 * B * T * D  # one layer in full, and the inputs of both


def test_adapters_alone_are_trained() -> None:
    pytest.importorskip("peft")
    found = training_memory(tiny("backbone.lora=2", "backbone.trainable_layers=1"))
    assert found.trained == 2 * (4 * 2 * D + 2 * (D + INNER))
    assert found.parameters == ALL + found.trained


def test_the_count_without_numbers_is_that_of_a_pass_with_numbers(monkeypatch) -> None:
    import contextlib

    from torch._subclasses import fake_tensor

    on_paper = training_memory(tiny()).activations
    monkeypatch.setattr(fake_tensor, "FakeTensorMode", contextlib.nullcontext)
    assert training_memory(tiny()).activations == on_paper


def test_finetune_upper_of_a_large_model_fits_24_gb_and_bench_says_so(emoshare, tmp_path) -> None:
    made = config("experiment=finetune_upper", "data=demo")
    found = training_memory(made)
    assert found.parameters == 315_438_720 - 1024
    assert 2e9 < found.total < 24e9
    assert "fits 24 GB" in memory_text(made, found)
    made.bench.gpu_gb = 1.0
    assert "more than 1 GB" in memory_text(made, found)
    result = emoshare("bench", "experiment=finetune_upper", "backbone=tiny", "backbone.trainable_layers=1")
    assert result.status == 0, result.err
    assert "GPU memory: about" in result.out
    [path] = (tmp_path / "outputs/bench").glob("tiny-*.json")
    assert json.loads(path.read_text())["training_memory"]["trained"] == LAYER


def test_a_family_that_cannot_be_counted_is_named() -> None:
    with pytest.raises(EmoshareError, match="logmel in training is not known on paper"):
        training_memory(config("data=demo", "backbone=logmel", "backbone.frozen=false"))
