"""A head of PyTorch, trained by Lightning on stored frames or with the backbone in the loop.

In the run's folder: `checkpoints/best.ckpt` is the epoch that devel has chosen; with train.average above 1,
`checkpoints/average.ckpt` is the mean of the best epochs. With train.refit, `checkpoints/refit.ckpt` predicts test and
new clips, and the epoch that devel has chosen predicts devel alone.

Shapes: N clips of a partition, E emotions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from torch import Tensor

from emoshare.core.lightning import Interrupt, interruptible
from emoshare.data.partition import Corpus
from emoshare.data.window import Window
from emoshare.metrics.registry import metrics_of
from emoshare.models.module import EmotionShareModule
from emoshare.store.recipe import without_provenance
from emoshare.training.averaging import mean_weights, recompute_norms
from emoshare.training.checkpoints import load, save, use
from emoshare.training.datamodule import EmotionShareData
from emoshare.training.debugging import report_debugging
from emoshare.training.progress import ProgressReport
from emoshare.training.refit import KeepEpochs, join_partitions, refit, relative_rates, remove_temporary
from emoshare.training.system import Outcome, Task
from emoshare.training.trainer import best_of, history_of, make_trainer
from emoshare.training.weights import path_of, read


def fit_predict(task: Task) -> Outcome:
    """Train the head, going on from the run's last epoch if there is one; predict with its best epoch, or as refitted.

    Raises:
        EmoshareError: the run was begun with other weights, corpus, precision or device, a
            checkpoint cannot be read, or the loss is no longer a finite number.
    """
    config, corpus, run = task.config, task.corpus, task.run
    data = data_of(task, augment_train(task, corpus))
    module = build(task)
    untrained = backbone_weights(module) if config.train.refit else {}
    progress = ProgressReport(task.resolved, task.place)
    with interruptible() as interrupt:
        trainer = make_trainer(task.resolved, list(task.loggers), progress, interrupt)
        trainer.fit(module, data, ckpt_path=run.last if run.last.exists() else None)
        chosen, history = select(task, module, trainer, data), history_of(trainer)
        others = [name for name in corpus.partitions if name not in ("train", "devel")]
        predictions = {"devel": predict(trainer, module, data, "devel")}
        if config.train.refit:
            data.on_device.clear()
            rates = relative_rates(config.optimizer, history, max(chosen) + 1)
            module = refit_module(task, untrained, chosen, rates, interrupt)
        predictions |= {name: predict(trainer, module, data, name) for name in others}
        report_debugging(task, trainer, history)
    named = {name: str(path_of(run, config.train, name).relative_to(run.folder)) for name in (*predictions, "new")}
    files = {name: named[name] for name in predictions}
    return Outcome(
        predictions,
        best_epoch=chosen[0],
        epochs=len(history),
        refit=config.train.refit,
        predicted_by=files,
        choices={"averaged_epochs": sorted(chosen)},
        weights=tuple(named.values()),
    )


def data_of(task: Task, corpus: Corpus) -> EmotionShareData:
    """The batches of a corpus, as the run's config has them."""
    config = task.config
    balance = config.balance if config.sampler == "balanced" else None
    return EmotionShareData(
        corpus, Window.of(config.window, task.source.identity), config.data, config.seed, task.source.store,
        config.train.drop_votes, balance,
    )  # fmt: skip


def augment_train(task: Task, corpus: Corpus) -> Corpus:
    """The corpus whose train partition has the variants of its clips."""
    return replace(corpus, partitions=corpus.partitions | {"train": task.source.augment(corpus.partitions["train"])})


def select(task: Task, module: EmotionShareModule, trainer: pl.Trainer, data: EmotionShareData) -> list[int]:
    """Load the weights that devel has chosen, and return their epochs, counted from 0, the best first."""
    if task.config.train.average == 1:
        return [load(task.run.best, module)]
    paths = best_of(trainer)
    epochs = [int(read(path)["epoch"]) for path in paths]
    if not task.run.average.exists():
        average(task, module, paths, data)
        save(task.run.average, module, epochs[0])
    load(task.run.average, module)
    return epochs


def average(task: Task, module: EmotionShareModule, paths: Sequence[Path], data: EmotionShareData) -> None:
    """Load the mean of several checkpoints' weights, with batch norms of its own."""
    use({"state_dict": mean_weights(paths), "origin": module.origin}, module)
    recompute_norms(module, data.loader("train"), task.device, task.config.seed)


def backbone_weights(module: EmotionShareModule) -> dict[str, Tensor]:
    """A copy of a trained backbone's weights; empty for a frozen one."""
    if module.frozen or module.backbone is None:
        return {}
    return {name: value.clone() for name, value in module.backbone.state_dict().items()}


def refit_module(
    task: Task, untrained: dict[str, Tensor], chosen: list[int], rates: list[float], interrupt: Interrupt
) -> EmotionShareModule:
    """Train the module again on train + devel, from its first weights.

    Args:
        untrained: the first weights of a backbone that is trained.
        chosen: the epochs whose weights are taken; the mean of them, if they are several.
        rates: the learning rate of each epoch, as a share of the config's.
    """
    path = task.run.refit
    module = build(task, rates)
    if untrained:
        assert task.source.backbone is not None
        task.source.backbone.load_state_dict(untrained)
    if not path.exists():
        data = data_of(task, augment_train(task, join_partitions(task.corpus)))
        keeper = KeepEpochs(task.run, chosen if len(chosen) > 1 else [])
        refit(task, module, data, len(rates), keeper, interrupt)
        if keeper.epochs:
            average(task, module, [keeper.path(epoch) for epoch in chosen], data)
        save(path, module, len(rates) - 1)
        remove_temporary(task.run)
    load(path, module)
    return module


def build(task: Task, rates: Sequence[float] | None = None) -> EmotionShareModule:
    """Build the module: a fresh head of the config's seed, with the backbone where it runs in the loop."""
    config, identity = task.config, task.source.identity
    pl.seed_everything(config.seed, verbose=False)  # the head's first weights, whatever was drawn before
    head = config.head.make(task.source.width, task.source.states, len(task.corpus.targets))
    origin = {
        "backbone": without_provenance(identity),
        "corpus": task.corpus.fingerprint,
        "precision": task.precision,
        "device": task.device.type,
    }
    labels = task.corpus.partitions["train"].shares
    assert labels is not None
    means = [float(mean) for mean in np.nanmean(labels, 0)]
    return EmotionShareModule(
        head, config.loss.make(means), config.optimizer, task.corpus.targets, task.source.backbone, config.seed, origin,
        config.train, config.trainer.epochs, rates, metrics_of(config),
    )  # fmt: skip


def predict(trainer: pl.Trainer, module: EmotionShareModule, data: EmotionShareData, name: str) -> np.ndarray:
    """Predict the shares (N, E) of a partition, in the order of its clips."""
    outputs: Any = trainer.predict(module, data.loader(name))
    clips = len(data.corpus.partitions[name].files)
    shares = np.full((clips, len(data.corpus.targets)), np.nan, np.float32)
    written = np.zeros(clips, bool)
    for rows, values in outputs:
        shares[rows.cpu().numpy()] = values.cpu().numpy()
        written[rows.cpu().numpy()] = True
    assert written.all(), f"{name}: {clips - written.sum()} of {clips} clips were not predicted"
    return shares
