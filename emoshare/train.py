"""One run, from a checked config to a finished run folder: a page of plain sequence.

corpus → window → backbone or stored frames → head → best epoch → predictions → results.json, written last.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import importlib.metadata
import io
import json
import logging
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.io import TorchCheckpointIO

from emoshare import checkpoint
from emoshare.audio import Window
from emoshare.backbone import Backbone, load_backbone
from emoshare.config import Config, check
from emoshare.corpus import Corpus, load
from emoshare.datamodule import EmotionShareData
from emoshare.device import choose_device, choose_precision, loop_dtype, peak_memory
from emoshare.engine import resolve_dtype
from emoshare.errors import EmoshareError
from emoshare.extract import TensorStore, ensure_store
from emoshare.head import Head
from emoshare.logger import check_logger, log_results, logging_to
from emoshare.loss import ShareLoss
from emoshare.module import EmotionShareModule
from emoshare.results import describe, draw, evaluate, readable, summary
from emoshare.runs import Run, lock, replacing, write_json, write_text

log = logging.getLogger("emoshare")


def train(config: Config) -> dict[str, Any]:
    """Train the run of a config, or return the results of it when it is finished.

    Raises:
        EmoshareError: the config, corpus, backbone or machine does not allow it.
    """
    started = time.monotonic()
    check(config)
    check_logger(config)
    device = choose_device(config)
    precision = choose_precision(config, device)
    corpus = load(config.data, Path(config.paths.cache))
    check_corpus(config, corpus)
    run = Run.of(config)
    if results := finished(run, config, corpus):
        return results
    for warning in corpus.warnings:
        log.warning("%s", warning.splitlines()[0])
    with lock(run.folder):
        if results := finished(run, config, corpus):  # by the process that held the lock
            return results
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
        with logging_to(config, run) as loggers, interruptible():
            trainer = make_trainer(config, run, loggers, device, precision)
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


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C is KeyboardInterrupt, as everywhere else: Lightning makes it SystemExit, and ignores the next one."""
    try:
        yield
    except SystemExit as leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt from leave


def check_corpus(config: Config, corpus: Corpus) -> None:
    """Raise EmoshareError where a batch cannot be filled."""
    clips = len(corpus.partitions["train"].files)
    if clips < config.data.batch_size:
        raise EmoshareError(f"data.batch_size={config.data.batch_size}: the train partition has only {clips} clips")


def finished(run: Run, config: Config, corpus: Corpus) -> dict[str, Any] | None:
    """The results of a run that needs no training."""
    if config.force or not config.resume:
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

    The memory hangs on the config, the libraries and the size and time of every file of the checkpoint.
    """
    folder = checkpoint.locate(config.backbone) if config.backbone.type != "logmel" else None
    files = sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in folder.iterdir()) if folder else []
    section = {k: v for k, v in asdict(config.backbone).items() if k not in ("frozen", "cache")}
    seed = None if config.backbone.pretrained else config.seed
    window = (config.window.pad, config.window.normalize)
    versions = [importlib.metadata.version(name) for name in ("torch", "transformers")]
    key = json.dumps([section, seed, window, versions, str(folder), files])
    path = cache / "identities" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    if not path.exists():
        write_json(path, backbone().identity)
    return json.loads(path.read_text(encoding="utf-8"))


def build(config: Config, corpus: Corpus, backbone: Backbone | None, identity: dict[str, Any]) -> EmotionShareModule:
    """The module: a fresh head of the config's seed, with the backbone where it runs in the loop."""
    pl.seed_everything(config.seed, verbose=False)  # the head's first weights, whatever was drawn before
    states = identity["layers"] + 1 if config.backbone.layer == "weighted" else 1
    head = Head(identity["dim"] * states, states, len(corpus.targets), config.head)
    return EmotionShareModule(head, ShareLoss(config.loss), config.optimizer, corpus.targets, backbone, config.seed)


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that are written whole or not at all: a killed run never leaves half of one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        buffer = io.BytesIO()  # writing to a path itself, PyTorch hides why it could not
        torch.save(checkpoint, buffer)
        with replacing(Path(path)) as temporary:
            temporary.write_bytes(buffer.getbuffer())

    def load_checkpoint(self, path: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
        with readable(path):
            return super().load_checkpoint(path, *arguments, **options)


class Checkpoints(ModelCheckpoint):
    """Knows its best epoch also where the run's folder was moved: Lightning would forget it and go on."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        here, there = str(self.dirpath), str(state_dict["dirpath"])
        paths = {k: v.replace(there, here) for k, v in state_dict.items() if isinstance(v, str)}
        best = {path.replace(there, here): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "best_k_models": best})


class History(Callback):
    """Writes metrics.csv after every epoch; part of the checkpoint, so that a resumed run goes on in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        self.rows.append({"epoch": trainer.current_epoch, "lr": self.rate, **dict(sorted(metrics.items()))})
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.rows[0]), lineterminator="\n", restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]


class EpochBar(TQDMProgressBar):
    """One bar per epoch; what devel and the predictions take is not worth a bar of their own."""

    def init_validation_tqdm(self) -> Tqdm:
        return Tqdm(disable=True)

    def init_predict_tqdm(self) -> Tqdm:
        return Tqdm(disable=True)


QUIET = (  # warnings that tell a user nothing
    ".*isinstance.treespec, LeafSpec.*",  # Lightning about PyTorch
    ".*smaller than the logging interval.*",  # metrics are logged by epoch
    ".*does not have many workers.*",  # stored frames need none
    ".*Checkpoint directory .* exists and is not empty.*",  # a resumed run
)


def make_trainer(config: Config, run: Run, loggers: list[Logger], device: torch.device, precision: str) -> pl.Trainer:
    """Lightning's trainer for one device, with selection by devel Avg."""
    checkpoints = Checkpoints(
        run.best.parent,
        filename="best",
        monitor="devel/avg",
        mode="max",
        save_last=True,
        save_on_train_epoch_end=True,  # after the scheduler's step, so that a resumed run has taken it too
        enable_version_counter=False,
    )
    callbacks: list[Callback] = [History(run.folder / "metrics.csv"), checkpoints]
    watched = config.trainer.progress and sys.stdout.isatty()
    if watched:
        callbacks.append(EpochBar(refresh_rate=10))
    for noise in QUIET:
        warnings.filterwarnings("ignore", message=noise)
    return pl.Trainer(
        max_epochs=config.trainer.epochs,
        accelerator=device.type,
        devices=[device.index] if device.type == "cuda" else 1,
        precision=precision,  # type: ignore[arg-type]
        deterministic="warn" if config.trainer.deterministic else False,
        logger=loggers,
        callbacks=callbacks,
        plugins=[AtomicCheckpoints()],
        default_root_dir=run.folder,
        num_sanity_val_steps=0,
        enable_progress_bar=watched,
        enable_model_summary=watched,
        **config.trainer.options,
    )
