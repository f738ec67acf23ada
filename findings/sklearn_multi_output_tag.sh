#!/bin/bash
# scikit-learn 1.9.1: the tag multi_output says no of estimators that do take several targets. MLPRegressor,
# BaggingRegressor, and GridSearchCV and RFE around Ridge, fit targets (30, 3) and predict (30, 3), and
# get_tags(…).target_tags.multi_output is False for them; for make_pipeline(Ridge()) it is True. Who goes by the tag
# fits a network for each target in place of one. Expected: True for all five. Found: False for four.
set -e
D=$(mktemp -d); trap 'rm -rf -- "$D"' EXIT; cd "$D"
python3 -m venv venv
venv/bin/pip install -q scikit-learn==1.9.1 numpy==2.4.6
venv/bin/python - <<'P'
import sys, warnings

import numpy as np
import sklearn
from sklearn.ensemble import BaggingRegressor
from sklearn.feature_selection import RFE
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags

warnings.filterwarnings("ignore")
numbers = np.random.default_rng(0)
features, targets = numbers.normal(size=(30, 4)), numbers.uniform(size=(30, 3))
estimators = {
    "MLPRegressor": MLPRegressor(), "BaggingRegressor": BaggingRegressor(), "RFE(Ridge)": RFE(Ridge()),
    "GridSearchCV(Ridge)": GridSearchCV(Ridge(), {"alpha": [1.0]}), "Pipeline(Ridge)": make_pipeline(Ridge()),
}
shapes = {name: one.fit(features, targets).predict(features).shape for name, one in estimators.items()}
tags = {name: get_tags(one).target_tags.multi_output for name, one in estimators.items()}
for name in estimators:
    print(f"scikit-learn {sklearn.__version__}: {name} predicts {shapes[name]}, multi_output={tags[name]}")
same = set(shapes.values()) == {(30, 3)} and [name for name, tag in tags.items() if tag] == ["Pipeline(Ridge)"]
sys.exit(0 if same else "this has changed")
P
