"""How a head is trained: schedules, clipping, early stopping, the mean of epochs; each resumed as uninterrupted."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from composed import config, on_cpu
from recipes import epochs, resumed_as_uninterrupted, settings_of, table

from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.core.validate import check
from emoshare.data.corpus import load
from emoshare.inference.model import load_model
from emoshare.inference.shares import Shares
from emoshare.models.head import Head
from emoshare.models.module import EmotionShareModule
from emoshare.runs.folder import Run
from emoshare.runs.resolved import ResolvedRun
from emoshare.training import source
from emoshare.training.datamodule import Clips, Shuffle
from emoshare.training.train import train
from emoshare.training.weights import load_head


@pytest.fixture
def settings(corpus_root: Path, tmp_path: Path) -> list[str]:
    return settings_of(corpus_root, tmp_path)


RECIPES = {
    "cosine": "optimizer.schedule=cosine optimizer.warmup=1.5 optimizer.clip=0.05 train.frame_mask=0.4 train.mixup=0.5 "
    "train.average=2 train.refit=true",
    "plateau": "optimizer.warmup=1 optimizer.patience=0 train.average=3",
    "early": "train.patience=2 trainer.epochs=12",
    "tuned": "backbone=tiny backbone.frozen=false backbone.trainable_layers=1 backbone.lora=2 trainer.epochs=3 "
    "backbone.gradient_checkpointing=true optimizer.layer_decay=0.5",
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_resumed_run_is_as_an_uninterrupted_one(
    settings: list[str], monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    if recipe == "tuned":
        pytest.importorskip("peft")
    more = [*RECIPES[recipe].split(), "head.dropout=0.2"]
    resumed_as_uninterrupted([*settings, *more], monkeypatch)


def test_the_rates_of_a_run_are_those_of_its_schedule(settings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    plain = EmotionShareModule.training_step

    def step(self: EmotionShareModule, *arguments: object) -> torch.Tensor:
        seen.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return plain(self, *arguments)

    monkeypatch.setattr(EmotionShareModule, "training_step", step)
    c = config(*settings, "optimizer.schedule=cosine", "optimizer.warmup=1", "optimizer.lr=0.01")
    train(c)
    steps = len(seen) // 6
    wanted = [0.01 * (n + 1) / steps for n in range(steps)]
    wanted += [0.005 * (1 + math.cos(math.pi * n / (5 * steps))) for n in range(5 * steps)]
    assert seen == pytest.approx(wanted, rel=1e-9)
    assert epochs(ResolvedRun(c).run, "lr") == pytest.approx(wanted[::steps], rel=1e-9)


@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed", "64-true"])
def test_whatever_the_precision_devel_is_scored_by_its_labels_and_a_model_predicts_what_the_run_did(
    settings: list[str], precision: str
) -> None:
    """Lightning rounds batches to bfloat16, 8 bits: labels and stored frames with them."""
    c = config(*settings, f"trainer.precision={precision}", "trainer.epochs=2", "metrics=[scc,ccc,mae]")
    results, run = train(c), ResolvedRun(c).run
    for name in ("scc", "ccc", "mae"):
        assert results.score("devel", name) == pytest.approx(epochs(run, f"devel/{name}")[results.best.epoch], abs=1e-6)
    model = load_model(run.folder)
    files, shares = model.predictions("devel")
    anew = model.predict([str(load(c.data, Path(c.paths.cache)).path(file)) for file in files])
    assert isinstance(anew, Shares)
    np.testing.assert_allclose(anew.values, shares, atol=2e-5)


def test_gradients_are_clipped_by_their_norm(settings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    plain = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW, *arguments: object, **options: object) -> object:
        result = plain(self, *arguments, **options)
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(torch.cat([g.flatten() for g in gradients if g is not None]).norm().item())
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    train(config(*settings, "trainer.epochs=1", "optimizer.clip=0.05"))
    assert max(norms) <= 0.05 * 1.001
    assert sum(norm > 0.0499 for norm in norms) > 1, "none was clipped: the test shows less than it says"


def test_the_mean_of_the_best_epochs(settings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    c = config(*settings, "train.average=3", "optimizer.lr=0.01")
    saved: dict[int, dict[str, torch.Tensor]] = {}
    plain = EmotionShareModule.on_train_epoch_end

    def keep(self: EmotionShareModule) -> None:
        saved[self.current_epoch] = {name: value.clone() for name, value in self.head.state_dict().items()}
        plain(self)

    monkeypatch.setattr(EmotionShareModule, "on_train_epoch_end", keep)
    results, run = train(c), ResolvedRun(c).run
    scores = epochs(run, "devel/avg")
    best = sorted(range(6), key=lambda epoch: -scores[epoch])[:3]
    assert results.resolved.rest["averaged_epochs"] == sorted(best)
    assert results.best.epoch == best[0]
    assert results.resolved.predicted_by == dict.fromkeys(("devel", "test"), "checkpoints/average.ckpt")
    found = load_head(run, c, results)
    wanted = {name: sum(saved[e][name].double() for e in best) / 3 for name in saved[0]}
    for name, value in found.named_parameters():
        torch.testing.assert_close(value, wanted[name].float())
    assert_predicts(c, run, found)
    assert_norms_are_those_of_the_mean(c, found)


def assert_predicts(c: Config, run: Run, head: Head) -> None:
    corpus = load(c.data, Path(c.paths.cache))
    store = source.open(on_cpu(c)).store
    assert store is not None
    with torch.no_grad():
        shares = head(*store.gather(corpus.partitions["devel"].rows)).numpy()
    np.testing.assert_allclose(table(run, "devel"), shares, atol=1e-6)


def assert_norms_are_those_of_the_mean(c: Config, head: Head) -> None:
    """The first norm's statistics, worked out from the batches of the first epoch's order."""
    corpus = load(c.data, Path(c.paths.cache))
    store = source.open(on_cpu(c)).store
    assert store is not None
    order, size = list(Shuffle(Clips(corpus.partitions["train"]), c.seed)), c.data.batch_size
    means, variances = [], []
    for start in range(0, len(order) - size + 1, size):
        frames, lengths = store.gather(np.array(order[start : start + size]))
        with torch.no_grad():
            values = head.mlp[0](head.pooling(frames.float(), lengths))
        means.append(values.mean(0))
        variances.append(values.var(0, correction=1))
    norm = head.mlp[1]
    torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, torch.stack(variances).mean(0), rtol=1e-4, atol=1e-5)


def test_training_ends_early_and_stays_so(settings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    c = config(*settings, "train.patience=2", "trainer.epochs=30", "optimizer.lr=0.05")
    results, run = train(c), ResolvedRun(c).run
    scores = epochs(run, "devel/avg")
    assert len(scores) == results.epochs < 30
    assert results.best.epoch == np.nanargmax(scores) == len(scores) - 3
    run.results_path.unlink()  # killed after its last epoch
    before = (run.folder / "metrics.csv").read_text()
    again = train(c)
    assert (again.epochs, again.best) == (results.epochs, results.best)
    assert (run.folder / "metrics.csv").read_text() == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer.warmup=30"], r"optimizer\.warmup=30: must be less than trainer\.epochs, 30"),
        (["train.average=31"], r"train\.average=31: must be at most trainer\.epochs, 30"),
        (["optimizer.clip=1", "+trainer.options.gradient_clip_val=1"], r"optimizer\.clip: trainer\.options"),
        (["optimizer.clip=0"], r"optimizer\.clip=0: must be"),
        (["train.frame_mask=1"], r"train\.frame_mask=1: must be at least 0 and less than 1"),
        (["train.mixup=0.2", "head=segments"], r"train\.mixup: .* set train\.mixup to 0"),
        (["train.patience=0"], r"train\.patience=0: must be"),
        (["optimizer.schedule=step"], r"optimizer\.schedule=step: must be one of plateau, cosine, constant"),
    ],
)
def test_what_a_recipe_cannot_be(overrides: list[str], message: str) -> None:
    with pytest.raises(EmoshareError, match=message):
        check(config(*overrides))


def test_balanced_weights_are_those_of_trains_labels(settings: list[str]) -> None:
    """The run is that of the same weights by number; those of another scale are another run with the same numbers."""
    common = [*settings, "loss=kl", "loss.ccc=0.5", "head.output=softmax"]
    shares = load(config(*settings).data, Path(config(*settings).paths.cache)).partitions["train"].shares
    assert shares is not None
    given = ",".join(str(float(1 / mean)) for mean in shares.mean(0))
    configs = [config(*common, f"loss.weights={weights}") for weights in ("balanced", f"[{given}]", "null")]
    results = [train(made) for made in configs]
    tables = [table(ResolvedRun(made).run, "test") for made in configs]
    assert len({result.run for result in results}) == 3
    np.testing.assert_allclose(tables[0], tables[1], atol=1e-6)
    assert np.abs(tables[0] - tables[2]).max() > 1e-4
    np.testing.assert_allclose(tables[0].sum(1), 1, atol=1e-5)
