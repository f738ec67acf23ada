"""Training again on train + devel: what predicts what, the same rates and draws, and a kill on the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from composed import config, on_cpu
from pytorch_lightning.callbacks import Callback
from recipes import epochs, settings_of, table, weights

from emoshare.core.config import Config
from emoshare.data.corpus import load
from emoshare.models.head import Head
from emoshare.models.loss import ShareLoss
from emoshare.models.module import EmotionShareModule
from emoshare.runs.folder import Run
from emoshare.runs.resolved import ResolvedRun
from emoshare.training import neural, source
from emoshare.training import refit as again
from emoshare.training.datamodule import Clips, Shuffle
from emoshare.training.train import train
from emoshare.training.weights import load_head


@pytest.fixture
def settings(corpus_root: Path, tmp_path: Path) -> list[str]:
    return settings_of(corpus_root, tmp_path)


def test_devel_is_predicted_by_the_chosen_epoch_and_test_by_the_refit(settings: list[str]) -> None:
    plain, refitted = config(*settings), config(*settings, "train.refit=true")
    before, after = train(plain), train(refitted)
    runs = [ResolvedRun(c).run for c in (plain, refitted)]
    assert runs[0].name != runs[1].name
    assert after.metrics["devel"] == before.metrics["devel"]
    assert (after.best, after.epochs) == (before.best, before.epochs)
    np.testing.assert_array_equal(table(runs[0], "devel"), table(runs[1], "devel"))
    assert np.abs(table(runs[0], "test") - table(runs[1], "test")).max() > 1e-3
    assert before.resolved.refit is False
    assert before.resolved.predicted_by == dict.fromkeys(("devel", "test"), "checkpoints/best.ckpt")
    assert after.resolved.refit is True
    assert after.resolved.predicted_by == {"devel": "checkpoints/best.ckpt", "test": "checkpoints/refit.ckpt"}
    assert torch.load(runs[1].refit, weights_only=True)["epoch"] == after.best.epoch
    assert not again.last_of(runs[1]).exists()
    for run, c, results, path in (
        (runs[0], plain, before, runs[0].best), (runs[1], refitted, after, runs[1].refit),
    ):  # fmt: skip
        for name, value in load_head(run, c, results).state_dict().items():
            torch.testing.assert_close(value, weights(path)[f"head.{name}"], rtol=0, atol=0)


@pytest.mark.parametrize("more", [[], ["augment=[gain-6]"]])
def test_of_folds_both_are_the_clips_of_the_fold_and_of_the_others(settings: list[str], more: list[str]) -> None:
    """Their clips lie between each other in the corpus-wide order, so that labels could go to other clips' frames."""
    folded = config(*settings, *more, "data.folds=3", "data.fold=1", "train.refit=true")
    corpus = load(folded.data, Path(folded.paths.cache))
    both = again.join_partitions(corpus).partitions["train"]
    assert sorted(both.rows.tolist()) == list(range(len(both.files)))
    assert [corpus.files[row] for row in both.rows] == list(both.files)
    assert np.abs(np.diff(corpus.partitions["devel"].rows)).max() > 1
    assert train(folded).resolved.refit is True


def test_the_refit_is_a_training_on_both_with_the_selected_rates(
    settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop of plain PyTorch over the clips of both, with those rates, ends with the same weights."""
    more = ["optimizer.patience=0", "optimizer.lr=0.01"]
    rates: list[list[float]] = []
    plain = again.refit

    def noted(task, module, data, count, *callbacks):
        class Rates(Callback):
            def on_train_epoch_end(self, trainer, _):
                rates[-1].append(trainer.optimizers[0].param_groups[0]["lr"])

        rates.append([])
        plain(task, module, data, count, *callbacks, Rates())

    monkeypatch.setattr(neural, "refit", noted)
    c = config(*settings, *more, "train.refit=true", "head.dropout=0.2")
    results, run = train(c), ResolvedRun(c).run
    used = epochs(run, "lr")
    assert rates[0] == pytest.approx(used[: results.best.epoch + 1], rel=1e-12)
    assert len(set(used)) > 1, "the rate never fell: the test shows less than it says"
    assert_equal_to_a_plain_loop(c, run, rates[0])


def assert_equal_to_a_plain_loop(c: Config, run: Run, rates: list[float]) -> None:
    corpus = load(c.data, Path(c.paths.cache))
    found = source.open(on_cpu(c))
    assert found.store is not None
    parts = [corpus.partitions[name] for name in ("train", "devel")]
    rows = np.concatenate([part.rows for part in parts])
    labels = torch.from_numpy(np.concatenate([part.shares for part in parts]))
    torch.manual_seed(c.seed)
    head, loss, size = Head(found.width, 1, len(corpus.targets), c.head), ShareLoss(c.loss), c.data.batch_size
    optimizer = torch.optim.AdamW(head.parameters(), weight_decay=c.optimizer.weight_decay, fused=True)
    order = Shuffle(Clips(again.join_partitions(corpus).partitions["train"]), c.seed)
    for epoch, rate in enumerate(rates):
        optimizer.param_groups[0]["lr"] = rate
        order.set_epoch(epoch)
        clips = list(order)
        torch.manual_seed(c.seed + 1_000_003 * (epoch + 1))
        for start in range(0, len(clips) - size + 1, size):
            batch = clips[start : start + size]
            optimizer.zero_grad()
            loss(head.train()(*found.store.gather(rows[batch])), labels[batch]).backward()
            optimizer.step()
    for name, value in head.state_dict().items():
        torch.testing.assert_close(weights(run.refit)[f"head.{name}"], value, rtol=1e-5, atol=1e-6)


def test_the_epoch_in_which_the_warm_up_ends_goes_on_at_the_full_rate(
    settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The history has one rate for each epoch, that of its first step, which is next to 0 there."""
    seen: dict[bool, list[float]] = {False: [], True: []}
    plain = EmotionShareModule.training_step

    def step(self: EmotionShareModule, *arguments: object) -> torch.Tensor:
        seen[self.rates is not None].append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return plain(self, *arguments)

    monkeypatch.setattr(EmotionShareModule, "training_step", step)
    c = config(*settings, "train.refit=true", "optimizer.warmup=1.5", "optimizer.lr=0.01", "trainer.epochs=3",
               "data.batch_size=4")  # fmt: skip
    monkeypatch.setattr(neural, "select", lambda *_: [2])  # all epochs, whatever was the best
    train(c)
    for rates in seen.values():
        warm = round(1.5 * len(rates) / 3)
        assert rates == pytest.approx([0.01 * min((n + 1) / warm, 1) for n in range(len(rates))], rel=1e-9)


@pytest.mark.parametrize("backbone", ["logmel", "tiny backbone.frozen=false"])
def test_a_refit_that_was_cut_goes_on_to_the_same_weights(
    settings: list[str], monkeypatch: pytest.MonkeyPatch, backbone: str
) -> None:
    more = [*f"backbone={backbone}".split(), "train.refit=true", "head.dropout=0.2", "trainer.epochs=2"]
    whole, cut = (config(*settings, *more, f"sweep.name={name}") for name in ("whole", "cut"))
    monkeypatch.setattr(neural, "relative_rates", lambda *_: [1.0, 0.5, 0.25])  # three epochs, whatever was chosen
    train(whole)
    plain, count = EmotionShareModule.on_train_epoch_end, {"refit": 0}

    def stop(self: EmotionShareModule) -> None:
        if self.rates is not None:
            count["refit"] += 1
            if count["refit"] == 2:
                raise MemoryError("killed")
        plain(self)

    monkeypatch.setattr(EmotionShareModule, "on_train_epoch_end", stop)
    with pytest.raises(MemoryError):
        train(cut)
    run = ResolvedRun(cut).run
    assert not run.is_finished()
    assert again.last_of(run).exists()
    train(cut)
    assert count["refit"] == 2 + 2  # the first epoch was not trained again
    for name, value in weights(ResolvedRun(whole).run.refit).items():
        torch.testing.assert_close(weights(run.refit)[name], value, rtol=0, atol=0)
    for part in ("devel", "test"):
        np.testing.assert_array_equal(table(run, part), table(ResolvedRun(whole).run, part))


def test_a_corpus_without_test_is_refitted_for_new_clips(settings: list[str], tmp_path: Path) -> None:
    c = config(*settings, "data.test=null", "data.unmasked=null", "train.refit=true", "trainer.epochs=2")
    assert train(c).resolved.predicted_by == {"devel": "checkpoints/best.ckpt"}
    assert ResolvedRun(c).run.refit.exists()
