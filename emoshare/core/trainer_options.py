"""The arguments of Lightning's Trainer that `trainer.options` may set, without making the run's config untrue."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from emoshare.core.schema import value_text
from emoshare.core.text import near

SWITCH = "true or false"
ALLOWED: dict[str, tuple[Callable[[Any], bool], str]] = {  # → whether it takes a value, and what it takes in words
    "accumulate_grad_batches": (lambda value: _whole(value, 1), "a whole number of at least 1"),
    "gradient_clip_val": (lambda value: value is None or (_number(value) and value >= 0), "a number of at least 0"),
    "gradient_clip_algorithm": (lambda value: value in (None, "norm", "value"), "norm or value"),
    "benchmark": (lambda value: value is None or isinstance(value, bool), SWITCH),
    "detect_anomaly": (lambda value: isinstance(value, bool), SWITCH),
    "profiler": (lambda value: value in (None, "simple", "advanced", "pytorch"), "simple, advanced or pytorch"),
    "log_every_n_steps": (lambda value: value is None or _whole(value, 0), "a whole number of at least 0"),
    "enable_autolog_hparams": (lambda value: isinstance(value, bool), SWITCH),
}
SET_BY_EMOSHARE = (  # arguments of Lightning's Trainer that come from other keys, or that a run cannot do without
    "max_epochs", "accelerator", "devices", "precision", "deterministic", "logger", "callbacks", "plugins",
    "default_root_dir", "num_sanity_val_steps", "enable_progress_bar", "enable_model_summary", "enable_checkpointing",
)  # fmt: skip
CHANGE_THE_MEANING = {  # arguments with which a run would no longer be what its config says
    "limit_train_batches": "a run trains on its whole partition, or as many clips of it as `limit` says",
    "limit_val_batches": "a run is scored on its whole partition, or as many clips of it as `limit` says",
    "limit_test_batches": "a run predicts its whole partition, or as many clips of it as `limit` says",
    "limit_predict_batches": "a run predicts its whole partition, or as many clips of it as `limit` says",
    "overfit_batches": "debug=overfit trains on one batch",
    "fast_dev_run": "debug=fdr trains one batch for one epoch",
    "max_steps": "a run ends by trainer.epochs",
    "min_steps": "a run ends by trainer.epochs",
    "max_time": "a run ends by trainer.epochs",
    "min_epochs": "a run ends by trainer.epochs",
    "check_val_every_n_epoch": "every epoch is scored on devel",
    "val_check_interval": "every epoch is scored on devel",
    "reload_dataloaders_every_n_epochs": "the loaders decide on the order of clips",
    "use_distributed_sampler": "the loaders decide on the order of clips",
    "strategy": "a run trains on one device",
    "num_nodes": "a run trains on one device",
    "sync_batchnorm": "a run trains on one device",
    "barebones": "it switches checkpoints and logging off",
    "inference_mode": "predictions are made without gradients",
    "model_registry": "checkpoints stay in the run's folder",
}


def problems_of(options: dict[str, Any]) -> Iterator[str]:
    """A line for every option that the Trainer lacks, that emoshare sets itself, or that changes what a run is."""
    for name, value in options.items():
        if name in SET_BY_EMOSHARE:
            yield f"trainer.options.{name}: is set by emoshare itself; leave it out"
        elif name in CHANGE_THE_MEANING:
            yield f"trainer.options.{name}: not possible here, {CHANGE_THE_MEANING[name]}; leave it out"
        elif name not in ALLOWED:
            hint = near(name, list(ALLOWED)) or "; leave it out"
            yield f"trainer.options.{name}: is no argument of Lightning's Trainer{hint}"
        elif not ALLOWED[name][0](value):
            yield f"trainer.options.{name}={value_text(value)}: must be {ALLOWED[name][1]}"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
