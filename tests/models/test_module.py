"""What the module does beside its loss: constant predictions, a frozen backbone, parameter groups."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
import torch
from composed import config

from emoshare.backbones.base import load_backbone
from emoshare.core.config import EMOTIONS
from emoshare.models.head import Head
from emoshare.models.module import EmotionShareModule


def module(*overrides: str) -> EmotionShareModule:
    c = config("backbone=tiny", "window.seconds=0.5", *overrides)
    backbone = load_backbone(c.backbone, c.window)
    head = Head(backbone.width, backbone.states, 9, c.head)
    return EmotionShareModule(head, c.loss.make(), c.optimizer, tuple("abcdefghi"), backbone)


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


def test_constant_predictions_of_an_epoch_count_0_in_its_mean(emoshare, small, tmp_path, monkeypatch) -> None:
    """Anger is predicted constant in all epochs but the third."""
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
    assert run.out.count("constant predictions on devel, scored 0: Anger") == 3
    [path] = (tmp_path / "outputs/default").glob("*/results.json")
    with (path.parent / "metrics.csv").open() as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    means = [np.mean([row[f"emotions/{m}/{t}"] for m in ("scc", "ccc") for t in EMOTIONS]) for row in rows]
    assert [row["emotions/scc/Anger"] == row["emotions/ccc/Anger"] == 0 for row in rows] == [True, True, False, True]
    assert [row["devel/avg"] for row in rows] == pytest.approx(means, abs=1e-6)
    assert json.loads(path.read_text())["best"]["epoch"] == int(np.argmax(means))


def test_constant_predictions_in_every_epoch_are_scored_0_and_named(emoshare, small, tmp_path, monkeypatch) -> None:
    plain = Head.forward
    monkeypatch.setattr(Head, "forward", lambda self, f, n: plain(self, f, n) * 0 + 0.25)
    run = emoshare("train", *small)
    assert run.status == 0, run.err
    [path] = (tmp_path / "outputs/default").glob("*/results.json")
    found = json.loads(path.read_text())
    assert found["best"]["score"] == found["metrics"]["devel"]["scc"]["mean"] == 0
    assert found["metrics"]["devel"]["ccc"]["Anger"] == 0
    assert found["remarks"]["constant"]["devel"] == list(EMOTIONS)
    assert f"devel: constant predictions, one share for all clips, scored 0: {', '.join(EMOTIONS)}" in run.out


def test_a_model_that_padding_would_change_sees_no_padding(monkeypatch) -> None:
    """One that takes clips of equal length alone: a batch of several lengths gives what every clip gives alone."""
    c = config("backbone=tiny", "backbone.conv_norm=group", "backbone.parameters=null", "window.pad=none")
    backbone = load_backbone(c.backbone, c.window)
    encode, seen = backbone.encode, []
    backbone.equal_lengths = True
    monkeypatch.setattr(backbone, "encode", lambda waves, lengths: seen.append(lengths) or encode(waves, lengths))
    head = Head(backbone.width, backbone.states, 9, c.head)
    made = EmotionShareModule(head, c.loss.make(), c.optimizer, tuple("abcdefghi"), backbone).eval()
    lengths = torch.tensor([4240, 8080, 4240, 400])
    waves = torch.randn(4, 8080)
    frames, counts = made.frames(waves, lengths)
    assert counts.tolist() == [13, 25, 13, 1]
    assert sorted(one.tolist() for one in seen) == [[400], [4240, 4240], [8080]]
    for clip, wave, length, count in zip(frames, waves, lengths.tolist(), counts.tolist(), strict=True):
        alone, _ = backbone(wave[None, :length], torch.tensor([length]))
        torch.testing.assert_close(clip[:count], alone[0])
        assert not clip[count:].any()


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-true", "bf16-mixed"])
@pytest.mark.parametrize("cache", ["true", "false"])
def test_every_precision_of_a_processor_trains(emoshare, small, precision, cache) -> None:
    run = emoshare("train", *small, f"trainer.precision={precision}", f"backbone.cache={cache}", "backbone=tiny")
    assert run.status == 0, run.err


@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed", "auto"])
def test_predictions_are_float32_whatever_training_runs_in(emoshare, small, tmp_path, precision) -> None:
    """bfloat16 has 8 bits of mantissa: its numbers end in 16 zero bits, and few of them are different."""
    run = emoshare("train", *small, f"trainer.precision={precision}", "trainer.accelerator=cpu")
    assert run.status == 0, run.err
    [path] = (tmp_path / "outputs/default").glob("*/predictions/devel.csv")
    values = [float(x) for line in path.read_text().splitlines()[1:] for x in line.split(",")[1:]]
    rounded = torch.tensor(values).bfloat16().float()
    assert (torch.tensor(values) != rounded).float().mean() > 0.9
    assert len(set(values)) > 0.98 * len(values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_predicted_shares_are_the_heads_in_float32(dtype: torch.dtype) -> None:
    made = module().eval()
    made.head.to(dtype)
    exact = Head(64, 1, 9, config("backbone=tiny").head).eval()
    exact.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in made.head.state_dict().items()})
    frames, lengths = torch.randn(4, 12, 64).half(), torch.tensor([12, 5, 1, 7])
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        found = made.predict_shares({"clip": torch.arange(4), "frames": frames, "lengths": lengths})
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact(frames.float(), lengths), rtol=0, atol=0)
    assert next(made.head.parameters()).dtype == dtype, "the head itself stays as it was"


@pytest.mark.parametrize("change", ["optimizer.lr=1e30", "optimizer.lr=1e300", "optimizer=sgd optimizer.lr=1e20"])
def test_a_run_that_diverges_is_a_failure_with_its_reason(emoshare, small, tmp_path, change) -> None:
    run = emoshare("train", *small, *change.split(), "head.norm=none", "head.output=linear", "loss=mse")
    assert run.status == 1
    assert re.search(
        r"loss became (nan|inf|-inf) (in epoch \d+, step \d+|after epoch \d+); lower optimizer.lr", run.err
    )
    assert not list((tmp_path / "outputs").rglob("results.json"))


def test_weights_that_are_no_numbers_are_a_failure(emoshare, small, tmp_path, monkeypatch) -> None:
    plain = EmotionShareModule.on_train_batch_start

    def spoil(self: EmotionShareModule, batch: object, step: int) -> None:
        plain(self, batch, step)
        if (self.current_epoch, step) == (1, 2):
            torch.nn.init.constant_(self.head.mlp[0].weight, torch.nan)

    monkeypatch.setattr(EmotionShareModule, "on_train_batch_start", spoil)
    run = emoshare("train", *small, "trainer.epochs=4")
    assert run.status == 1
    assert "the loss became nan in epoch 2, step 3" in run.err


@pytest.mark.parametrize("select", ["avg", "scc", "ccc"])
def test_the_selected_score_chooses_the_epoch_and_steers_the_rate(
    emoshare, small, tmp_path, monkeypatch, select
) -> None:
    seen = []
    plain = torch.optim.lr_scheduler.ReduceLROnPlateau.step

    def step(self: torch.optim.lr_scheduler.ReduceLROnPlateau, score: float) -> None:
        seen.append(score)
        plain(self, score)

    monkeypatch.setattr(torch.optim.lr_scheduler.ReduceLROnPlateau, "step", step)
    run = emoshare("train", *small, f"train.select={select}", "trainer.epochs=6", "optimizer.lr=0.01")
    assert run.status == 0, run.err
    [path] = (tmp_path / "outputs/default").glob("*/results.json")
    with (path.parent / "metrics.csv").open() as file:
        scores = [float(row[f"devel/{select}"]) for row in csv.DictReader(file)]
    assert seen == pytest.approx(scores, abs=1e-6)
    assert json.loads(path.read_text())["best"]["epoch"] == scores.index(max(scores))
