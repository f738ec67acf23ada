"""Fine-tuning at a lower price: upper layers alone, low-rank adapters, gradient checkpointing."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from emoshare.core.errors import EmoshareError

if TYPE_CHECKING:
    from emoshare.backbones.base import Backbone


def prepare(backbone: Backbone, config: Any, seed: int = 0) -> None:
    """Set up what the config says of a backbone that is trained; nothing for a frozen one.

    seed: of the adapters' first weights.

    Raises:
        EmoshareError: the backbone has no layers, or fewer than the config says, or peft is not installed.
    """
    if config.frozen or not (config.trainable_layers or config.lora or config.gradient_checkpointing):
        return
    check_trained(config)
    blocks, asked = list(backbone.blocks), config.trainable_layers
    upper = blocks[-asked:] if asked else blocks
    if asked:
        backbone.requires_grad_(False)
        for block in upper:
            block.requires_grad_(True)
    if config.lora:
        adapt(backbone, upper, config, seed)
    if asked or config.lora:
        keep_nothing_below(backbone)
    if config.gradient_checkpointing:
        recompute(blocks)


def check_trained(config: Any) -> None:
    """Raise EmoshareError for layers that a backbone has not, and where peft is missing."""
    if config.frozen or not (config.trainable_layers or config.lora or config.gradient_checkpointing):
        return
    layers = int(config.layer) if config.layer.isdigit() else config.layers  # those above are cut off
    if not layers:
        raise EmoshareError(f"backbone.frozen=false: {config.name} has no layers to choose from; set it to true")
    if (config.trainable_layers or 0) > layers:
        raise EmoshareError(
            f"backbone.trainable_layers={config.trainable_layers}: {config.name} has {layers} layers; set it to at "
            "most that"
        )
    if config.lora and importlib.util.find_spec("peft") is None:
        raise EmoshareError('backbone.lora: needs peft; pip install "emoshare[lora]"')


def keep_nothing_below(backbone: Backbone) -> None:
    """No gradients for the samples, which transformers' front ends ask for in training.

    Without it, what is frozen below the trained layers would keep its activations, and gradients would go through it to
    no use. It changes no gradient of what is trained.
    """
    for module in backbone.modules():
        if hasattr(module, "_requires_grad"):
            module._requires_grad = False  # type: ignore[assignment]


def adapt(backbone: Backbone, blocks: Sequence[nn.Module], config: Any, seed: int) -> None:
    """Add a low-rank product to every linear layer of the blocks, W + 2 B A, and train these alone.

    B is zero at first, so that nothing changes. Hu et al. (2022), LoRA: Low-Rank Adaptation of Large Language Models,
    ICLR; by peft. WavLM's attention reads its weights past the layers that hold them, so that only its feed-forward
    layers are adapted.
    """
    from peft import LoraConfig, inject_adapter_in_model

    inside = {id(module) for block in blocks for module in block.modules()}
    names = [
        name
        for name, module in backbone.encoder.named_modules()
        if id(module) in inside
        and isinstance(module, nn.Linear)
        and not (config.type == "wavlm" and ".attention." in name)
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(
            LoraConfig(r=config.lora, lora_alpha=2 * config.lora, target_modules=names), backbone.encoder
        )
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_("lora_" in name)


def recompute(blocks: Sequence[nn.Module]) -> None:
    """Keep only each block's input in training, and compute what is in it again for the gradients.

    Chen et al. (2016), Training Deep Nets with Sublinear Memory Cost. The gradients stay the same.
    """
    for block in blocks:
        block.forward = functools.partial(_checkpoint_block, block, block.forward)


def _checkpoint_block(block: nn.Module, forward: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    if block.training and torch.is_grad_enabled():
        return checkpoint(forward, *arguments, use_reentrant=False, **options)
    return forward(*arguments, **options)
