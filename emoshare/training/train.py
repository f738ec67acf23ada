"""One run, from a checked config to a finished run folder: a page of plain sequence.

corpus → window → backbone or stored frames → head → best epoch → predictions → results.json, written last.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from emoshare.backbones import checkpoint
from emoshare.backbones.base import Backbone, load_backbone
from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.core.files import read_json, write_json
from emoshare.core.hardware import choose_device, choose_precision, forget_peak, loop_dtype, peak_memory, resolve_dtype
from emoshare.core.validate import check
from emoshare.data.corpus import Corpus, load
from emoshare.data.window import Window
from emoshare.models.head import Head
from emoshare.models.loss import ShareLoss
from emoshare.models.module import EmotionShareModule
from emoshare.runs.folder import Run, lock
from emoshare.runs.logger import check_logger, log_results, logging_to
from emoshare.store.extract import TensorStore, ensure_store
from emoshare.store.recipe import VERSION, essence
from emoshare.training.datamodule import EmotionShareData
from emoshare.training.outcome import describe, draw, evaluate, summary
from emoshare.training.trainer import check_options, interruptible, make_trainer

log = logging.getLogger("emoshare")


def train(config: Config) -> dict[str, Any]:
    """Train the run of a config, or return the results of it when it is finished.

    Raises:
        EmoshareError: the config, corpus, backbone or machine does not allow it.
    """
    started = time.monotonic()
    check(config)
    check_logger(config)
    check_options(config.trainer.options)
    device = choose_device(config)
    precision = choose_precision(config, device)
    corpus = load(config.data, Path(config.paths.cache))
    check_corpus(config, corpus)
    run = Run.of(config)
    with lock(run.folder):
        if results := finished(run, config, corpus):
            return results
        for warning in corpus.warnings:
            log.warning("%s", warning.splitlines()[0])
        forget_peak(device)
        source: Backbone | TensorStore
        if in_loop(config):
            source = load_backbone(config.backbone, config.window, loop_dtype(config, precision), config.seed)
        else:
            source = stored(config, corpus, device)
        identity = source.identity
        store, backbone = (None, source) if isinstance(source, Backbone) else (source, None)
        run.start(config)
        extracted = time.monotonic()
        data = EmotionShareData(corpus, Window.of(config.window), config.data, config.seed, store)
        module = build(config, corpus, backbone, identity)
        with logging_to(config, run) as loggers, interruptible() as interrupt:
            trainer = make_trainer(config, run, loggers, device, precision, interrupt)
            trainer.fit(module, data, ckpt_path=run.last if run.last.exists() else None)
            fitted = time.monotonic()
            results = {
                **describe(config, run, corpus, identity, store),
                **evaluate(run, trainer, module, data),
                "timings": {
                    "extract_seconds": extracted - started,
                    "fit_seconds": fitted - extracted,
                    "total_seconds": time.monotonic() - started,
                },
                "memory": peak_memory(device),
            }
            log_results(loggers, results, draw(run))
        write_json(run.results, results)
    log.info("%s", summary(results, run))
    return results


def check_corpus(config: Config, corpus: Corpus) -> None:
    """Raise EmoshareError where a batch cannot be filled."""
    clips = len(corpus.partitions["train"].files)
    if clips < config.data.batch_size:
        raise EmoshareError(f"data.batch_size={config.data.batch_size}: the train partition has only {clips} clips")


def finished(run: Run, config: Config, corpus: Corpus) -> dict[str, Any] | None:
    """The results of a run that needs no training."""
    if config.anew:
        return None
    results = run.finished()
    if results and results["corpus"]["fingerprint"] != corpus.fingerprint:
        raise EmoshareError(f"{run.folder}: made from another state of {corpus.root}; force=true trains it anew")
    if results:
        run.failure.unlink(missing_ok=True)
        log.info("skipped, finished before: %s", run.folder.name)
    return results


def in_loop(config: Config) -> bool:
    """Whether the backbone runs in the training loop: it is asked for, or no store can hold its frames."""
    reason = None
    if not config.backbone.frozen:
        reason = "the backbone is trained (backbone.frozen=false)"
    elif config.window.crop == "random":
        reason = "every epoch sees other windows (window.crop=random)"
    if reason and config.backbone.cache:
        log.warning("frames are not stored: %s; the backbone runs in the loop", reason)
    return bool(reason) or not config.backbone.cache


def stored(config: Config, corpus: Corpus, device: torch.device) -> TensorStore:
    """The frame store of the config's recipe, filled first if need be."""

    @functools.cache
    def backbone() -> Backbone:
        dtype = resolve_dtype(config.extract.compute, device)
        return load_backbone(config.backbone, config.window, dtype, config.seed)

    cache = Path(config.paths.cache)
    return ensure_store(
        corpus, Window.of(config.window), identity_of(config, cache, backbone), backbone, config.extract,
        config.cache, cache, device, config.trainer.progress,
    )  # fmt: skip


def identity_of(config: Config, cache: Path, backbone: Callable[[], Backbone]) -> dict[str, Any]:
    """What the frames of the backbone depend on; remembered, so that a stored recipe needs no weights.

    The memory hangs on the config, the code, the libraries and the size and time of every file of the checkpoint.
    """
    folder = checkpoint.locate(config.backbone) if config.backbone.type != "logmel" else None
    files = sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in folder.iterdir()) if folder else []
    section = {k: v for k, v in asdict(config.backbone).items() if k not in ("frozen", "cache")}
    seed = None if config.backbone.pretrained else config.seed
    window = (config.window.pad, config.window.normalize)
    versions = [importlib.metadata.version(name) for name in ("torch", "transformers")]
    key = json.dumps([VERSION, section, seed, window, versions, str(folder), files])
    path = cache / "identities" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    if not path.exists():
        write_json(path, backbone().identity)
    return read_json(path, "delete it and run the command again")


def build(config: Config, corpus: Corpus, backbone: Backbone | None, identity: dict[str, Any]) -> EmotionShareModule:
    """The module: a fresh head of the config's seed, with the backbone where it runs in the loop."""
    pl.seed_everything(config.seed, verbose=False)  # the head's first weights, whatever was drawn before
    states = identity["layers"] + 1 if config.backbone.layer == "weighted" else 1
    head = Head(identity["dim"] * states, states, len(corpus.targets), config.head)
    kept = essence({"backbone": identity})["backbone"]
    origin = {"backbone": kept, "corpus": corpus.fingerprint}
    loss = ShareLoss(config.loss)
    return EmotionShareModule(head, loss, config.optimizer, corpus.targets, backbone, config.seed, origin)
