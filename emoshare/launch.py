"""Where Hydra meets emoshare: composing a config, one job of it, a sweep of jobs.

Nothing below this file knows Hydra.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from emoshare.config import Config
from emoshare.explain import explain
from emoshare.runs import Run

log = logging.getLogger("emoshare")


def conf_folder() -> Path:
    """The config folder: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    inside, beside = package / "conf", package.parent / "conf"
    return inside if inside.is_dir() else beside


def start(verb: str, task: Callable[[DictConfig], Any], arguments: list[str]) -> int:
    """Hand a verb's arguments to Hydra; its errors are raised, not printed."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing and leaving
    ConfigStore.instance().store(name="schema", node=Config)
    sys.argv = [f"emoshare {verb}", *arguments]
    hydra.main(version_base="1.3", config_path=str(conf_folder().resolve()), config_name="train")(task)()
    return 0


def typed(cfg: DictConfig) -> Config:
    """The resolved config as plain dataclasses."""
    return cast(Config, OmegaConf.to_object(cfg))


def speak() -> None:
    """Log lines of emoshare go to the terminal as they are; libraries speak only when they warn."""
    if not log.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False
    for name in ("pytorch_lightning", "lightning", "transformers", "wandb"):
        logging.getLogger(name).setLevel(logging.WARNING)


def check(cfg: DictConfig) -> None:
    from emoshare import corpus as corpora

    speak()
    config = typed(cfg)
    corpus = corpora.load(config.data, Path(config.paths.cache))
    print(corpora.report(corpus))
    picture = Path(config.paths.outputs) / f"corpus-{corpus.name}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    corpora.figure(corpus, picture)
    print(f"figure: {picture}")


def train(cfg: DictConfig) -> float:
    """One job: a run's devel Avg; in a sweep NaN for one that failed, so that the others go on."""
    from emoshare import train as training

    speak()
    config = typed(cfg)
    context = HydraConfig.get()
    run = Run.of(config)
    try:
        results = training.train(config)
    except Exception as error:
        sweeping = context.mode == RunMode.MULTIRUN
        if sweeping or run.folder.exists():
            command = " ".join(["emoshare train", *context.overrides.task])
            run.fail(explain(error), traceback.format_exc(), command)
        if not sweeping:
            raise
        log.error("failed: %s: %s", run.folder.name, explain(error))
        return math.nan
    finally:
        gc.collect()
        if "torch" in sys.modules:
            sys.modules["torch"].cuda.empty_cache()
    log.info("%s", training.summary(results, run))
    return results["best"]["avg"] if results["best"]["avg"] is not None else math.nan
