"""Where Hydra meets emoshare: composing a config, one job of it, a sweep of jobs.

Nothing below this file knows Hydra.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import logging
import math
import os
import shlex
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, cast

import hydra
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from emoshare import cache
from emoshare import sweep as sweeps
from emoshare.config import Config
from emoshare.config import check as check_config
from emoshare.errors import EmoshareError
from emoshare.explain import explain, unknown, unknown_option
from emoshare.runs import Run

log = logging.getLogger("emoshare")
BASIC_SWEEPER = f"{BasicSweeper.__module__}.{BasicSweeper.__qualname__}"
MEASURED: list[dict[str, Any]] = []  # by the bench jobs of this process
RECIPE = ("data", "window", "backbone", "extract", "experiment")  # keys that choose the frames


def conf_folder() -> Path:
    """The config folder: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    inside, beside = package / "conf", package.parent / "conf"
    return (inside if inside.is_dir() else beside).resolve()


def register() -> None:
    """Make the typed schema known to Hydra."""
    ConfigStore.instance().store(name="schema", node=Config)


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


@dataclass(frozen=True)
class Sweep:
    """A multirun, composed in full before its first run: every mistake shows before anything is computed."""

    folders: tuple[Path, ...]  # outputs/<sweep>; one unless sweep.name is swept
    jobs: tuple[sweeps.Job, ...] | None  # None for a sweeper that finds its jobs as it goes
    arguments: list[str]  # for Hydra, those that change the recipe first, so that runs of one recipe are neighbours

    @classmethod
    def of(cls, arguments: list[str]) -> Sweep:
        """Compose all jobs of a multirun and write their list."""
        options = get_args_parser().parse_args(arguments)
        parse = OverridesParser.create().parse_overrides
        overrides = parse(options.overrides)
        more = [f"hydra.searchpath=[file://{Path(options.config_dir).resolve()}]"] if options.config_dir else []
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            fixed = [o.input_line or "" for o in overrides if not o.is_sweep_override()] + more
            composed = compose("train", fixed, return_hydra_config=True)
            sweeper = composed.hydra.sweeper
            if sweeper._target_ != BASIC_SWEEPER:
                return cls((Path(composed.paths.outputs) / composed.sweep.name,), None, arguments)
            keys = {o.key_or_group for o in overrides}
            params = [f"{key}={value}" for key, value in (sweeper.params or {}).items() if key not in keys]
            overrides = sorted([*parse(params), *overrides], key=lambda o: not o.key_or_group.startswith(RECIPE))
            found = []
            for choice in BasicSweeper.split_arguments(overrides, None)[0]:
                config = typed(compose("train", choice + more))
                check_config(config)
                found.append((config, choice))
        jobs = tuple(sweeps.Job(Run.of(c).folder.name, recipe_key(c), choice) for c, choice in found)
        folders = tuple(dict.fromkeys(Run.of(c).folder.parent for c, _ in found))
        for folder in folders:
            own = [job for job, (c, _) in zip(jobs, found, strict=True) if Run.of(c).folder.parent == folder]
            sweeps.enlist(folder, own)
            log.info("sweep %s, %d runs: %s", folder, len(own), sweeps.counts(sweeps.states(folder, own)))
        lines = [o.input_line or "" for o in overrides]
        flags = [a for a in arguments if a not in options.overrides]
        return cls(folders, jobs, [*flags, *lines, "hydra.sweeper.params=null"])

    def conclude(self) -> int:
        """Print what came of the sweep and what failed; 1 if anything did."""
        failed = False
        for folder in self.folders:
            jobs = [job for job in self.jobs or sweeps.read(folder) if (folder / job.run).exists()]
            found = sweeps.states(folder, jobs)
            losses = [name for name, state in found.items() if state == "failed"]
            print(f"\n{folder}: {sweeps.counts(found)}\n\n{sweeps.table(folder, jobs)}")
            sys.stderr.write(sweeps.failures(folder, losses))
            failed = failed or bool(losses)
        return int(failed)


def recipe_key(config: Config) -> str:
    """Equal for configs that train from the same stored frames."""
    extraction = (config.data.name, config.data.root, config.window, config.backbone, config.extract)
    seed = None if config.backbone.pretrained else config.seed
    return hashlib.sha256(repr((extraction, seed)).encode()).hexdigest()[:8]


def typed(cfg: DictConfig) -> Config:
    """The resolved config as plain dataclasses.

    Raises:
        EmoshareError: `+key=…` added something that nothing reads.
    """
    config = cast(Config, OmegaConf.to_object(cfg))
    for path, section in (("", config), *((f"{f.name}.", getattr(config, f.name)) for f in fields(config))):
        if is_dataclass(section) and (extra := set(vars(section)) - {f.name for f in fields(section)}):
            raise EmoshareError(unknown(f"{path}{min(extra)}"))
    return config


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
    from emoshare import corpus as corpora

    speak()
    config = typed(cfg)
    corpus = corpora.load(config.data, Path(config.paths.cache))
    print(corpora.report(corpus))
    picture = Path(config.paths.outputs) / f"corpus-{corpus.name}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    corpora.figure(corpus, picture)
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
    overrides = list(context.overrides.task)
    try:
        if sweeping and config.sweep.isolate:
            return isolated(run, overrides)
        results = training.train(config)
        if sweeping and config.cache.max_gb is not None:
            release(config, run, results)
        return average(results)
    except Exception as error:
        if sweeping or (run.folder.exists() and not run.results.exists()):
            command = shlex.join(["emoshare", "train", *overrides])
            run.fail(config, explain(error), traceback.format_exc(), command)
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


def isolated(run: Run, overrides: list[str]) -> float:
    """Train a run in a process of its own, so that a crash of the interpreter costs one run."""
    command = [sys.executable, "-m", "emoshare", "train", *overrides, "sweep.isolate=false"]
    status = subprocess.run(command, check=False).returncode
    if status == -2 or status == 130:
        raise KeyboardInterrupt
    if status == 0 or run.failure.exists():  # what went wrong stands in failure.json and on the terminal
        return average(run.finished())
    reason = f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    raise EmoshareError(f"the run's process was {reason}")
