"""Configs composed as the command line does it."""

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore

from emoshare.command.compose import conf_folder, typed
from emoshare.core.config import Config

CONF = conf_folder()
BASE = ["data.root=/corpus"]


def config(*overrides: str) -> Config:
    ConfigStore.instance().store(name="schema", node=Config)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return typed(compose("train", [*BASE, *overrides]))
