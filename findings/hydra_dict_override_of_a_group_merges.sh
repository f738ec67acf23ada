#!/bin/bash
# hydra-core 1.3.8, omegaconf 2.3.1: an override that gives a config group a dictionary, as `loss={kl: 1}`, is taken
# without an error and is no choice of an option: the default option is still composed, and the dictionary is merged into
# it, key by key. `compose("config", ["loss={kl: 1}"])` with `loss: ccc` in the defaults list, whose file has `ccc: 1`,
# gives both weights, so what was meant as the whole loss trains on the old one, too.
# Expected: {kl: 1} alone, or an error that the group has no such option. Found: {ccc: 1, kl: 1}.
set -e
D=$(mktemp -d); trap 'rm -rf -- "$D"' EXIT; cd "$D"
python3 -m venv venv
venv/bin/pip install -q hydra-core==1.3.8 omegaconf==2.3.1
mkdir -p conf/loss
printf 'defaults:\n  - schema\n  - loss: ccc\n  - _self_\n' > conf/config.yaml
printf 'loss:\n  ccc: 0\n  kl: 0\n' > conf/schema.yaml
printf 'ccc: 1\n' > conf/loss/ccc.yaml
venv/bin/python - <<'P'
import os
import sys
from importlib.metadata import version

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

with initialize_config_dir(os.getcwd() + "/conf", version_base="1.3"):
    loss = OmegaConf.to_container(compose("config", ["loss={kl: 1}"]).loss)
print(f"hydra-core {version('hydra-core')}, omegaconf {version('omegaconf')}: loss={{kl: 1}} gives {loss}")
sys.exit(0 if loss == {"ccc": 1, "kl": 1} else "this has changed")
P
