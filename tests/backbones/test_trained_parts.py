"""Upper layers alone, low-rank adapters, gradient checkpointing, and the rates of the layers."""

from __future__ import annotations

import sys

import checkpoints
import pytest
import torch
from checkpoints import LAYERS
from composed import config as composed

from emoshare.backbones.base import Backbone, load_backbone
from emoshare.command.compose import compose_one
from emoshare.core.config import WindowConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.validate import check
from emoshare.models.optimizer import make_optimizer
from emoshare.models.optimizers.adamw import Options

NAMES = ["wav2vec2_layer", "hubert_group", "wavlm", "unispeech_sat"]


def made(folder, name: str, seed: int = 0, **keys) -> Backbone:
    config = checkpoints.write(folder, name)
    for key, value in {"frozen": False, **keys}.items():
        setattr(config, key, value)
    backbone = load_backbone(config, WindowConfig(), seed=seed)
    for module in backbone.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return backbone


def backward(backbone: Backbone, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    frames, _ = backbone.train()(torch.randn(2, 6_000, generator=torch.Generator().manual_seed(1)) * 0.1)
    frames.square().mean().backward()
    return frames.detach()


@pytest.mark.parametrize("name", NAMES)
def test_only_the_upper_layers_learn(name, tmp_path) -> None:
    backbone, whole = (made(tmp_path, name, trainable_layers=n) for n in (1, None))
    frames = backward(backbone)
    backward(whole)
    trained = {n: p for n, p in backbone.named_parameters() if p.requires_grad}
    assert trained
    assert all(f".layers.{LAYERS - 1}." in name for name in trained)
    wanted = dict(whole.named_parameters())
    for key, parameter in backbone.named_parameters():
        if key not in trained:
            assert parameter.grad is None
        elif wanted[key].grad is not None:
            torch.testing.assert_close(parameter.grad, wanted[key].grad, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(frames, backward(whole), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_checkpointing_changes_no_number(name, tmp_path) -> None:
    plain, saving = (made(tmp_path, name, gradient_checkpointing=on) for on in (False, True))
    torch.testing.assert_close(backward(saving), backward(plain), rtol=0, atol=1e-5)
    for (key, one), two in zip(plain.named_parameters(), saving.parameters(), strict=True):
        if one.grad is not None:
            torch.testing.assert_close(two.grad, one.grad, rtol=1e-4, atol=1e-7, msg=key)
    assert plain.state_dict().keys() == saving.state_dict().keys()


def test_gradient_checkpointing_keeps_less(tmp_path) -> None:
    kept = {}
    for on in (False, True):
        backbone, count = made(tmp_path, "hubert", gradient_checkpointing=on), [0]

        def pack(tensor: torch.Tensor, count: list[int] = count) -> torch.Tensor:
            count[0] += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            backbone.train()(torch.randn(2, 16_000))
        kept[on] = count[0]
    assert kept[True] < kept[False]


@pytest.mark.parametrize("name", NAMES)
def test_adapters_change_nothing_at_first_and_learn_alone(name, tmp_path) -> None:
    pytest.importorskip("peft")
    plain, adapted = made(tmp_path, name), made(tmp_path, name, lora=2)
    assert plain.identity == adapted.identity
    torch.testing.assert_close(backward(adapted), backward(plain), rtol=0, atol=1e-5)
    trained = {n: p for n, p in adapted.named_parameters() if p.requires_grad}
    assert all("lora_" in n for n in trained)
    firsts = {n: p for n, p in trained.items() if "lora_B" in n}  # the gradient of A is 0 while B is
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in firsts.values()), "an adapter without effect"
    assert len(firsts) == LAYERS * (2 if name == "wavlm" else 6)
    again, other = (made(tmp_path, name, seed=seed, lora=2) for seed in (0, 1))
    key = next(n for n in trained if "lora_A" in n)
    assert torch.equal(dict(again.named_parameters())[key], trained[key])
    assert not torch.equal(dict(other.named_parameters())[key], trained[key])


def test_an_adapted_layer_is_its_equation(tmp_path) -> None:
    pytest.importorskip("peft")
    backbone = made(tmp_path, "hubert", lora=2, trainable_layers=1).eval()
    dense = backbone.blocks[-1].feed_forward.intermediate_dense
    low, high = dense.lora_A["default"].weight, torch.nn.init.normal_(dense.lora_B["default"].weight)
    x = torch.randn(3, low.shape[1])
    wanted = x @ (dense.base_layer.weight + 2 * high @ low).T + dense.base_layer.bias
    torch.testing.assert_close(dense(x), wanted)
    assert not any("lora_" in n for block in backbone.blocks[:-1] for n, _ in block.named_parameters())


def test_every_layer_has_its_rate(tmp_path) -> None:
    backbone, head = made(tmp_path, "hubert"), torch.nn.Linear(2, 2)
    optimizer = make_optimizer(Options(backbone_lr=0.8, layer_decay=0.5), head, backbone, torch.device("cpu"), False)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for number, block in enumerate(backbone.blocks, 1):
        assert {rate[id(p)] for p in block.parameters()} == {0.8 * 0.5 ** (LAYERS - number)}
    assert rate[id(backbone.encoder.projection.projection.weight)] == 0.8 * 0.5**LAYERS
    assert rate.keys() == {id(p) for m in (head, backbone) for p in m.parameters() if p.requires_grad}


def test_a_trained_part_that_cannot_be(tmp_path, monkeypatch) -> None:
    with pytest.raises(EmoshareError, match=rf"trainable_layers={LAYERS + 1}: .* has {LAYERS} layers"):
        made(tmp_path, "hubert", trainable_layers=LAYERS + 1)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(EmoshareError, match=r'backbone\.lora: needs peft; pip install "emoshare\[lora\]"'):
        made(tmp_path, "hubert", lora=2)
    with pytest.raises(EmoshareError, match=r"trainable_layers=1: is read with backbone\.type=.* here it is logmel"):
        compose_one(["data.root=/corpus", "backbone=logmel", "backbone.frozen=false", "backbone.trainable_layers=1"])
    for override in ("trainable_layers=2", "lora=4", "gradient_checkpointing=true"):
        with pytest.raises(EmoshareError, match=r"is read with backbone\.frozen=false alone, and here it is true"):
            compose_one(["data.root=/corpus", f"backbone.{override}"])
    with pytest.raises(EmoshareError, match=r"optimizer\.layer_decay=0.9: is read with backbone\.frozen=false alone"):
        compose_one(["data.root=/corpus", "optimizer.layer_decay=0.9"])
    check(composed("experiment=finetune_upper"))
