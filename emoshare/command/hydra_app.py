"""The link between a command and Hydra: its jobs run here, or through the config's launcher or search."""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from emoshare.command.compose import Plan, plan, start_hydra
from emoshare.command.console import fail, speak
from emoshare.command.forkserver import apart, stop
from emoshare.command.fusions import RowFusion, fusion_problems, row_fusions
from emoshare.command.help import conf_folder
from emoshare.command.jobs import Job
from emoshare.command.messages import one_line
from emoshare.command.overrides import for_hydra, parse
from emoshare.command.parallel import outcome_of, train_all
from emoshare.command.sections import register, to_config
from emoshare.command.verbs import VERBS, Call, print_estimate
from emoshare.core.config import AVERAGED
from emoshare.core.cores import side_by_side
from emoshare.core.errors import EmoshareError
from emoshare.core.kinds import values_of
from emoshare.core.validate import find_mistakes
from emoshare.runs import listing, sweep
from emoshare.runs.folder import ABSENT, Run
from emoshare.runs.resolved import ResolvedRun
from emoshare.runs.results import Results
from emoshare.runs.skip import skip_finished
from emoshare.runs.sweep_table import cell_table

log = logging.getLogger("emoshare")


def start(verb: str, arguments: list[str], verbose: bool = False) -> int:
    """Run a verb with a config. Returns the exit status; errors are raised, not printed."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing and leaving
    options = parse(arguments)
    if options.hydra_help or options.cfg or options.info:
        flags = [argument for argument in arguments if argument not in options.overrides]
        return _ask_hydra(f"emoshare {verb}", [*for_hydra(options.overrides), *flags])  # it takes no flags in between
    speak(verbose)
    asked = plan(options, corpus=not verb.startswith("bench"))
    if verb == "train" and asked.multirun:
        return _sweep(asked, verbose)
    values: list[Any] = []
    if verb == "extract":
        from emoshare.training.ready import check_ready  # imports PyTorch

        check_ready([ResolvedRun(job.config) for job in asked.jobs], here=asked.in_process, training=False)
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
    program, _, words = line.partition(" ")
    verb, space, typed = words.lstrip().partition(" ")
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


def _run(verb: str, asked: Plan, jobs: Sequence[Job], verbose: bool, values: list[Any]) -> list[Exception]:
    """Run some jobs of a command: what they return goes to `values`, their errors are returned."""
    if not asked.in_process:
        return _run_by_hydra(verb, asked, jobs, verbose, values)
    calls = _calls(verb, asked, jobs, verbose)
    outcomes = (outcome_of(VERBS[verb], job.config, call) for job, call in zip(jobs, calls, strict=True))
    return _failures(asked, jobs, outcomes, values)


def _train(
    asked: Plan, runs: Mapping[Path, tuple[Job, ResolvedRun]], verbose: bool, quiet: bool,
    fusions: Sequence[RowFusion], fused: list[Any],
) -> list[Exception]:  # fmt: skip
    """Train the runs of a sweep, and return their errors.

    fusions: to be made beside or after them; what they return goes to `fused`.
    """
    jobs = [job for job, _ in runs.values()]
    if not asked.in_process:
        errors = _run_by_hydra("train", asked, jobs, verbose, []) if jobs else []
        return errors + _split_outcomes([outcome_of(fusion.make) for fusion in fusions], fused)
    calls = _calls("train", asked, jobs, verbose, quiet)
    outcomes = train_all([(run, call) for (_, run), call in zip(runs.values(), calls, strict=True)], fusions)
    return _failures(asked, jobs, outcomes, []) + _split_outcomes(outcomes[len(jobs) :], fused)


def _calls(verb: str, asked: Plan, jobs: Sequence[Job], verbose: bool, quiet: bool = False) -> list[Call]:
    """The arguments of the verb for each job beside its config."""
    sweeping = verb == "train" and asked.multirun
    return [
        Call(
            _arguments(verb, asked.config_dir, job.overrides), asked.multirun, False, verbose, number, len(jobs),
            quiet=quiet, checked=sweeping,
        )
        for number, job in enumerate(jobs, 1)
    ]  # fmt: skip


def _failures(asked: Plan, jobs: Sequence[Job], outcomes: Iterable[Any], values: list[Any]) -> list[Exception]:
    """The errors among the outcomes of some jobs, each logged where there are several; the others go to `values`."""
    errors = []
    for job, outcome in zip(jobs, outcomes, strict=False):  # those of fusions are left
        if not isinstance(outcome, Exception):
            values.append(outcome)
            continue
        errors.append(outcome)
        if asked.multirun and len(jobs) > 1:
            log.error("failed: %s: %s", " ".join(job.overrides), one_line(outcome))
    return errors


def _split_outcomes(outcomes: Sequence[Any], values: list[Any]) -> list[Exception]:
    """The errors among some outcomes; the others go to `values`."""
    values += [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
    return [outcome for outcome in outcomes if isinstance(outcome, Exception)]


def _arguments(verb: str, config_dir: str | None, overrides: Sequence[str]) -> list[str]:
    """The words after `emoshare` in the command of one job: of the sweep's fusions, which are of several, nothing."""
    lines = [line for line in overrides if not line.lstrip("+~").startswith("sweep.fuse")]
    return [*verb.split(), *(["--config-dir", config_dir] if config_dir else []), *lines]


def _run_by_hydra(verb: str, asked: Plan, jobs: Sequence[Job], verbose: bool, values: list[Any]) -> list[Exception]:
    """The same through another launcher, which may start the jobs elsewhere, or through a search."""
    task = functools.partial(hydra_job, verb, asked.config_dir, asked.searching, verbose)
    config = jobs[0].config
    folder = f"hydra.sweep.dir='{Path(config.paths.outputs) / config.sweep.name}'"
    settings = [*asked.settings, "hydra.mode=MULTIRUN", folder]
    try:
        with start_hydra() as app:
            if asked.searching:
                overrides = [*for_hydra(asked.overrides), *settings]
                app.multirun("train", task, overrides, with_log_configuration=False)
                return []
            overrides = [*for_hydra(jobs[0].overrides), *settings]
            cfg = app.compose_config("train", overrides, run_mode=RunMode.MULTIRUN, with_log_configuration=False)
            callbacks = Callbacks(cfg)
            callbacks.on_multirun_start(config=cfg, config_name="train")
            context = HydraContext(config_loader=app.config_loader, callbacks=callbacks)
            launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task, config=cfg)
            launched = launcher.launch([for_hydra(job.overrides) for job in jobs], 0)
            values += [done.return_value for done in launched]
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
    [outcome] = train_all([(ResolvedRun(config), call)])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


@dataclass(frozen=True)
class Swept:
    """A sweep that has ended."""

    listed: dict[Path, list[listing.ListedRun]]  # folder → its runs; empty for a search
    errors: list[Exception]
    fused: list[Results]
    skip_missing: bool  # what is not at hand is no problem

    @property
    def fine(self) -> tuple[str, ...]:
        """The states in which a run may end."""
        return ("done", ABSENT) if self.skip_missing else ("done",)

    def states(self, folder: Path) -> dict[str, str]:
        """The state of every run of one of its folders."""
        return sweep.states(folder, self.listed[folder] or sweep.read(folder))

    def problems(self) -> list[str]:
        """A line for every run that is not done, and for every error of a fusion or a launcher."""
        lines = []
        for folder in self.listed:
            for name, state in self.states(folder).items():
                if state not in self.fine:
                    failure = Run(folder / name).failure()
                    lines.append(f"{folder / name}: {failure.error if failure else state}")
            lines += sweep.cells(folder, self.states(folder))[1].values()
        return list(dict.fromkeys([*lines, *map(one_line, self.errors)]))

    def results(self) -> list[Results]:
        """The results of its finished runs, fusions apart, in their order."""
        runs = [Run(folder / name) for folder in self.listed for name in self.states(folder)]
        finished = filter(None, (run.results() for run in runs))
        return [results for results in finished if not results.is_fusion]


def run_sweep(asked: Plan, verbose: bool = False, quiet: bool = False) -> Swept:
    """Train the runs of a sweep that are not finished, and make its fusions.

    quiet: what it says goes to the logger `emoshare` alone.

    Raises:
        EmoshareError: a line for everything that would stop one of the runs or fusions; none has begun then.
    """
    runs = [ResolvedRun(job.config) for job in asked.jobs]
    first: dict[Path, tuple[Job, ResolvedRun]] = {}  # by folder: jobs of one identity are one run
    listed: dict[Path, list[listing.ListedRun]] = {}
    for job, run in zip(asked.jobs, runs, strict=True):
        first.setdefault(run.run.folder, (job, run))
        facts = run.run.name, sweep.recipe_key(job.config), job.overrides, values_of(job.config)
        entry = listing.ListedRun(*facts, config_dir=asked.config_dir)
        listed.setdefault(run.run.folder.parent, []).extend([] if asked.searching else [entry])
    for _, run in first.values():
        if run.config.metrics != list(AVERAGED):
            skip_finished(run, sweeping=True)  # an earlier command may have named fewer metrics
    unfinished = {folder: (job, run) for folder, (job, run) in first.items() if not run.finished}
    check_sweep(runs, [run for _, run in unfinished.values()], asked)
    for folder, entries in listed.items():
        if entries:
            listed[folder] = distinct = listing.distinct(entries)
            sweep.enlist(folder, distinct)
            requested = f" ({len(entries)} were requested)" if len(distinct) < len(entries) else ""
            counted = f"{len(distinct)} run{'s' * (len(distinct) > 1)}{requested}"
            log.info("sweep %s, %s: %s", folder, counted, sweep.counts(sweep.read_states(folder, distinct)))
            if len(distinct) < len(entries):
                log.info("%s", listing.sharing(distinct).rstrip())
    fused: list[Any] = []
    fusions = [] if asked.searching else row_fusions(runs)
    errors = _train(asked, first if asked.in_process else unfinished, verbose, quiet, fusions, fused)
    if errors and asked.searching:  # it may have ended before its first run
        raise errors[0]
    skip_missing = all(run.config.sweep.skip_missing for run in runs)
    return Swept(listed, errors, [made for made in fused if made is not None], skip_missing)


def check_sweep(runs: Sequence[ResolvedRun], unfinished: Sequence[ResolvedRun], asked: Plan) -> None:
    """Say what is odd about a sweep before it begins. EmoshareError for everything that is wrong with it."""
    mistakes = list(fusion_problems(runs, asked.searching))
    try:
        for note in ready(unfinished, here=asked.in_process) if unfinished else ():
            log.warning("%s", note)
    except EmoshareError as error:
        mistakes += str(error).splitlines()
    if mistakes:
        raise EmoshareError("\n".join(mistakes))


def ready(runs: Sequence[ResolvedRun], here: bool) -> list[str]:
    """Do as `check_ready`, in another process where other ones train the runs, so that this one needs no PyTorch."""
    configs = [run.config for run in runs]
    alone = side_by_side(configs).runs == 1 and not any(config.sweep.isolate for config in configs)
    if not (here and alone) and "torch" not in sys.modules:
        used_again = False  # the process that others are forked from
        try:
            notes: list[str] = apart("emoshare.training.ready", "check_ready", runs, here)
            used_again = here
            return notes
        finally:
            if not used_again:
                stop()
    from emoshare.training.ready import check_ready

    return check_ready(runs, here)


def _sweep(asked: Plan, verbose: bool) -> int:
    """Run a sweep and print its outcome. 1 if any of it is not done."""
    done = run_sweep(asked, verbose)
    status = _conclude(done)
    for message in dict.fromkeys(map(one_line, done.errors)):
        status = fail(message)
    unforeseen = [error for error in done.errors if not isinstance(error, EmoshareError)]
    if unforeseen and os.environ.get("EMOSHARE_TRACEBACK"):
        raise unforeseen[0]
    return status


def _conclude(done: Swept) -> int:
    """Print the outcome of the sweeps and what failed; 1 if anything did, or was not done."""
    lost = False
    for folder, jobs in done.listed.items():
        states = done.states(folder)
        everything = sweep.states(folder, sweep.with_fusions(folder, jobs)) if jobs else states
        cells, unreadable = sweep.cells(folder, everything)
        states |= {name: sweep.UNREADABLE for name in unreadable if name in states}
        failures = sweep.failures(folder, states)
        told = set(map(one_line, done.errors))
        problems = "".join(f"{line}\n" for line in unreadable.values() if line not in told)
        print(f"\n{folder}: {sweep.counts(states)}\n\n{cell_table(cells)}")
        sys.stderr.write(problems + failures)
        lost = lost or sweep.any_failed(folder, states)
        lost = lost or any(jobs and state not in done.fine for state in states.values())
    return int(lost)
