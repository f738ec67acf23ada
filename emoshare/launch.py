"""Where Hydra meets emoshare: the verbs that take a config, and one job of a run or sweep.

Nothing below this file and plan.py knows Hydra.
"""

from __future__ import annotations

import functools
import gc
import logging
import math
import os
import shlex
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from emoshare import cache
from emoshare import sweep as sweeps
from emoshare.config import Config
from emoshare.config import check as check_config
from emoshare.errors import EmoshareError
from emoshare.explain import explain, unknown_option
from emoshare.plan import Sweep, conf_folder, recipe_key, register, typed
from emoshare.runs import Run

log = logging.getLogger("emoshare")
MEASURED: list[dict[str, Any]] = []  # by the bench jobs of this process


def start(verb: str, task: Callable[[DictConfig], Any], arguments: list[str]) -> int:
    """Hand a verb's arguments to Hydra; its errors are raised, not printed. Returns the exit status."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing and leaving
    register()
    speak()
    options = get_args_parser().parse_args(arguments)
    check_overrides(options.overrides)
    asks = options.help or options.hydra_help or options.cfg or options.info
    sweep = Sweep.of(arguments) if verb == "train" and options.multirun and not asks else None
    sys.argv = [f"emoshare {verb}", *(sweep.arguments if sweep else arguments)]
    caught: list[Exception] = []

    @functools.wraps(task)
    def guarded(cfg: DictConfig) -> None:
        try:
            task(cfg)
        except Exception as error:  # raised below: Hydra would add lines of its own
            caught.append(error)

    decorate = hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="train")
    decorate(task if options.multirun else guarded)()
    if caught:
        raise caught[0]
    return sweep.conclude() if sweep else 0


def check_overrides(overrides: list[str]) -> None:
    """Raise EmoshareError for those that Hydra refuses without naming them."""
    for override in overrides:
        key, _, value = override.partition("=")
        if not key.strip("+~"):
            raise EmoshareError(f"{override}: an override has the form key=value")
        options = sorted(path.stem for path in (conf_folder() / key).glob("*.yaml"))
        if key != "hydra" and options and value.strip("0123456789.,") == "":
            raise EmoshareError(unknown_option(key, value, options))


class Speaker(logging.Handler):
    """Prints a log line as it is."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), flush=True)


def speak() -> None:
    """Let emoshare's log lines through to the terminal, and of libraries what they warn of."""
    if not log.handlers:
        log.addHandler(Speaker())
        log.setLevel(logging.INFO)
        log.propagate = False
    for name in ("pytorch_lightning", "lightning", "transformers", "wandb"):
        logging.getLogger(name).setLevel(logging.WARNING)


def check(cfg: DictConfig) -> None:
    """Print a corpus's report and draw its labels and durations."""
    from emoshare import corpus as corpora
    from emoshare import figures

    speak()
    config = typed(cfg)
    corpus = corpora.load(config.data, Path(config.paths.cache))
    print(corpora.report(corpus))
    picture = Path(config.paths.outputs) / f"corpus-{corpus.name}.png"
    figures.corpus_figure(corpus, picture)
    print(f"figure: {picture}")


def extract(cfg: DictConfig) -> None:
    """Fill the frame store of a config's recipe."""
    from emoshare import train as training
    from emoshare.corpus import load
    from emoshare.device import choose_device

    speak()
    config = typed(cfg)
    check_config(config)
    corpus = load(config.data, Path(config.paths.cache))
    store = training.stored(config, corpus, choose_device(config))
    cost, known = store.cost, "there already" if store.reused else "stored"
    name = f"{config.backbone.name}, {config.window.seconds:g} s"
    log.info("%s: %s, %.2f GB, %.1f × real time", name, known, cost["bytes"] / 1e9, cost["realtime"])


def bench(cfg: DictConfig) -> None:
    """Measure this machine for a config; no corpus is needed."""
    from emoshare import bench as benchmark

    speak()
    if OmegaConf.is_missing(cfg.data, "root"):
        cfg.data.root = ""
    config = typed(cfg)
    check_config(config)
    MEASURED.append(benchmark.run(config, recipe_key(config)))
    benchmark.write_total(MEASURED, Path(config.paths.outputs))


def benchmark(arguments: list[str]) -> int:
    """Measure every config of a command, then estimate what training them all would take."""
    MEASURED.clear()
    try:
        return start("bench", bench, arguments)
    finally:
        if MEASURED:
            from emoshare import estimate

            print(estimate.sweep_text(MEASURED))


def train(cfg: DictConfig) -> float:
    """One job: a run's devel Avg; in a sweep NaN for one that failed, so that the others go on."""
    from emoshare import device
    from emoshare import train as training

    speak()
    config = typed(cfg)
    context = HydraConfig.get()
    if config.trainer.device is None:
        config.trainer.device = device.turn(context.job.num if context.mode == RunMode.MULTIRUN else 0)
    run, sweeping = Run.of(config), context.mode == RunMode.MULTIRUN
    sources = [s.path for s in context.runtime.config_sources if s.provider == "command-line"]
    again = ["train", *(part for path in sources for part in ("--config-dir", path)), *context.overrides.task]
    try:
        if sweeping and config.sweep.isolate:
            return isolated(run, again)
        results = training.train(config)
        if sweeping and config.cache.max_gb is not None:
            release(config, run, results)
        return average(results)
    except Exception as error:
        if sweeping or (run.folder.exists() and not run.results.exists()):
            run.fail(config, explain(error), traceback.format_exc(), shlex.join(["emoshare", *again]))
        if not sweeping or "optuna" in context.sweeper._target_:  # which counts what raises as failed
            raise
        log.error("failed: %s: %s", run.folder.name, explain(error))
        return math.nan
    finally:
        gc.collect()
        if "torch" in sys.modules:
            sys.modules["torch"].cuda.empty_cache()


def release(config: Config, run: Run, results: dict[str, Any]) -> None:
    """Under a budget, drop frames that no run of the sweep still needs."""
    recipe = results["frames"].get("recipe")
    if recipe and not sweeps.needed(run.folder.parent, recipe_key(config), run.folder.name):
        gc.collect()  # the run's own store is closed with its last reference
        if cache.drop(Path(config.paths.cache) / "frames" / recipe):
            log.info("dropped the frames of recipe %s: its last run is done", recipe)


def average(results: dict[str, Any] | None) -> float:
    """Devel Avg of a run; NaN where it has none."""
    value = results["best"]["avg"] if results else None
    return math.nan if value is None else value


def isolated(run: Run, arguments: list[str]) -> float:
    """Train a run in a process of its own, so that a crash of the interpreter costs one run."""
    command = [sys.executable, "-m", "emoshare", *arguments, "sweep.isolate=false"]
    status = subprocess.run(command, check=False).returncode
    if status == -2 or status == 130:
        raise KeyboardInterrupt
    if status == 0 or (
        status > 0 and run.failure.exists()
    ):  # what went wrong stands in failure.json and on the terminal
        return average(run.finished())
    reason = f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    raise EmoshareError(f"the run's process was {reason}")
