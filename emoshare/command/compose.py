"""A sweep composed in full before its first run, and what a composed config is."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import cast

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from emoshare.command.messages import unknown
from emoshare.core.config import Config, check
from emoshare.core.errors import EmoshareError
from emoshare.runs import sweep as sweeps
from emoshare.runs.folder import Run

log = logging.getLogger("emoshare")
BASIC_SWEEPER = f"{BasicSweeper.__module__}.{BasicSweeper.__qualname__}"
RECIPE = ("data", "window", "backbone", "extract", "experiment")  # sections that choose the frames
NO_RECIPE = ("data.batch_size", "data.workers")  # keys in them that don't


def conf_folder() -> Path:
    """The config folder: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside, beside = package / "conf", package.parent / "conf"
    return (inside if inside.is_dir() else beside).resolve()


def register() -> None:
    """Make the typed schema known to Hydra."""
    ConfigStore.instance().store(name="schema", node=Config)


def typed(cfg: DictConfig) -> Config:
    """The resolved config as plain dataclasses.

    Raises:
        EmoshareError: `+key=…` added something that nothing reads.
    """
    config = cast(Config, OmegaConf.to_object(cfg))
    for path, section in (("", config), *((f"{f.name}.", getattr(config, f.name)) for f in fields(config))):
        if is_dataclass(section) and (extra := set(vars(section)) - {f.name for f in fields(section)}):
            raise EmoshareError(unknown(f"{path}{min(extra)}"))
    for name, folder in vars(config.paths).items():
        setattr(config.paths, name, os.path.expanduser(folder))
    return config


@dataclass(frozen=True)
class Sweep:
    """A multirun, composed in full before its first run: every mistake shows before anything is computed."""

    jobs: dict[Path, list[sweeps.Job]]  # by outputs/<sweep>; none for a sweeper that finds its jobs as it goes
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
                return cls({Path(composed.paths.outputs).expanduser() / composed.sweep.name: []}, arguments)
            keys = {o.key_or_group for o in overrides}
            params = [f"{key}={value}" for key, value in (sweeper.params or {}).items() if key not in keys]
            overrides = sorted([*parse(params), *overrides], key=lambda o: not chooses_frames(o.key_or_group))
            jobs: dict[Path, list[sweeps.Job]] = {}
            for choice in BasicSweeper.split_arguments(overrides, None)[0]:
                config = typed(compose("train", choice + more))
                check(config)
                folder = Run.of(config).folder
                job = sweeps.Job(folder.name, sweeps.recipe_key(config), choice, asdict(config))
                jobs.setdefault(folder.parent, []).append(job)
        for folder, own in jobs.items():
            sweeps.enlist(folder, own)
            log.info("sweep %s, %d runs: %s", folder, len(own), sweeps.counts(sweeps.states(folder, own)))
        lines = [o.input_line or "" for o in overrides]
        flags = [a for a in arguments if a not in options.overrides]
        return cls(jobs, [*flags, *lines, "hydra.sweeper.params=null"])

    def conclude(self) -> int:
        """Print what came of the sweep and what failed; 1 if anything did, or was not done."""
        lost = False
        for folder, jobs in self.jobs.items():
            found = sweeps.states(folder, jobs or sweeps.read(folder))
            cells, problems = sweeps.cells(folder, found)
            failures = sweeps.failures(folder, found)
            print(f"\n{folder}: {sweeps.counts(found)}\n\n{sweeps.cell_table(cells)}")
            sys.stderr.write(problems + failures)
            lost = lost or bool(failures) or any(jobs and state != "done" for state in found.values())
        return int(lost)


def chooses_frames(key: str) -> bool:
    """Whether runs that differ in a key are of different recipes."""
    return key.partition(".")[0] in RECIPE and key not in NO_RECIPE
