"""The command line: `emoshare <verb>`. Nothing heavy is imported before a verb needs it."""

from __future__ import annotations

import argparse
import atexit
import gc
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from emoshare.command.console import drop_output, fail, replace_missing_characters
from emoshare.core.errors import EmoshareError
from emoshare.core.interrupt import handling_stop_signals
from emoshare.core.version import __version__

Verb = Callable[[list[str], bool], int]  # (arguments, verbose) → exit status
PARTS = {"bench svr": ["head=svr"], "bench report": []}  # of a verb, by its first word → what it takes for granted
VERBOSE = {"-v", "--verbose"}
USAGE = """usage: emoshare <verb> [arguments]

How much of each emotion a voice carries: emotion-share regression from speech.

with a config (group=option key=value …; -m for a sweep):
  check     check a corpus, print its summary, draw its labels and durations
  extract   fill the frame store ahead of training
  train     train a run, or a sweep of runs
  bench     measure this machine, estimate a sweep

with folders:
  status    show the progress of a sweep, and its failures
  fuse      combine runs: the mean or a weighted mean of their predictions
  report    write tables and figures of one or more sweeps
  cache     list, verify or prune the frame stores

of this machine:
  doctor    print versions, device, extras, hub, W&B, caches, and problems

with a trained run:
  predict   predict the shares of files and folders
  embed     compute embeddings of files, folders or a corpus
  evaluate  score it on another corpus
  explain   show which stretch of a recording adds to which share
  export    write it as ONNX, for OpenVINO, or as a folder for the hub
  serve     open a page to try it on: microphone or files

emoshare <verb> --help says more; that of train lists all groups and keys.
-v (--verbose), before or after the verb, prints details; --version the version.
"""


def with_config(verb: str) -> Verb:
    """The function of a verb that takes a config."""

    def run(arguments: list[str], verbose: bool) -> int:
        if {"-h", "--help"} & set(arguments):
            from emoshare.command.help import page

            sys.stdout.write(page(verb))
            return 0
        from emoshare.command import hydra_app

        part = " ".join([verb, *arguments[:1]])
        if part in PARTS:
            named = {word.partition("=")[0] for word in arguments}
            more = [word for word in PARTS[part] if word.partition("=")[0] not in named]
            return hydra_app.start(part, [*more, *arguments[1:]], verbose)
        return hydra_app.start(verb, arguments, verbose)

    return run


def status(arguments: list[str], verbose: bool) -> int:
    parser = argparse.ArgumentParser("emoshare status", description="Show the progress of a sweep, and its failures.")
    parser.add_argument("sweep", type=Path, help="outputs/<sweep>")
    from emoshare.runs import sweep

    folder = parser.parse_args(arguments).sweep
    sys.stdout.write(sweep.status(folder))
    return 0


def fuse(arguments: list[str], verbose: bool) -> int:
    from emoshare.command.options import allow_option

    parser = argparse.ArgumentParser(
        "emoshare fuse",
        description="Combine runs: the mean of their predictions. The fusion lies in --out, beside its members "
        "or elsewhere, and is a row of its own in the report.",
    )
    parser.add_argument("runs", type=Path, nargs="+", help="outputs/<sweep>/<run>, or a sweep: all its finished runs")
    parser.add_argument("--out", type=Path, required=True, help="the folder that gets the fusion's folder")
    parser.add_argument(
        "--weights",
        default="mean",
        help="mean (default); learned or greedy (on devel, by cross-fitting); or 0.5,0.3,0.2",
    )
    allow_option(parser)
    options = parser.parse_intermixed_args(arguments)
    from emoshare.command.console import speak
    from emoshare.command.verbs import fuse_folders

    speak(verbose)
    fuse_folders(options.runs, options.out, parse_weights(options.weights))
    return 0


def parse_weights(text: str) -> str | list[float]:
    """The weights of a fusion: a word, or numbers. EmoshareError for another text."""
    from emoshare.core.ensembles import CHOICES

    words = CHOICES["weights"]
    try:
        return text if text in words else [float(number) for number in text.split(",")]
    except ValueError:
        raise EmoshareError(f"--weights {text}: must be {', '.join(words)}, or numbers like 0.5,0.3,0.2") from None


def report(arguments: list[str], verbose: bool) -> int:
    from emoshare.command.options import allow_option

    parser = argparse.ArgumentParser("emoshare report", description="Write tables and figures of one or more sweeps.")
    parser.add_argument("sweeps", type=Path, nargs="+", help="outputs/<sweep>")
    parser.add_argument("--out", type=Path, help="folder to write (default: <first sweep>/report)")
    parser.add_argument(
        "--latex", choices=["wide", "narrow"], default="wide",
        help="tables/*.tex: wide, or narrow to fit a column, with two decimals and no intervals (default: wide)",
    )  # fmt: skip
    parser.add_argument(
        "--wandb",
        choices=["offline", "online"],
        help="log it to W&B too, as the sweep's summary run; online with a workspace",
    )
    parser.add_argument("--project", help="W&B project (default: emoshare); with --wandb")
    allow_option(parser)
    options = parser.parse_intermixed_args(arguments)
    if options.project and not options.wandb:
        parser.error(f"--project {options.project}: is of W&B; add --wandb offline or online")
    from emoshare import reporting as reports

    written = reports.write(options.sweeps, options.out, narrow=options.latex == "narrow")
    print(f"report: {written.page}")
    if options.wandb:
        from emoshare.reporting.dashboard import upload

        project = options.project or "emoshare"
        files, workspace = upload(written, options.sweeps[0].resolve().name, project, options.wandb)
        print(f"W&B files: {files}" + (f"\nW&B workspace: {workspace}" if workspace else ""))
    return 0


def cache(arguments: list[str], verbose: bool) -> int:
    parser = argparse.ArgumentParser("emoshare cache", description="The frame stores: list, verify or prune them.")
    parser.add_argument("action", choices=["list", "verify", "prune"], nargs="?", default="list")
    parser.add_argument("--cache", type=Path, default=Path("cache"), help="paths.cache of the runs (default: cache)")
    parser.add_argument(
        "--max-gb", type=float, help="prune: budget of all stores together, least recently used first (default: none)"
    )
    options = parser.parse_args(arguments)
    if options.max_gb is not None and options.action != "prune":
        parser.error(f"--max-gb is for prune: emoshare cache prune --max-gb {options.max_gb:g}")
    from emoshare.store import cache as frame_stores

    if not frame_stores.folders(options.cache):
        return no_stores(options.cache, parser.get_default("cache"))
    if options.action == "prune":
        if options.max_gb is not None and not options.max_gb >= 0:  # NaN, too
            raise EmoshareError(f"--max-gb={options.max_gb:g}: must be 0 (remove all that is not in use) or more")
        removed = frame_stores.prune(options.cache, options.max_gb)
        print(
            "".join(f"removed {store.folder} ({store.about})\n" for store in removed) or "nothing to remove\n", end=""
        )
        return 0
    print(frame_stores.list_text(frame_stores.stores(options.cache)))
    folders = frame_stores.folders(options.cache) if options.action == "verify" else []
    whole = [verify_store(folder) for folder in folders]
    return int(not all(whole))


def no_stores(cache: Path, default: Path) -> int:
    """Say that a cache has no frame stores; status 1 where the user named a folder that is no cache."""
    text = f"no frame stores in {cache.absolute()}"
    if cache == default or (cache / "frames").is_dir():
        print(text)
        return 0
    return fail(f"{text}; name paths.cache of the runs with --cache")


def verify_store(folder: Path) -> bool:
    """Whether a frame store is whole; what is damaged is printed, and removed where that is possible."""
    from emoshare.store import cache as frame_stores

    try:
        damaged = frame_stores.verify(folder)
        done = bool(damaged) and frame_stores.repair(folder, damaged)
    except (EmoshareError, OSError) as error:
        from emoshare.command.messages import one_line

        fail(one_line(error))
        return False
    if damaged:
        removed = "removed, the next run that needs its clips computes them again"
        then = removed if done else "in use: verify again after its runs"
        print(f"{folder}: {len(damaged)} damaged segment{'s' * (len(damaged) > 1)}; {then}")
    return not damaged


def in_module(verb: str) -> Verb:
    """The function of a verb that is imported when it is called: it has the verb's name, in a module of that name."""

    def run(arguments: list[str], verbose: bool) -> int:
        function: Verb = getattr(importlib.import_module(f"emoshare.command.{verb}"), verb)
        return function(arguments, verbose)

    return run


WITH_CONFIG = ("check", "extract", "train", "bench")
WITH_MODEL = ("predict", "embed", "evaluate", "explain", "export", "serve")
IN_MODULES = (*WITH_MODEL, "doctor")
VERBS: dict[str, Verb] = {
    **{verb: with_config(verb) for verb in WITH_CONFIG}, **{verb: in_module(verb) for verb in IN_MODULES},
    "status": status, "fuse": fuse, "report": report, "cache": cache,
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; what a user did wrong is one line on stderr and status 1. Where nobody reads, 141, as of a signal."""
    try:
        status = run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        if not drop_output():
            raise
        return 141
    return 141 if drop_output() else status


def run(arguments: Sequence[str] | None) -> int:
    replace_missing_characters()
    atexit.register(gc.freeze)  # Python would look for garbage among all objects of PyTorch: a second
    given = list(sys.argv[1:] if arguments is None else arguments)
    verb, *others = [argument for argument in given if argument not in VERBOSE] or [""]
    if verb in ("", "-h", "--help", "help"):
        sys.stdout.write(USAGE)
        return 0 if verb else 2
    if verb == "--version":
        print(__version__)
        return 0
    if verb in ("-sc", "--shell-completion"):
        from emoshare.command.hydra_app import complete

        return complete(others, list(VERBS), WITH_CONFIG)
    if verb not in VERBS:
        from emoshare.core.text import near

        return fail(f"'{verb}' is not a verb{near(verb, [*VERBS, 'help']) or '; see emoshare --help'}")
    if not all(word.strip() for word in others):
        return fail(f"{verb}: an argument is empty, as a variable of the shell that is not set; leave it out")
    if others == ["help"] and not Path("help").exists():
        others = ["--help"]
    try:
        with handling_stop_signals():
            return VERBS[verb](others, bool(VERBOSE & set(given)))
    except KeyboardInterrupt:
        goes_on = verb not in (*WITH_MODEL, "bench") or (
            verb == "predict" and any(word.startswith("--out") for word in others)
        )
        return fail("interrupted" + ("; the same command goes on from here" if goes_on else ""), 130)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and drop_output():
            return 141
        if os.environ.get("EMOSHARE_TRACEBACK") and not isinstance(error, EmoshareError):
            raise
        from emoshare.command.messages import one_line

        return fail(one_line(error))
