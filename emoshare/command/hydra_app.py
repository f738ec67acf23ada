"""Where Hydra meets emoshare: the verbs that take a config, and one job of a run or sweep.

Nothing below this file and plan.py knows Hydra.
"""

from __future__ import annotations

import ctypes
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

from emoshare.command.compose import Sweep, conf_folder, register, typed
from emoshare.command.messages import explain, unknown_option
from emoshare.core.config import Config
from emoshare.core.config import check as check_config
from emoshare.core.errors import EmoshareError
from emoshare.runs import sweep as sweeps
from emoshare.runs.folder import Failure, Run, skip_finished
from emoshare.runs.results import Results
from emoshare.store import cache

log = logging.getLogger("emoshare")
ALONE = "EMOSHARE_ISOLATED"  # set for a run that a sweep gave a process of its own
WORST = -1.0  # Avg for a search where a run has none: optuna takes no NaN
MEASURED: list[dict[str, Any]] = []  # by the bench jobs of this process


def start(verb: str, task: Callable[[DictConfig], Any], arguments: list[str]) -> int:
    """Hand a verb's arguments to Hydra; its errors are raised, not printed. Returns the exit status."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing and leaving
    register()
    speak()
    arguments = [at_home(argument) for argument in arguments]
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
    run = decorate(task if options.multirun else guarded)
    if sweep is None:
        run()
        if caught:
            raise caught[0]
        return 0
    try:
        run()
    except Exception as error:  # the launcher's, as for a job that the cluster lost
        if isinstance(error, EmoshareError) or not any(sweep.jobs.values()) or os.environ.get("EMOSHARE_TRACEBACK"):
            raise
        sys.stderr.write(f"emoshare: {explain(error)}\n")
        caught.append(error)
    return max(sweep.conclude(), int(bool(caught)))


def at_home(argument: str) -> str:
    """`paths.outputs=~/x` with the home folder in full: neither the shell nor Hydra does it."""
    key, _, value = argument.partition("=")
    value = value.strip("'\"")
    return f"{key}='{os.path.expanduser(value)}'" if value.startswith("~") and "." in key else argument


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
    from emoshare.data.corpus import corpus_summary, load
    from emoshare.data.corpus_plot import corpus_figure

    speak()
    config = typed(cfg)
    corpus = load(config.data, Path(config.paths.cache))
    print(corpus_summary(corpus))
    picture = Path(config.paths.outputs) / f"corpus-{corpus.name}.png"
    corpus_figure(corpus, picture)
    print(f"figure: {picture}")


def extract(cfg: DictConfig) -> None:
    """Fill the frame store of a config's recipe."""
    from emoshare.core.hardware import choose_device
    from emoshare.data.corpus import load
    from emoshare.training.source import stored

    speak()
    config = typed(cfg)
    check_config(config)
    if not config.backbone.frozen:
        raise EmoshareError("backbone.frozen=false: frames of a trained backbone are not stored; set it to true")
    corpus = load(config.data, Path(config.paths.cache))
    store = stored(config, corpus, choose_device(config))
    cost, known = store.cost, "there already" if store.reused else "stored"
    name = f"{config.backbone.name}, {config.window.seconds:g} s"
    hours, realtime = cost["audio_seconds"] / 3600, cost["realtime"] or 0.0
    log.info("%s: %s, %.2f GB, %.2f h of audio, %.1f × real time", name, known, cost["bytes"] / 1e9, hours, realtime)


def bench(cfg: DictConfig) -> None:
    """Measure this machine for a config; no corpus is needed."""
    from emoshare.bench import measure as benchmark

    speak()
    if OmegaConf.is_missing(cfg.data, "root"):
        cfg.data.root = ""
    config = typed(cfg)
    check_config(config)
    MEASURED.append(benchmark.run(config, sweeps.recipe_key(config)))
    benchmark.write_total(MEASURED, Path(config.paths.outputs))


def benchmark(arguments: list[str]) -> int:
    """Measure every config of a command, then estimate what training them all would take."""
    MEASURED.clear()
    try:
        return start("bench", bench, arguments)
    finally:
        if MEASURED:
            from emoshare.bench import estimate

            print(estimate.sweep_text(MEASURED))


def train(cfg: DictConfig) -> float:
    """One job: a run's devel Avg; in a sweep NaN for one that failed, so that the others go on."""
    speak()
    config = typed(cfg)
    context = HydraConfig.get()
    try:
        run, sweeping = Run.of(config), context.mode == RunMode.MULTIRUN
    except EmoshareError:  # of the corpus or checkpoint; a mistake in the config itself is the better message
        check_config(config)
        raise
    skipped = run.finished() and not config.restart
    searching = sweeping and "optuna" in context.sweeper._target_  # which counts what raises as failed
    sources = [s.path for s in context.runtime.config_sources if s.provider == "command-line"]
    again = ["train", *(part for path in sources for part in ("--config-dir", path)), *context.overrides.task]
    if ALONE in os.environ:
        follow()
    try:
        results = skip_finished(run, config) or train_claimed(run, config, again, sweeping)
        if sweeping and config.cache.max_gb is not None:
            release(config, run, results)
        return average(results, math.nan if not searching else WORST)
    except Exception as error:
        recorded = skipped or isinstance(error, RecordedError)  # by the run's own process
        if not recorded and (sweeping or ALONE in os.environ or run.folder.exists()):
            run.fail(config, Failure(explain(error), traceback.format_exc(), shlex.join(["emoshare", *again])))
        if not sweeping or searching:
            raise
        if not isinstance(error, RecordedError):
            log.error("failed: %s: %s", run.name, explain(error))
        return math.nan
    finally:
        gc.collect()
        if "torch" in sys.modules:
            sys.modules["torch"].cuda.empty_cache()


def train_claimed(run: Run, config: Config, again: list[str], sweeping: bool) -> Results:
    """Train a run on a GPU that no other run has claimed, in a process of its own where the sweep asks for it."""
    check_config(config)  # before the seconds that PyTorch and Lightning take to import
    from emoshare.core import hardware as device
    from emoshare.training import train as training

    speak()  # Lightning, just imported, would speak for itself
    with device.claimed(config) as config.trainer.device:
        if sweeping and config.sweep.isolate:
            return isolated(run, [*again, f"trainer.device={config.trainer.device}"])
        return training.train(config)


def release(config: Config, run: Run, results: Results) -> None:
    """Under a budget, drop frames that no run of the sweep still needs; a cache that cannot be cleaned fails no run."""
    recipe = results.frames.get("recipe")
    try:
        if recipe and not sweeps.needed(run.folder, sweeps.recipe_key(config), config.restart):
            gc.collect()  # the run's own store is closed with its last reference
            if cache.drop(Path(config.paths.cache) / "frames" / recipe):
                log.info("dropped the frames of recipe %s: its last run is done", recipe)
    except (OSError, EmoshareError) as error:
        log.warning("the frames of recipe %s could not be dropped: %s", recipe, explain(error))


def average(results: Results, none: float) -> float:
    """Devel Avg of a run; `none` where it has none, as one emotion was predicted constant."""
    value = results.score("devel", "avg")
    return none if math.isnan(value) else value


def stamp(path: Path) -> tuple[int, int] | None:
    """What tells a file from another of the same name; None where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def follow() -> None:
    """Be interrupted when the sweep that started this process dies; Linux alone can tell."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG


class RecordedError(EmoshareError):
    """A run failed in a process of its own, which has said why, on the terminal and in failure.json."""


def isolated(run: Run, arguments: list[str]) -> Results:
    """Train a run in a process of its own, so that a crash of the interpreter costs one run."""
    command = [sys.executable, "-m", "emoshare", *arguments, "sweep.isolate=false"]
    earlier = stamp(run.failure_path)
    process = subprocess.Popen(command, env={**os.environ, ALONE: "1"}, process_group=0)  # Ctrl-C reaches us alone
    interrupted = False
    while process.poll() is None:
        try:
            process.wait()
        except KeyboardInterrupt:  # it closes W&B and its files
            process.send_signal(signal.SIGINT)
            interrupted = True
    if interrupted:
        raise KeyboardInterrupt
    status = process.returncode
    if status == 0 and (results := run.results()):
        return results
    if stamp(run.failure_path) not in (None, earlier):
        raise RecordedError(f"{run.name} failed in its own process")
    reason = f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    raise EmoshareError(f"the run's process was {reason}")
