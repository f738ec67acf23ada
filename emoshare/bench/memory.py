"""GPU memory that training a backbone takes, on paper: its graph is made without numbers, and what it keeps is counted.

A training step holds the weights, the gradients and the optimizer's states of what is trained, and what the forward
pass keeps for the backward pass (activations). The head, the working memory of single operations and the allocator's
own losses are left out; dropout is counted as on a CPU, with masks four times as large as a GPU's. With gradient
checkpointing a block keeps its input alone, and one block at a time keeps the rest, while it is computed again.

Shapes: B clips, N samples.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import defaultdict
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from emoshare.backbones import architecture as encoders
from emoshare.backbones import checkpoint
from emoshare.backbones.finetuning import prepare
from emoshare.backbones.ssl import SpeechEncoder
from emoshare.bench.flops import PLAIN
from emoshare.core.config import RATE, Config
from emoshare.core.errors import EmoshareError
from emoshare.models.optimizer import states_per_parameter

GPU_GB = 24.0  # that fine-tuning is to fit, unless bench.gpu_gb says otherwise


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of a training step."""

    parameters: int  # not bytes: a count
    trained: int  # of them
    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations


class OnPaper(nn.Module):
    """An encoder as `finetuning.prepare` takes it, without an identity, which would read its weights."""

    def __init__(self, section: Any, architecture: Any) -> None:
        super().__init__()
        self.encoder = SpeechEncoder(checkpoint.build(section, architecture, None, 0), section.layer)
        self.encoder.train()
        self.encoder.transformer.training = False  # it would draw which layers to leave out: all are counted

    @property
    def blocks(self) -> Any:
        return self.encoder.transformer.layers


def training_memory(config: Config) -> TrainingMemory:
    """The memory of a step of `data.batch_size` clips that fill the window, in mixed precision unless told otherwise.

    Raises:
        EmoshareError: a backbone of a family that this is no count of.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    section: Any = config.backbone
    if section.type not in PLAIN:
        raise EmoshareError(
            f"backbone.frozen=false: the memory of {section.name} in training is not known on paper; bench it with "
            "backbone.frozen=true, or choose a wav2vec 2.0, HuBERT, WavLM or UniSpeech(-SAT)"
        )
    section = dataclasses.replace(
        section, pretrained=False, gradient_checkpointing=False, layerdrop=None,
        normalize=section.normalize is not False,
    )  # fmt: skip
    architecture = encoders.describe(section, checkpoint.locate(section))
    architecture.attention_dropout = 0.0  # a GPU's kernels keep no T × T weights with it, those of this count would
    precision = "bf16-mixed" if config.trainer.precision == "auto" else config.trainer.precision
    with FakeTensorMode():
        model = OnPaper(section, architecture)
        with patch.object(nn.Module, "_apply", lambda module, *_: module):  # peft moves adapters that have no place
            prepare(model, section)  # type: ignore[arg-type]
        waves = torch.zeros(config.data.batch_size, round(config.window.seconds * RATE))
        outputs, inputs = count_kept(model, waves, "mixed" in precision)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    parameters = sum(p.numel() for p in model.parameters())
    size = 2 if precision.endswith(("16-true",)) else 4  # bytes of a weight
    if getattr(config.backbone, "gradient_checkpointing", False):
        above = [number for number in outputs if number]  # a block below what is trained keeps nothing
        activations = outputs[0] + sum(inputs[n] for n in above) + max((outputs[n] for n in above), default=0)
    else:
        activations = sum(outputs.values())
    states = states_per_parameter(config.optimizer)
    return TrainingMemory(parameters, trained, parameters * size, trained * size, states * trained * size, activations)


def count_kept(model: OnPaper, waves: Tensor, mixed: bool) -> tuple[dict[int, int], dict[int, int]]:
    """Bytes that the graph of a forward pass keeps, by block (counted from 1; 0: outside), and those of block inputs.

    A storage counts once, where it is kept first; weights do not count.
    """
    counted = {tensor.untyped_storage()._cdata for tensor in [*model.parameters(), *model.buffers()]}
    held: list[Tensor] = []  # so that no storage's place is used again
    outputs: dict[int, int] = defaultdict(int)
    inputs: dict[int, int] = {}
    where = [0]

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in counted:
            counted.add(storage._cdata)
            held.append(tensor)
            outputs[where[0]] += storage.nbytes()
        return tensor

    def enter(number: int, block: nn.Module, arguments: tuple[Any, ...]) -> None:
        where[0] = number
        inputs[number] = arguments[0].nbytes

    def leave(block: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        where[0] = 0

    for number, block in enumerate(model.blocks, 1):
        block.register_forward_pre_hook(functools.partial(enter, number))
        block.register_forward_hook(leave)
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=mixed),
    ):
        held.append(model.encoder(waves))
    return outputs, inputs


def memory_text(config: Config, memory: TrainingMemory) -> str:
    """The lines of `emoshare bench` for a backbone that is trained."""
    limit = config.bench.gpu_gb or GPU_GB
    parts = ", ".join(
        f"{name} {getattr(memory, name) / 1e9:.1f}" for name in ("weights", "gradients", "optimizer", "activations")
    )
    return (
        f"\n{config.backbone.name} in training, {config.data.batch_size} windows of {config.window.seconds:g} s, "
        f"on paper: {memory.trained / 1e6:.0f} of {memory.parameters / 1e6:.0f} M parameters are trained\n"
        f"GPU memory: about {memory.total / 1e9:.1f} GB ({parts}); "
        f"{'fits' if memory.total < limit * 1e9 else 'more than'} {limit:g} GB\n"
        "Speed is not measured: `bench` measures frozen backbones.\n"
    )
