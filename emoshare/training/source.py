"""The source of a run's frames: the store, filled first if need be, or the backbone in the training loop."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from emoshare.backbones.base import Backbone, load_backbone
from emoshare.backbones.concat import extractor_of
from emoshare.backbones.extractor import precision_name
from emoshare.core.backbones import BackboneOptions
from emoshare.core.config import hidden_states
from emoshare.core.cores import usable_cores
from emoshare.core.hardware import loop_dtype
from emoshare.core.helpers import helping
from emoshare.data.partition import Partition
from emoshare.data.window import Window
from emoshare.runs.resolved import ResolvedRun
from emoshare.store.clips import Clips
from emoshare.store.extract import frames_of
from emoshare.store.tensors import JoinedStore, TensorStore
from emoshare.training.augment import Augmentation

log = logging.getLogger("emoshare")


@dataclass(frozen=True)
class Source:
    """Stored frames, or a backbone that computes them in the loop; the other is None."""

    store: TensorStore | JoinedStore | None
    backbone: Backbone | None
    identity: dict[str, Any]  # of the backbone, down to the weights
    augmentation: Augmentation | None  # of stored frames: rows of variants after those of the corpus
    resolved: dict[str, Any]  # values that `auto` was resolved to: compute, and for stored frames their precision

    def augment(self, part: Partition) -> Partition:
        """A partition with the variants of its clips, where there are any."""
        return part if self.augmentation is None else self.augmentation.extend(part)

    @property
    def states(self) -> int:
        """Hidden states in a frame, one after the other."""
        return hidden_states(self.identity["layer"], self.identity["layers"])

    @property
    def width(self) -> int:
        """Numbers per frame: D, or states · D."""
        return self.identity["dim"] * self.states


def open(run: ResolvedRun, label: str = "frames") -> Source:  # noqa: A001 (called source.open)
    """Open the frames of a run, and set the number of PyTorch's threads to what the work can use.

    label: begins reports of progress.
    A head alone gains nothing from a second thread, and loses a hundredfold where another process uses the machine.
    """
    config = run.config
    if config.in_loop:
        if (reason := config.unstorable) and config.backbone.cache:
            log.warning("frames are not stored: %s; the backbone runs in the loop", reason)
        set_threads(config.trainer.threads or usable_cores())
        dtype = loop_dtype(config.backbone.frozen, run.precision)
        backbone = load_backbone(trained_backbone(run), config.window, dtype, config.seed, run.cache)
        compute = "float32" if backbone.float32_only else precision_name(dtype)
        return Source(None, backbone, backbone.identity, None, {"compute": compute})
    store = open_store(run, label)
    set_threads(config.trainer.threads or 1)
    return Source(store, None, store.recipe.backbone, Augmentation.of(run), store.recipe.precisions)


def set_threads(count: int) -> None:
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


def open_store(run: ResolvedRun, label: str = "frames") -> TensorStore | JoinedStore:
    """Open the stored frames of a run, which are computed first where they are missing; label: begins progress reports.

    With `extract.workers`, other processes help.
    """
    config, workers = run.config, run.config.extract.workers
    set_threads(config.trainer.threads or max(usable_cores() // workers, 1))
    asked = replace(config.frames, backbone=trained_backbone(run))
    extractor = extractor_of(asked, run.device, run.cache)
    window = Window.of(config.window, extractor.identity)
    helpers = partial(helping, workers - 1, help_extract, (run,))
    augmentation = Augmentation.of(run)
    if augmentation and (vain := augmentation.without_effect(extractor.identity)):
        log.warning(
            "augment: %s changes no frame of %s, as window.normalize=checkpoint takes the level away; leave it out",
            ", ".join(map(str, vain)), config.backbone.name,
        )  # fmt: skip
    clips = Clips.of_corpus(run.corpus, window, augmentation.further if augmentation else ())
    return frames_of(clips, extractor, run.cache, label, config.cache.max_gb, helpers)


def help_extract(number: int, run: ResolvedRun) -> None:
    """Share in the extraction as helper process `number`, from 1, on the next GPU where there are any."""
    config, device = run.config, run.device
    if device.type == "cuda":
        device = torch.device("cuda", ((device.index or 0) + number) % torch.cuda.device_count())
    threads = config.trainer.threads or max(usable_cores() // config.extract.workers, 1)
    extract, trainer = replace(config.extract, workers=1), replace(config.trainer, threads=threads)
    open_store(run.with_config(replace(config, extract=extract, trainer=trainer), device))


def trained_backbone(run: ResolvedRun) -> BackboneOptions:
    """The run's backbone; audeep's autoencoders are trained on the corpus at their first use."""
    if not run.config.backbone.trained_first:
        return run.config.backbone
    from emoshare.backbones.autoencoder_training import prepare  # imports Lightning

    return prepare(run.config.backbone, run.corpus, run.device, run.cache)
