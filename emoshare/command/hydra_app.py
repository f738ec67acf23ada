"""Where a command meets Hydra: its jobs run here, or through the launcher or the search that the config names."""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from emoshare.command.compose import Job, Plan, hydra_started, parse, plan, register, to_config
from emoshare.command.console import fail, speak
from emoshare.command.fusions import RowFusion, row_fusions
from emoshare.command.help import conf_folder
from emoshare.command.messages import one_line
from emoshare.command.parallel import outcome_of, train_all
from emoshare.command.verbs import VERBS, Call, print_estimate
from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.core.validate import find_mistakes
from emoshare.runs import listing, sweep
from emoshare.runs.folder import Run

log = logging.getLogger("emoshare")


def start(verb: str, arguments: list[str], verbose: bool = False) -> int:
    """Do what a verb with a config was asked for. Returns the exit status; errors are raised, not printed."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing and leaving
    options = parse(arguments)
    if options.hydra_help or options.cfg or options.info:
        flags = [argument for argument in arguments if argument not in options.overrides]
        return _ask_hydra(f"emoshare {verb}", [*options.overrides, *flags])  # Hydra takes no flags between them
    speak(verbose)
    asked = plan(options, corpus=verb != "bench")
    if verb == "train" and asked.multirun:
        return _sweep(asked, verbose)
    values: list[Any] = []
    try:
        errors = _run(verb, asked, asked.jobs, verbose, values)
    finally:
        if verb == "bench" and values:
            print_estimate(values, [job.config for job in asked.jobs])
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise EmoshareError("\n".join(dict.fromkeys(map(one_line, errors))))
    return 0


def complete(arguments: list[str], verbs: Sequence[str], with_config: Sequence[str]) -> int:
    """Install the shell's tab completion, or answer what it asks: the verbs, then Hydra's groups, options and keys.

    The line that was typed so far is in the environment, as shells hand it over; Hydra gets it without the verb.
    """
    line = os.environ.get("COMP_LINE", "")
    program, _, rest = line.partition(" ")
    verb, space, typed = rest.lstrip().partition(" ")
    if line and any(argument.startswith("query=") for argument in arguments):
        if not space:
            print(" ".join(name for name in verbs if name.startswith(verb)))
        if not space or verb not in with_config:
            return 0
        os.environ["COMP_LINE"] = f"{program} {typed}"
    return _ask_hydra("emoshare", ["-sc", *arguments])


def _ask_hydra(program: str, arguments: list[str]) -> int:
    """Let Hydra print the config, its own settings, or what completes a line."""
    register()
    sys.argv = [program, *arguments]
    hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="train")(lambda cfg: None)()
    return 0


def _run(
    verb: str, asked: Plan, jobs: Sequence[Job], verbose: bool, values: list[Any], fusions: Sequence[RowFusion] = ()
) -> list[Exception]:
    """Run some jobs of a command: what they return goes to `values`, their errors are returned.

    fusions: of training runs, to be made beside or after them.
    """
    if not asked.in_process:
        errors = _run_by_hydra(verb, asked, jobs, verbose, values) if jobs else []
        return errors + [made for fusion in fusions if isinstance(made := outcome_of(fusion.make), Exception)]
    calls: list[tuple[Config, Call]] = []
    for number, job in enumerate(jobs, 1):
        arguments = _arguments(verb, asked.config_dir, job.overrides)
        calls.append((job.config, Call(arguments, asked.multirun, False, verbose, number, len(jobs))))
    sweeping = verb == "train" and asked.multirun
    outcomes: Iterator[Any] = (outcome_of(VERBS[verb], *call) for call in calls)
    if sweeping:
        outcomes = iter(train_all(calls, fusions))
    errors = []
    for job, outcome in zip(jobs, outcomes, strict=False):  # those of the fusions are left
        if not isinstance(outcome, Exception):
            values.append(outcome)
            continue
        errors.append(outcome)
        if asked.multirun and len(jobs) > 1:
            log.error("failed: %s: %s", " ".join(job.overrides), one_line(outcome))
    return errors + [made for made in outcomes if isinstance(made, Exception)]


def _arguments(verb: str, config_dir: str | None, overrides: Sequence[str]) -> list[str]:
    """What follows `emoshare` in the command of one job."""
    return [verb, *(["--config-dir", config_dir] if config_dir else []), *overrides]


def _run_by_hydra(verb: str, asked: Plan, jobs: Sequence[Job], verbose: bool, values: list[Any]) -> list[Exception]:
    """The same through another launcher, which may start the jobs elsewhere, or through a search."""
    task = functools.partial(hydra_job, verb, asked.config_dir, asked.searching, verbose)
    config = jobs[0].config
    folder = f"hydra.sweep.dir='{Path(config.paths.outputs) / config.sweep.name}'"
    settings = [*asked.settings, "hydra.mode=MULTIRUN", folder]
    try:
        with hydra_started() as app:
            if asked.searching:
                app.multirun("train", task, [*asked.overrides, *settings], with_log_configuration=False)
                return []
            own = [*jobs[0].overrides, *settings]
            cfg = app.compose_config("train", own, run_mode=RunMode.MULTIRUN, with_log_configuration=False)
            callbacks = Callbacks(cfg)
            callbacks.on_multirun_start(config=cfg, config_name="train")
            context = HydraContext(config_loader=app.config_loader, callbacks=callbacks)
            launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task, config=cfg)
            values += [done.return_value for done in launcher.launch([job.overrides for job in jobs], 0)]
            callbacks.on_multirun_end(config=cfg, config_name="train")
    except Exception as error:  # of the first job that failed, or the launcher's own, as for a job that a cluster lost
        return [error]
    return []


def hydra_job(verb: str, config_dir: str | None, searching: bool, verbose: bool, cfg: DictConfig) -> Any:
    """One job that Hydra composed and started, in this process or another."""
    speak(verbose)
    config, mistakes = to_config(cfg)
    if mistakes := [*mistakes, *find_mistakes(config)]:
        raise EmoshareError("\n".join(mistakes))
    arguments = _arguments(verb, config_dir, HydraConfig.get().overrides.task)
    call = Call(arguments, True, searching, verbose)
    if verb != "train":
        return VERBS[verb](config, call)
    [outcome] = train_all([(config, call)])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _sweep(asked: Plan, verbose: bool) -> int:
    """Train the runs of a sweep that are not finished; say what came of all of them. 1 if any is not done."""
    listed: dict[Path, list[listing.ListedRun]] = {}
    left: list[Job] = []
    first: dict[Path, Job] = {}  # folder of a run → the job that trains it; jobs of one identity are one run
    for job in asked.jobs:
        run = Run.of(job.config)
        entry = listing.ListedRun(run.name, sweep.recipe_key(job.config), job.overrides, asdict(job.config))
        listed.setdefault(run.folder.parent, [])
        if not asked.searching:
            listed[run.folder.parent].append(entry)
        if first.setdefault(run.folder, job) is job and (asked.in_process or not run.finished() or job.config.restart):
            left.append(job)
    fusions = row_fusions([job.config for job in asked.jobs])
    for folder, entries in listed.items():
        if entries:
            listed[folder] = runs = listing.distinct(entries)
            sweep.enlist(folder, runs)
            asked_for = f" ({len(entries)} were asked for)" if len(runs) < len(entries) else ""
            counted = f"{len(runs)} run{'s' * (len(runs) > 1)}{asked_for}"
            log.info("sweep %s, %s: %s", folder, counted, sweep.counts(sweep.states(folder, runs)))
            if len(runs) < len(entries):
                log.info("%s", listing.sharing(runs).rstrip())
    errors = _run("train", asked, left, verbose, [], fusions)
    if errors and asked.searching:  # it may have ended before its first run
        raise errors[0]
    status = _conclude(listed, skip_missing=all(job.config.sweep.skip_missing for job in asked.jobs))
    for message in dict.fromkeys(map(one_line, errors)):
        status = fail(message)
    unforeseen = [error for error in errors if not isinstance(error, EmoshareError)]
    if unforeseen and os.environ.get("EMOSHARE_TRACEBACK"):
        raise unforeseen[0]
    return status


def _conclude(listed: dict[Path, list[listing.ListedRun]], skip_missing: bool) -> int:
    """Print what came of the sweeps and what failed; 1 if anything did, or was not done.

    skip_missing: what is not at hand is none of it.
    """
    fine = ("done", sweep.ABSENT) if skip_missing else ("done",)
    lost = False
    for folder, jobs in listed.items():
        found = sweep.states(folder, jobs or sweep.read(folder))
        everything = sweep.states(folder, sweep.with_fusions(folder, jobs)) if jobs else found
        cells, problems = sweep.cells(folder, everything)
        failures = sweep.failures(folder, found)
        print(f"\n{folder}: {sweep.counts(found)}\n\n{sweep.cell_table(cells)}")
        sys.stderr.write(problems + failures)
        lost = lost or sweep.failed(folder, found)
        lost = lost or any(jobs and state not in fine for state in found.values())
    return int(lost)
