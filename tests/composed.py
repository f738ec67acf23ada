"""Configs composed as the command line does it."""

from hydra import compose

from emoshare.command.compose import hydra_started, to_config
from emoshare.command.help import conf_folder
from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError

CONF = conf_folder()
BASE = ["data.root=/corpus"]


def config(*overrides: str) -> Config:
    """The config of some overrides; types are checked, ranges are not."""
    with hydra_started():
        config, problems = to_config(compose("train", [*BASE, *overrides]))
    if problems:
        raise EmoshareError("\n".join(problems))
    return config
