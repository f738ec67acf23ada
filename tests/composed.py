"""Configs composed as the command line does it."""

import copy
import functools

import torch

from emoshare.command.compose import Composer, start_hydra, to_config
from emoshare.command.help import conf_folder
from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.runs.resolved import ResolvedRun

CONF = conf_folder()
BASE = ["data.root=/corpus"]


@functools.cache
def _composed(*overrides: str) -> tuple[Config, list[str]]:
    with start_hydra() as hydra:
        mistakes: dict[str, None] = {}
        config, problems = to_config(Composer(hydra, [], corpus=True).compose([*BASE, *overrides], mistakes))
        return config, [*mistakes, *problems]


def config(*overrides: str) -> Config:
    """The config of some overrides; types are checked, ranges are not. Composed once, and a copy for every caller."""
    config, problems = _composed(*overrides)
    if problems:
        raise EmoshareError("\n".join(problems))
    return copy.deepcopy(config)


def on_cpu(made: Config) -> ResolvedRun:
    """The run of a config on the CPU, and in float32 where its backbone is in the loop, on any machine."""
    run = ResolvedRun(made)
    run.device, run.precision = torch.device("cpu"), "32-true"
    return run
