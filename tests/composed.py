"""Configs composed as the command line does it."""

import copy
import functools

from hydra import compose

from emoshare.command.compose import hydra_started, to_config
from emoshare.command.help import conf_folder
from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError

CONF = conf_folder()
BASE = ["data.root=/corpus"]


@functools.cache
def _composed(*overrides: str) -> tuple[Config, list[str]]:
    with hydra_started():
        return to_config(compose("train", [*BASE, *overrides]))


def config(*overrides: str) -> Config:
    """The config of some overrides; types are checked, ranges are not. Composed once, and a copy for every caller."""
    config, problems = _composed(*overrides)
    if problems:
        raise EmoshareError("\n".join(problems))
    return copy.deepcopy(config)
