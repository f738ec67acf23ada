#!/bin/bash
# hydra-core 1.3.2, omegaconf 2.3.0: a file of a config group that says `table: ???` does not make the key mandatory
# where the config that it is merged into has a value for it, null included: the merge leaves the old value. So a group
# that needs a key which others do without (null in the schema) is composed without an error, and the key stays null.
# Expected: MissingMandatoryValue, as for a key that only the group's file has. Found: None.
set -e
D=$(mktemp -d); trap 'rm -rf -- "$D"' EXIT; cd "$D"
python3 -m venv venv
venv/bin/pip install -q hydra-core==1.3.2 omegaconf==2.3.0
mkdir -p conf/data
printf 'defaults:\n  - schema\n  - data: one_table\n  - _self_\n' > conf/config.yaml
printf 'data:\n  table: null\n' > conf/schema.yaml
printf 'table: ???\nroot: ???\n' > conf/data/one_table.yaml
venv/bin/python - <<'P'
import os
import sys
from importlib.metadata import version

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

with initialize_config_dir(os.getcwd() + "/conf", version_base="1.3"):
    config = compose("config")
missing = sorted(OmegaConf.missing_keys(config))
print(f"hydra-core {version('hydra-core')}, omegaconf {version('omegaconf')}: missing {missing}, table={config.data.table}")
sys.exit(0 if missing == ["data.root"] and config.data.table is None else "this has changed")
P
