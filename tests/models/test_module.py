"""What the module does beside its loss: constant predictions, a frozen backbone, parameter groups."""

from __future__ import annotations

import json

import pytest
import torch
from composed import config

from emoshare.backbones.base import load_backbone
from emoshare.core.config import LossConfig
from emoshare.models.head import Head
from emoshare.models.loss import ShareLoss
from emoshare.models.module import EmotionShareModule


def module(*overrides: str) -> EmotionShareModule:
    c = config("backbone=tiny", "window.seconds=0.5", *overrides)
    backbone = load_backbone(c.backbone, c.window)
    head = Head(backbone.width, backbone.states, 9, c.head)
    return EmotionShareModule(head, ShareLoss(LossConfig()), c.optimizer, tuple("abcdefghi"), backbone)


def batch(clips: int = 4) -> dict[str, torch.Tensor]:
    return {
        "clip": torch.arange(clips),
        "lengths": torch.full((clips,), 8000),
        "waves": torch.randn(clips, 8000),
        "shares": torch.rand(clips, 9),
    }


def test_a_frozen_backbone_neither_learns_nor_leaves_eval_mode() -> None:
    frozen = module().train()
    assert frozen.training
    assert frozen.head.training
    assert not any(m.training for m in frozen.backbone.modules())
    frozen.loss(frozen(batch()), batch()["shares"]).backward()
    assert all(p.grad is None and not p.requires_grad for p in frozen.backbone.parameters())
    assert all(p.grad is not None for p in frozen.head.parameters())


@pytest.mark.parametrize("frozen", ["true", "false"])
def test_the_optimizer_holds_the_head_and_what_is_trained(frozen: str) -> None:
    made = module(f"backbone.frozen={frozen}", "optimizer.lr=0.5", "optimizer.backbone_lr=0.25")
    groups = made.configure_optimizers()["optimizer"].param_groups
    assert [g["lr"] for g in groups] == ([0.5] if frozen == "true" else [0.5, 0.25])
    held = {id(p) for g in groups for p in g["params"]}
    assert held == {id(p) for p in made.parameters() if p.requires_grad}


def test_an_epoch_of_constant_predictions_is_never_the_best(emoshare, small, tmp_path, monkeypatch) -> None:
    """Anger is predicted constant in all epochs but the third: its Avg is NaN, and the third is chosen."""
    plain = Head.forward
    epoch = {"now": 0}

    def sometimes(self: Head, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        shares = plain(self, frames, lengths)
        if not self.training and epoch["now"] in (0, 1, 3):
            shares = shares.clone()
            shares[:, 0] = 0.1
        return shares

    plain_end = EmotionShareModule.on_validation_epoch_end

    def end(self: EmotionShareModule) -> None:
        plain_end(self)
        epoch["now"] += 1

    monkeypatch.setattr(Head, "forward", sometimes)
    monkeypatch.setattr(EmotionShareModule, "on_validation_epoch_end", end)
    run = emoshare("train", *small, "trainer.epochs=4")
    assert run.status == 0, run.err
    assert "constant predictions on devel, no correlation: Anger" in run.out
    [path] = (tmp_path / "outputs/default").glob("*/results.json")
    assert json.loads(path.read_text())["best"]["epoch"] == 2


def test_constant_predictions_in_every_epoch_give_null_and_no_crash(emoshare, small, tmp_path, monkeypatch) -> None:
    plain = Head.forward
    monkeypatch.setattr(Head, "forward", lambda self, f, n: plain(self, f, n) * 0 + 0.25)
    run = emoshare("train", *small)
    assert run.status == 0, run.err
    [path] = (tmp_path / "outputs/default").glob("*/results.json")
    found = json.loads(path.read_text())
    assert found["best"]["avg"] is None
    assert found["metrics"]["devel"]["scc"]["mean"] is None
    assert found["metrics"]["devel"]["ccc"]["Anger"] == pytest.approx(0)


def test_a_model_that_padding_would_change_sees_no_padding() -> None:
    """Group norm without padding: a batch of several lengths gives what every clip gives alone."""
    c = config("backbone=tiny", "backbone.conv_norm=group", "backbone.parameters=null", "window.pad=none")
    backbone = load_backbone(c.backbone, c.window)
    assert backbone.equal_lengths
    head = Head(backbone.width, backbone.states, 9, c.head)
    made = EmotionShareModule(head, ShareLoss(LossConfig()), c.optimizer, tuple("abcdefghi"), backbone).eval()
    lengths = torch.tensor([4240, 8080, 4240, 400])
    waves = torch.randn(4, 8080)
    frames, counts = made.frames(waves, lengths)
    assert counts.tolist() == [13, 25, 13, 1]
    for clip, wave, length, count in zip(frames, waves, lengths.tolist(), counts.tolist(), strict=True):
        alone, _ = backbone(wave[None, :length], torch.tensor([length]))
        torch.testing.assert_close(clip[:count], alone[0])
        assert not clip[count:].any()


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-true", "bf16-mixed"])
@pytest.mark.parametrize("cache", ["true", "false"])
def test_every_precision_of_a_processor_trains(emoshare, small, precision, cache) -> None:
    run = emoshare("train", *small, f"trainer.precision={precision}", f"backbone.cache={cache}", "backbone=tiny")
    assert run.status == 0, run.err
