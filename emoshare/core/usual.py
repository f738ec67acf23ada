"""Other tools' names for our keys, so that an unknown key is answered with the one that is meant."""

from __future__ import annotations

from collections.abc import Sequence

from emoshare.core.schema import declared_keys
from emoshare.core.text import near

USUAL = {  # the last part of a key, as other tools have it → ours; a group is named without a dot
    "lr": "optimizer.lr", "learning_rate": "optimizer.lr", "head_lr": "optimizer.lr", "wd": "optimizer.weight_decay",
    "encoder_lr": "optimizer.backbone_lr", "finetune_lr": "optimizer.backbone_lr", "optim": "optimizer",
    "scheduler": "optimizer.schedule", "lr_scheduler": "optimizer.schedule", "warmup_epochs": "optimizer.warmup",
    "warmup_steps": "optimizer.warmup", "grad_clip": "optimizer.clip", "clip_grad": "optimizer.clip",
    "gradient_clip_val": "optimizer.clip", "max_grad_norm": "optimizer.clip",
    "epochs": "trainer.epochs", "epoch": "trainer.epochs", "max_epochs": "trainer.epochs",
    "num_epochs": "trainer.epochs", "n_epochs": "trainer.epochs", "num_train_epochs": "trainer.epochs",
    "batch_size": "data.batch_size", "batch": "data.batch_size", "bs": "data.batch_size",
    "batchsize": "data.batch_size", "per_device_train_batch_size": "data.batch_size",
    "model": "backbone", "encoder": "backbone", "upstream": "backbone", "feature_extractor": "backbone",
    "features": "backbone", "net": "backbone", "arch": "backbone", "checkpoint": "backbone.path",
    "ckpt": "backbone.path", "model_path": "backbone.path", "model_name": "backbone.path",
    "model_name_or_path": "backbone.path", "pretrained_model": "backbone.path", "freeze": "backbone.frozen",
    "freeze_encoder": "backbone.frozen", "finetune": "backbone.frozen", "layer": "backbone.layer",
    "downstream": "head", "classifier": "head", "regressor": "head", "pool": "head.pooling", "pooling": "head.pooling",
    "dropout": "head.dropout", "hidden": "head.hidden", "hidden_dim": "head.hidden", "hidden_size": "head.hidden",
    "dataset": "data", "corpus": "data", "db": "data", "root": "data.root", "data_dir": "data.root",
    "data_root": "data.root", "data_path": "data.root", "dataset_path": "data.root", "labels": "data.targets",
    "targets": "data.targets", "num_workers": "data.workers", "workers": "data.workers",
    "criterion": "loss", "loss_fn": "loss", "objective": "loss",
    "gpu": "trainer.device", "gpus": "trainer.device", "device": "trainer.device", "devices": "trainer.device",
    "cuda": "trainer.device", "gpu_id": "trainer.device", "fp16": "trainer.precision", "bf16": "trainer.precision",
    "amp": "trainer.precision", "mixed_precision": "trainer.precision", "num_threads": "trainer.threads",
    "patience": "train.patience", "early_stopping": "train.patience", "early_stopping_patience": "train.patience",
    "monitor": "train.select", "metric": "train.select", "swa": "train.average",
    "augmentation": "augment", "augmentations": "augment", "random_seed": "seed", "manual_seed": "seed",
    "seeds": "seed", "seconds": "window.seconds", "duration": "window.seconds", "max_duration": "window.seconds",
    "max_length": "window.seconds", "max_seconds": "window.seconds", "clip_length": "window.seconds",
    "output": "paths.outputs", "outputs": "paths.outputs", "output_dir": "paths.outputs", "out": "paths.outputs",
    "out_dir": "paths.outputs", "outdir": "paths.outputs", "save_dir": "paths.outputs", "log_dir": "paths.outputs",
    "logdir": "paths.outputs", "exp_dir": "paths.outputs", "results_dir": "paths.outputs", "cache_dir": "paths.cache",
    "name": "sweep.name", "exp_name": "sweep.name", "experiment_name": "sweep.name", "run_name": "sweep.name",
    "wandb": "logger", "tracker": "logger", "report_to": "logger", "wandb_project": "logger.project",
    "cv": "data.folds", "k": "data.folds", "kfold": "data.folds", "k_folds": "data.folds", "num_folds": "data.folds",
    "n_folds": "data.folds", "folds": "data.folds", "fold": "data.fold", "resume_from_checkpoint": "resume",
    "overwrite": "force", "restart": "force",
}  # fmt: skip


def suggestion(key: str, part: str, known: Sequence[str], config: type) -> str:
    """`; did you mean 'x'?` for a dotted key that does not exist, else nothing.

    Args:
        key: the key.
        part: of it, the first that does not exist.
        known: the names that exist in its place.
        config: the class of all keys.
    """
    last = key.rpartition(".")[2]
    leaves = [name for name in declared_keys(config) if name.rpartition(".")[2] == last]
    meant = USUAL.get(last.lower()) or (leaves[0] if len(leaves) == 1 else "")
    section = key.removesuffix(last) if part == last else ""

    def nearest(alike: float) -> str:
        hint = near(part, list(known), alike)
        return hint.replace("'", f"'{section}", 1)

    slip = nearest(0.75)  # of the keyboard
    return slip or (f"; did you mean '{meant}'?" if meant else nearest(0.5))
