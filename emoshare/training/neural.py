"""A head of PyTorch, trained by Lightning on stored frames or with the backbone in the loop.

Shapes: N clips of a partition, E emotions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.core.interrupt import interruptible
from emoshare.data.corpus import Corpus
from emoshare.data.window import Window
from emoshare.models.head import Head
from emoshare.models.loss import ShareLoss
from emoshare.models.module import EmotionShareModule
from emoshare.runs.folder import Run
from emoshare.store.recipe import without_provenance
from emoshare.training.datamodule import EmotionShareData
from emoshare.training.progress import ProgressReport
from emoshare.training.system import Outcome, Task
from emoshare.training.trainer import make_trainer
from emoshare.training.weights import readable


def fit_predict(task: Task) -> Outcome:
    """Train the head, going on from the run's last epoch if there is one; predict with its best epoch.

    Raises:
        EmoshareError: a batch cannot be filled, the run was begun with other weights, corpus, precision or device, a
            checkpoint cannot be read, or the loss is no longer a finite number.
    """
    config, corpus, run = task.config, task.corpus, task.run
    check_batch(config, corpus)
    window = Window.of(config.window, task.source.identity)
    data = EmotionShareData(corpus, window, config.data, config.seed, task.source.store)
    module = build(task)
    progress = ProgressReport(config, task.place)
    with interruptible() as interrupt:
        trainer = make_trainer(config, run, list(task.loggers), task.device, task.precision, progress, interrupt)
        trainer.fit(module, data, ckpt_path=run.last if run.last.exists() else None)
        epoch = load_best(run, module)
        predictions = {name: predict(trainer, module, data, name) for name in corpus.partitions if name != "train"}
    return Outcome(predictions, epoch, trainer.current_epoch)


def check_batch(config: Config, corpus: Corpus) -> None:
    """Raise EmoshareError where a batch cannot be filled."""
    clips = len(corpus.partitions["train"].files)
    if clips < config.data.batch_size:
        raise EmoshareError(f"data.batch_size={config.data.batch_size}: the train partition has only {clips} clips")


def build(task: Task) -> EmotionShareModule:
    """The module: a fresh head of the config's seed, with the backbone where it runs in the loop."""
    config, identity = task.config, task.source.identity
    pl.seed_everything(config.seed, verbose=False)  # the head's first weights, whatever was drawn before
    head = Head(task.source.width, task.source.states, len(task.corpus.targets), config.head)
    origin = {
        "backbone": without_provenance({"backbone": identity})["backbone"],
        "corpus": task.corpus.fingerprint,
        "precision": task.precision,
        "device": task.device.type,
    }
    return EmotionShareModule(
        head, ShareLoss(config.loss), config.optimizer, task.corpus.targets, task.source.backbone, config.seed, origin,
        config.train.select,
    )  # fmt: skip


def load_best(run: Run, module: EmotionShareModule) -> int:
    """Load the weights of the best epoch, and return its number, counted from 0."""
    with readable(run.best):
        checkpoint = torch.load(run.best, map_location="cpu", weights_only=True)
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"])
    return checkpoint["epoch"]


def predict(trainer: pl.Trainer, module: EmotionShareModule, data: EmotionShareData, name: str) -> np.ndarray:
    """(N, E) shares of a partition, in the order of its clips."""
    outputs: Any = trainer.predict(module, data.loader(name))
    clips = len(data.corpus.partitions[name].files)
    shares = np.full((clips, len(data.corpus.targets)), np.nan, np.float32)
    written = np.zeros(clips, bool)
    for rows, values in outputs:
        shares[rows.cpu().numpy()] = values.cpu().numpy()
        written[rows.cpu().numpy()] = True
    assert written.all(), f"{name}: {clips - written.sum()} of {clips} clips were not predicted"
    return shares
