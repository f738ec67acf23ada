"""One run, from a checked config to a finished run folder: a page of plain sequence.

corpus → window → backbone or stored frames → head → best epoch → predictions → results.json, written last.
"""

from __future__ import annotations

import csv
import importlib.metadata
import io
import logging
import platform
import resource
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.io import TorchCheckpointIO

from emoshare import __version__, figures
from emoshare.audio import Window
from emoshare.backbone import Backbone, identify, load_backbone
from emoshare.config import Config, check
from emoshare.corpus import Corpus, load
from emoshare.datamodule import EmotionShareData
from emoshare.engine import matrix_bf16, resolve_dtype
from emoshare.errors import EmoshareError
from emoshare.extract import ensure_store
from emoshare.frames import FrameStore
from emoshare.head import Head
from emoshare.logger import log_results, logging_to
from emoshare.loss import ShareLoss
from emoshare.metrics import table
from emoshare.module import EmotionShareModule
from emoshare.runs import Run, lock, replacing, write_json, write_shares, write_text

log = logging.getLogger("emoshare")


def train(config: Config) -> dict[str, Any]:
    """Train the run of a config, or return the results of it when it is finished.

    Raises:
        EmoshareError: the config, corpus, backbone or machine does not allow it.
    """
    started = time.monotonic()
    check(config)
    device = choose_device(config)
    precision = choose_precision(config, device)
    cache = Path(config.paths.cache)
    corpus = load(config.data, cache)
    check_corpus(config, corpus)
    run = Run.of(config)
    if results := finished(run, config, corpus):
        return results
    window = Window.of(config.window)
    identity = identify(config.backbone, config.window, cache, config.seed)

    with lock(run.folder):
        if results := finished(run, config, corpus):  # by the process that held the lock
            return results
        run.start(config)
        pl.seed_everything(config.seed, verbose=False)

        def backbone(dtype: torch.dtype = torch.float32) -> Backbone:
            return load_backbone(config.backbone, config.window, dtype, config.seed)

        store = frames_of(config, corpus, window, identity, backbone, device)
        extracted = time.monotonic()
        data = EmotionShareData(corpus, window, config.data, config.seed, store)
        module = build(config, corpus, None if store else backbone(loop_dtype(config, precision)), identity)
        with logging_to(config, run) as loggers:
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
            log_results(loggers, results, draw(run, corpus))
        write_json(run.results, results)
    return results


def check_corpus(config: Config, corpus: Corpus) -> None:
    """Raise EmoshareError where a batch cannot be filled."""
    clips = len(corpus.partitions["train"].files)
    if clips < config.data.batch_size:
        raise EmoshareError(f"data.batch_size={config.data.batch_size}: the train partition has only {clips} clips")


def finished(run: Run, config: Config, corpus: Corpus) -> dict[str, Any] | None:
    """The results of a run that needs no training; empties the folder of one that is to be done anew."""
    if config.force or not config.resume:
        for path in run.folder.glob("[!.]*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return None
    results = run.finished()
    if results and results["corpus"]["fingerprint"] != corpus.fingerprint:
        raise EmoshareError(f"{run.folder}: made from another state of {corpus.root}; force=true trains it anew")
    return results


def choose_device(config: Config) -> torch.device:
    """The device that `trainer.accelerator` and `trainer.device` name."""
    wanted, gpus = config.trainer.accelerator, torch.cuda.device_count()
    if wanted == "gpu" and not gpus:
        raise EmoshareError("trainer.accelerator=gpu: PyTorch sees no GPU here; use trainer.accelerator=auto or cpu")
    if wanted == "mps" or (wanted == "auto" and torch.backends.mps.is_available()):
        return torch.device("mps")
    if wanted == "cpu" or not gpus:
        return torch.device("cpu")
    if config.trainer.device >= gpus:
        raise EmoshareError(f"trainer.device={config.trainer.device}: this machine has GPUs 0 to {gpus - 1}")
    return torch.device("cuda", config.trainer.device)


def choose_precision(config: Config, device: torch.device) -> str:
    """Lightning's precision; auto: bf16-mixed where the hardware has it, 16-mixed on an older GPU, else 32-true."""
    wanted = config.trainer.precision
    if device.type == "cpu" and wanted in ("16-true", "16-mixed", "16"):
        raise EmoshareError(f"trainer.precision={wanted}: far slower than float32 on a CPU; use auto, bf16-mixed or 32-true")
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if device.type == "cpu" and matrix_bf16() else "32-true"


def loop_dtype(config: Config, precision: str) -> torch.dtype:
    """Weights of a backbone in the loop: half precision where it is frozen and the precision allows."""
    if not config.backbone.frozen or precision.startswith(("32", "64")):
        return torch.float32
    return torch.bfloat16 if precision.startswith("bf16") else torch.float16


def frames_of(
    config: Config,
    corpus: Corpus,
    window: Window,
    identity: dict[str, Any],
    backbone: Callable[[torch.dtype], Backbone],
    device: torch.device,
) -> FrameStore | None:
    """The frame store of the run's recipe, filled if need be; None where the backbone has to run in the loop."""
    reason = None
    if not config.backbone.frozen:
        reason = "the backbone is trained (backbone.frozen=false)"
    elif config.window.crop == "random":
        reason = "every epoch sees other windows (window.crop=random)"
    if reason and config.backbone.cache:
        log.warning("frames are not stored: %s; the backbone runs in the loop", reason)
    if reason or not config.backbone.cache:
        return None
    dtype = resolve_dtype(config.extract.compute, device)
    return ensure_store(
        corpus, window, identity, lambda: backbone(dtype), config.extract, config.cache,
        Path(config.paths.cache), device, config.trainer.progress,
    )  # fmt: skip


def build(config: Config, corpus: Corpus, backbone: Backbone | None, identity: dict[str, Any]) -> EmotionShareModule:
    """The module: a fresh head of the config's seed, with the backbone where it runs in the loop."""
    pl.seed_everything(config.seed, verbose=False)  # the head's first weights, whatever was drawn before
    states = identity["layers"] + 1 if config.backbone.layer == "weighted" else 1
    head = Head(identity["dim"] * states, states, len(corpus.targets), config.head)
    return EmotionShareModule(head, ShareLoss(config.loss), config.optimizer, corpus.targets, backbone, config.seed)


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that are written whole or not at all: a killed run never leaves half of one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with replacing(Path(path)) as temporary:
            super().save_checkpoint(checkpoint, temporary, storage_options)


class History(Callback):
    """Writes metrics.csv after every epoch; part of the checkpoint, so that a resumed run goes on in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        self.rows.append({"epoch": trainer.current_epoch, "lr": rate, **dict(sorted(metrics.items()))})
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.rows[0]), lineterminator="\n", restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]


def make_trainer(config: Config, run: Run, loggers: list[Logger], device: torch.device, precision: str) -> pl.Trainer:
    """Lightning's trainer for one device, with selection by devel Avg."""
    checkpoints = ModelCheckpoint(
        run.best.parent,
        filename="best",
        monitor="devel/avg",
        mode="max",
        save_last=True,
        save_on_train_epoch_end=True,  # after the scheduler's step, so that a resumed run has taken it too
        enable_version_counter=False,
    )
    callbacks: list[Callback] = [History(run.folder / "metrics.csv"), checkpoints]
    if config.trainer.progress:
        callbacks.append(TQDMProgressBar(refresh_rate=10))
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
        enable_progress_bar=config.trainer.progress,
        enable_model_summary=config.trainer.progress,
        **config.trainer.options,
    )


def evaluate(run: Run, trainer: pl.Trainer, module: EmotionShareModule, data: EmotionShareData) -> dict[str, Any]:
    """Predict devel and test with the best epoch, write the tables, and score what has labels."""
    checkpoint = torch.load(run.best, map_location="cpu", weights_only=True)
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"])
    metrics: dict[str, Any] = {}
    for name, partition in data.corpus.partitions.items():
        if name == "train":
            continue
        outputs = trainer.predict(module, data.loader(name))
        assert outputs is not None
        shares = np.empty((len(partition.files), len(data.corpus.targets)), np.float32)
        for clips, values in outputs:  # type: ignore[misc]
            shares[clips.cpu().numpy()] = values.cpu().numpy()
        columns = dict(zip(data.corpus.targets, shares.T, strict=True))
        write_shares(run.folder / "predictions" / f"{name}.csv", partition.files, columns)
        if partition.shares is not None:
            metrics[name] = table(shares, partition.shares, data.corpus.targets)
            columns = dict(zip(data.corpus.targets, partition.shares.T, strict=True))
            reference = run.folder / "reference" / f"{name}.csv"
            write_shares(reference, partition.files, {**columns, "seconds": partition.seconds})
    best = {"epoch": checkpoint["epoch"], "avg": metrics["devel"]["avg"]["mean"]}
    return {"best": best, "metrics": metrics, "epochs": trainer.current_epoch}


def draw(run: Run, corpus: Corpus) -> list[Path]:
    """The run's figures: its learning curve and predicted against true shares on devel."""
    folder = run.folder / "figures"
    folder.mkdir(exist_ok=True)
    curve, shares = folder / "learning_curve.png", folder / "shares.png"
    figures.learning_curve(run.folder / "metrics.csv", curve)
    figures.predicted_true(run.folder / "predictions/devel.csv", run.folder / "reference/devel.csv", shares)
    return [curve, shares]


PACKAGES = ("torch", "transformers", "pytorch-lightning", "torchmetrics", "torchaudio", "hydra-core", "numpy", "scipy")


def describe(
    config: Config, run: Run, corpus: Corpus, identity: dict[str, Any], store: FrameStore | None
) -> dict[str, Any]:
    """What results.json says of a run beside its scores."""
    partitions = corpus.partitions.items()
    return {
        "format": 1,
        "run": run.folder.name,
        "sweep": config.sweep.name,
        "cell": run.cell,
        "seed": config.seed,
        "config": asdict(config),
        "targets": list(corpus.targets),
        "corpus": {
            "name": corpus.name,
            "fingerprint": corpus.fingerprint,
            "clips": {name: len(p.files) for name, p in partitions},
            "hours": {name: float(p.seconds.sum()) / 3600 for name, p in partitions},
        },
        "backbone": identity,
        "frames": {"source": "store", **store.cost} if store else {"source": "backbone"},
        "versions": {
            "emoshare": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES},
        },
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def peak_memory(device: torch.device) -> dict[str, float | None]:
    """Peak resident memory of the process and peak allocated memory of the GPU, in GB (10⁹ bytes)."""
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    gpu = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return {"host_peak_gb": host / 1e9, "gpu_peak_gb": gpu / 1e9 if gpu is not None else None}
