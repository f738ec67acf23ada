"""A head of PyTorch, trained by Lightning on stored frames or with the backbone in the loop.

In the run's folder: `checkpoints/best.ckpt` is the epoch that devel has chosen, which predicts devel. With train.refit,
`checkpoints/refit.ckpt` predicts test and new clips.

Shapes: N clips of a partition, E emotions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from emoshare.core.config import Config, hidden_states
from emoshare.core.errors import EmoshareError
from emoshare.core.interrupt import Interrupt, interruptible
from emoshare.data.corpus import Corpus
from emoshare.data.window import Window
from emoshare.models.head import Head
from emoshare.models.loss import ShareLoss
from emoshare.models.module import EmotionShareModule
from emoshare.runs.folder import Run
from emoshare.runs.results import Results
from emoshare.store.recipe import without_provenance
from emoshare.training.checkpoints import AtomicCheckpoints, readable
from emoshare.training.datamodule import EmotionShareData
from emoshare.training.progress import ProgressReport
from emoshare.training.refit import joined, last_of, refit, relative_rates
from emoshare.training.system import Outcome, Task
from emoshare.training.trainer import history_of, make_trainer


def fit_predict(task: Task) -> Outcome:
    """Train the head, going on from the run's last epoch if there is one; predict with its best epoch, or as refitted.

    Raises:
        EmoshareError: a batch cannot be filled, the run was begun with other weights, corpus, precision or device, a
            checkpoint cannot be read, or the loss is no longer a finite number.
    """
    config, corpus, run = task.config, task.corpus, task.run
    check_batch(config, corpus)
    window = Window.of(config.window, task.source.identity)
    data = EmotionShareData(corpus, window, config.data, config.seed, task.source.store)
    module = build(task)
    untrained = backbone_weights(module) if config.train.refit else {}
    progress = ProgressReport(config, task.place)
    with interruptible() as interrupt:
        trainer = make_trainer(config, run, list(task.loggers), task.device, task.precision, progress, interrupt)
        trainer.fit(module, data, ckpt_path=run.last if run.last.exists() else None)
        epoch, epochs = load(run.best, module), trainer.current_epoch
        others = [name for name in corpus.partitions if name not in ("train", "devel")]
        predictions = {"devel": predict(trainer, module, data, "devel")}
        if config.train.refit:
            data.on_device.clear()
            rates = relative_rates(config, history_of(trainer))[: epoch + 1]
            module = refitted(task, untrained, rates, interrupt)
        predictions |= {name: predict(trainer, module, data, name) for name in others}
    files = {name: str(path_of(run, config, name).relative_to(run.folder)) for name in predictions}
    return Outcome(predictions, epoch, epochs, resolved={"refit": config.train.refit, "predicted_by": files})


def backbone_weights(module: EmotionShareModule) -> dict[str, Tensor]:
    """A copy of a trained backbone's weights; empty for a frozen one."""
    if module.frozen or module.backbone is None:
        return {}
    return {name: value.clone() for name, value in module.backbone.state_dict().items()}


def refitted(task: Task, untrained: dict[str, Tensor], rates: list[float], interrupt: Interrupt) -> EmotionShareModule:
    """The module trained again on train + devel, from its first weights, with the rates of so many epochs.

    untrained: of a backbone that is trained, the weights that it had before.
    """
    config, path = task.config, task.run.refit
    module = build(task, rates)
    if untrained:
        assert task.source.backbone is not None
        task.source.backbone.load_state_dict(untrained)
    if not path.exists():
        window, both = Window.of(config.window, task.source.identity), joined(task.corpus)
        data = EmotionShareData(both, window, config.data, config.seed, task.source.store)
        refit(task, module, data, len(rates), interrupt)
        save(path, module, len(rates) - 1)
        last_of(task.run).unlink(missing_ok=True)
    load(path, module)
    return module


def check_batch(config: Config, corpus: Corpus) -> None:
    """Raise EmoshareError where a batch cannot be filled."""
    clips = len(corpus.partitions["train"].files)
    if clips < config.data.batch_size:
        raise EmoshareError(f"data.batch_size={config.data.batch_size}: the train partition has only {clips} clips")


def build(task: Task, rates: Sequence[float] | None = None) -> EmotionShareModule:
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
        config.train, rates,
    )  # fmt: skip


def path_of(run: Run, config: Config, partition: str = "new") -> Path:
    """The checkpoint whose weights predict a partition of the run's corpus, or new clips."""
    return run.refit if config.train.refit and partition != "devel" else run.best


def save(path: Path, module: EmotionShareModule, epoch: int) -> None:
    """Write the weights that were learned, as those of an epoch, counted from 0."""
    checkpoint: dict[str, Any] = {"epoch": epoch, "state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    AtomicCheckpoints().save_checkpoint(checkpoint, path)


def load(path: Path, module: EmotionShareModule) -> int:
    """Load the weights of a checkpoint, and return the number of its epoch, counted from 0."""
    with readable(path):
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"])
    return checkpoint["epoch"]


def load_head(run: Run, config: Config, results: Results) -> Head:
    """The head of a finished run with the weights that predict new clips, on the CPU in evaluation mode.

    Raises:
        EmoshareError: the checkpoint cannot be read.
    """
    path = path_of(run, config)
    with readable(path):
        weights = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        own = {name.removeprefix("head."): value for name, value in weights.items() if name.startswith("head.")}
        states = hidden_states(config.backbone.layer, results.backbone["layers"])
        head = Head(results.backbone["dim"] * states, states, len(results.targets), config.head)
        head.load_state_dict(own)
    return head.eval()


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
