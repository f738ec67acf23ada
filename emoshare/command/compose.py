"""The configs of a command, composed in full before its first job: every mistake of every job shows at once.

Hydra merges the files once for each choice of groups; a job's single values are set on a copy.
"""

from __future__ import annotations

import copy
import logging
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from emoshare.command import messages
from emoshare.command.help import conf_folder
from emoshare.command.jobs import Job, reset_unread
from emoshare.command.overrides import (
    choices,
    expand_home,
    find_repetitions,
    lists_no_values,
    name_all_weights,
    parse,
    parse_override,
    parse_overrides,
    search_problems,
    unswept,
    useless_flags,
)
from emoshare.command.parts import read_parts
from emoshare.command.sections import open_kinds, read_checkpoint, register, to_config
from emoshare.core.config import Config, DataConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.schema import declared_keys
from emoshare.core.validate import NO_TARGETS, find_mistakes
from emoshare.data.corpus import load
from emoshare.data.suggest import suggest_columns
from emoshare.metrics.registry import problems as metric_problems

log = logging.getLogger("emoshare")
MERGED: dict[tuple[Any, ...], tuple[DictConfig, DictConfig]] = {}  # of this process: groups and files → what they make
SEVERAL = ("experiment",)  # groups of which several options may be chosen at once


@dataclass(frozen=True)
class Plan:
    """All that a command does: its jobs, in the order in which they run."""

    jobs: list[Job]  # of a search the one that all its jobs start from
    multirun: bool
    searching: bool  # the sweeper chooses its jobs as it goes
    in_process: bool  # Hydra's basic launcher: the jobs run here, one after the other
    overrides: list[str]  # all of the command line, but Hydra's own
    settings: list[str]  # those of Hydra itself
    config_dir: str | None


@contextmanager
def start_hydra() -> Iterator[Any]:
    """Hydra on the config folder, with the schema as its node `schema`."""
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        yield GlobalHydra.instance().hydra


def plan(options: Namespace, corpus: bool) -> Plan:
    """Compose all jobs of a command.

    Args:
        options: of Hydra's own argument parser.
        corpus: whether the verb reads a corpus; else `data.root` need not be given.

    Raises:
        EmoshareError: a line for every mistake in any of them.
    """
    mistakes: dict[str, None] = {}  # in their order, each once
    overrides = parse_overrides([expand_home(text) for text in options.overrides], mistakes)
    mistakes |= dict.fromkeys(useless_flags(options))
    for line in find_repetitions(overrides):
        log.warning(line)
    folder = options.config_dir and Path(options.config_dir)
    more = [f"hydra.searchpath=[file://{folder.resolve()}]"] if folder and folder.is_dir() else []
    with start_hydra() as hydra:
        composer = Composer(hydra, more, corpus)
        settings = [o.input_line or "" for o in overrides if o.is_hydra_override()]
        cfg = composer.hydra_settings([o for o in overrides if not o.is_sweep_override()], mistakes)
        basic = cfg is None or _is(cfg.sweeper, BasicSweeper)
        multirun = options.multirun or (cfg is not None and cfg.mode == RunMode.MULTIRUN)
        params = (cfg and cfg.sweeper.get("params")) or {}
        if multirun and basic:
            chosen = choices([o for o in overrides if not lists_no_values(o, {} if cfg is None else mistakes)], params)
        else:
            chosen = [[o.input_line or "" for o in overrides if not (multirun and o.is_sweep_override())]]
            errors = composer.search_problems(chosen[0], overrides, params) if multirun else unswept(overrides, params)
            mistakes |= dict.fromkeys(errors)
        jobs = [job for choice in chosen for job in composer.jobs(choice, mistakes, folds=multirun and basic)]
        if not mistakes:
            searched = {o.key_or_group for o in overrides if o.is_sweep_override()} | {*params}
            searched = searched if multirun and not basic else set()
            jobs = reset_unread(jobs, searched, mistakes, lambda lines: composer.job(lines, {}))
    if mistakes or cfg is None:
        raise EmoshareError("\n".join(map(messages.with_grammar, mistakes)))
    in_process = basic and _is(cfg.launcher, BasicLauncher) and not cfg.callbacks
    lines = [o.input_line or "" for o in overrides if not o.is_hydra_override()]
    return Plan(jobs, multirun, multirun and not basic, in_process, lines, settings + more, options.config_dir)


def compose_one(overrides: list[str]) -> Config:
    """The checked config of one run, from overrides as on the command line.

    Raises:
        EmoshareError: a line for every mistake, or overrides that name several runs.
    """
    options = parse(overrides)
    one = "this makes the config of one run; emoshare.sweep(…) runs several"
    if flags := [line for line in overrides if line.startswith("-") and not line.startswith("--config-dir")]:
        raise EmoshareError(f"{flags[0]}: a flag of the command line, and {one}")
    made = plan(options, corpus=True)
    if made.multirun:
        raise EmoshareError(f"hydra.mode=MULTIRUN: {one}")
    return made.jobs[0].config


class Composer:
    """Composes single jobs, and remembers what Hydra has merged."""

    def __init__(self, hydra: Any, more: list[str], corpus: bool) -> None:
        self.hydra, self.more, self.corpus = hydra, more, corpus
        _, self.files = hydra.config_loader._parse_overrides_and_create_caching_repo("train", more)
        folders = [conf_folder(), *(Path(line.partition("file://")[2].rstrip("]")) for line in more)]
        self.folder = folders[1] if more else None  # of --config-dir
        self.written = (*more, *map(_write_times, folders))

    def hydra_settings(self, overrides: Sequence[Override], mistakes: dict[str, None]) -> DictConfig | None:
        """Hydra's own settings under the chosen groups; None where they cannot be composed."""
        groups, _ = self._split(overrides, mistakes)
        try:
            return self._merge(groups)[1]
        except Exception as error:
            mistakes[messages.of_files(error, self.folder)] = None
            return None

    def jobs(self, lines: list[str], mistakes: dict[str, None], folds: bool) -> list[Job]:
        """The job of some overrides. With `folds`, one for each fold where there are folds and none is named."""
        made = self.job(lines, problems := dict[str, None]())
        data = made.config.data
        others = [line for line in problems if not line.startswith("data.fold=null")]
        if not folds or not data.folds or data.fold is not None or others:
            mistakes |= dict.fromkeys(others if folds else problems)
            return [made]
        try:
            count = _number_of_folds(data, Path(made.config.paths.cache))
        except EmoshareError as error:
            mistakes |= dict.fromkeys(str(error).splitlines())
            return [made]
        return [self.job([*lines, f"data.fold={fold}"], mistakes) for fold in range(count)]

    def search_problems(self, fixed: list[str], overrides: Sequence[Override], params: Any) -> Iterator[str]:
        """The mistakes of `overrides.search_problems`; fixed: the overrides that every run of the search has."""

        def problems_of(chosen: list[str]) -> dict[str, None]:
            problems: dict[str, None] = {}
            self.job([*fixed, *chosen], problems)
            return problems

        return search_problems(problems_of, overrides, params)

    def job(self, lines: list[str], mistakes: dict[str, None]) -> Job:
        """The job of some overrides; what is wrong with it goes to `mistakes`."""
        try:
            cfg = self.compose(lines, mistakes)
            refused = {line.partition("=")[0] for line in mistakes}  # groups among them, whose keys are not known
        except Exception as error:
            mistakes[messages.of_files(error, self.folder)] = None
            return Job(Config(), lines)
        if not self.corpus and OmegaConf.is_missing(cfg.data, "root"):
            cfg.data.root = "."
        try:
            config, errors = to_config(cfg, others := dict[str, Any]())
        except Exception as error:  # of an interpolation
            config, errors, others = Config(), [messages.one_line(error)], {}
        else:
            errors, unread = self._read_backbone(config, errors)
            errors += find_mistakes(config, [*unread, *(line.partition("=")[0] for line in errors)])
            errors = _without_consequences([*errors, *metric_problems(config)], len(errors))
            errors = [line for line in errors if not (" is not set" in line and line.partition(".")[0] in refused)]
            errors = [line + suggest_columns(config.data) if line.startswith(NO_TARGETS) else line for line in errors]
        mistakes.update(dict.fromkeys(errors))
        return Job(config, [line for line in lines if not parse_override(line).is_hydra_override()], others)

    def compose(self, lines: list[str], mistakes: dict[str, None]) -> DictConfig:
        """Hydra's config of some overrides; those that it does not take go to `mistakes`."""
        groups, values = self._split([parse_override(name_all_weights(line)) for line in lines], mistakes)
        cfg = copy.deepcopy(self._merge(groups)[0])
        open_kinds(cfg, values)
        for override in values:
            try:
                _set(cfg, override)
            except Exception as error:
                mistakes[messages.one_line(error)] = None
        return cfg

    def _read_backbone(self, config: Config, problems: list[str]) -> tuple[list[str], list[str]]:
        """Read checkpoints as `read_checkpoint`, also those of the parts of backbone=concat."""
        if config.backbone.parts is None:
            return read_checkpoint(config, problems)
        if not all(str(part).strip() for part in config.backbone.parts):  # of which is told elsewhere
            return problems, ["backbone.name", "backbone.dim"]
        wrong = read_parts(config, self.files.get_group_options("backbone"), self._section)
        keys = ("name", "dim", "parts") if wrong else () if config.backbone.parts else ("name", "dim")
        unread = [f"backbone.{key}" for key in keys]
        return [*problems, *wrong], unread

    def _section(self, name: str) -> dict[str, Any]:
        """The contents of a backbone's file."""
        values = OmegaConf.to_container(self.files.load_config(f"backbone/{name}").config, resolve=False)
        assert isinstance(values, dict)
        return {str(key): value for key, value in values.items()}

    def _split(self, overrides: Sequence[Override], mistakes: dict[str, None]) -> tuple[list[str], list[Override]]:
        """Split overrides into those that Hydra merges (groups, its settings) and single values, without bad ones."""
        groups, values = [], []
        for override in overrides:
            if problem := self._problem(override):
                mistakes[problem] = None
            elif override.is_hydra_override() or self._is_group(override):
                groups.append(override.input_line or "")
            else:
                values.append(override)
        return groups, values

    def _problem(self, override: Override) -> str:
        """The problem of an override before anything is merged; empty where there is none."""
        if override.is_sweep_override():
            return messages.several_values(override.input_line or "")
        key, value = override.key_or_group, override.value()
        if override.is_delete() or override.is_hydra_override() or not self._is_group(override):
            return ""
        if override.input_line != (plain := (override.input_line or "").lstrip("+")) and (conf_folder() / key).is_dir():
            return messages.there_already(plain)
        if isinstance(value, list) and key not in SEVERAL:
            return messages.one_option(key, list(map(str, value)))
        options = self.files.get_group_options(key)
        unknown = [str(v) for v in (value if isinstance(value, list) else [value]) if v not in (*options, None)]
        return messages.unknown_option(key, unknown[0], options, self.folder) if unknown else ""

    def _is_group(self, override: Override) -> bool:
        """Whether it chooses a file of a group, and does not set the keys of a section: window={seconds: 3}."""
        return self.files.group_exists(override.key_or_group) and not isinstance(override.value(), dict)

    def _merge(self, groups: list[str]) -> tuple[DictConfig, DictConfig]:
        """The files of some groups, merged: the config, and Hydra's own settings."""
        key = (*groups, *self.written)
        if key not in MERGED or any("searchpath" in line for line in groups):  # whose files may have changed
            cfg = self.hydra.compose_config(
                "train", [*groups, *self.more], run_mode=RunMode.RUN, from_shell=False, with_log_configuration=False
            )
            settings = cfg.hydra
            with open_dict(cfg):
                del cfg["hydra"]
            MERGED[key] = cfg, settings
        return MERGED[key]


def _write_times(folder: Path) -> tuple[int, ...]:
    """The modification times of the config files of a folder."""
    return tuple(path.stat().st_mtime_ns for path in sorted(folder.rglob("*.yaml")))


def _without_consequences(lines: list[str], first: int) -> list[str]:
    """Mistakes without those that follow from others: keys that a type would need which is none, unusable metrics.

    first: how many do not come from the metrics.
    """
    faulty = {line.partition("=")[0] for line in lines[:first]}
    causes = [line for line in lines[:first] if not (line.startswith("backbone.") and " is not set" in line)]
    causes = causes if "backbone.type" in faulty else lines[:first]
    return causes + [line for line in lines[first:] if not {line.partition("=")[0], "metrics"} & faulty]


def _number_of_folds(config: DataConfig, cache: Path) -> int:
    """The number in `data.folds`, or how many values its column has. EmoshareError where the corpus lacks that."""
    assert config.folds
    if config.folds.isdigit():
        return int(config.folds)
    divided = load(replace(config, fold=0), cache).folds
    assert divided is not None
    return divided.of


def _set(cfg: DictConfig, override: Override) -> None:
    """Set the value of one override, as Hydra does it; but no key is taken away that is declared."""
    open_keys = [f"{name}." for name, declared in declared_keys(Config).items() if declared.kind is dict]
    if override.is_delete() and not override.key_or_group.startswith(tuple(open_keys)):
        raise EmoshareError(f"{override.input_line}: a key cannot be taken away; give it another value")
    ConfigLoaderImpl._apply_overrides_to_config([override], cfg)


def _is(settings: Any, plugin: type) -> bool:
    return settings._target_ == f"{plugin.__module__}.{plugin.__qualname__}"
