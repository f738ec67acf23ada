"""An estimator of scikit-learn's kind on pooled frames: fit every combination of its grid, choose on devel, fit again.

In the run's folder: `estimator.skops` with `estimator.json` predicts test and new clips, `devel/` holds those that
predict devel, `grid.csv` is the table of all combinations, and `grid/` has them as fitted, from which a run is resumed.

Shapes: N clips, F features, E emotions.
"""

from __future__ import annotations

import copy
import itertools
import json
import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from emoshare.core import outside
from emoshare.core.errors import EmoshareError
from emoshare.core.files import write_text
from emoshare.core.hashing import digest, read_sealed
from emoshare.core.progress import Meter
from emoshare.metrics.metric import Metric, mean_scores, score_all
from emoshare.metrics.outside import source_hash
from emoshare.metrics.registry import find, metrics_of
from emoshare.metrics.scores import constant_targets
from emoshare.systems.learned import ESTIMATOR, FACTS, predict_shares, read_estimator, save_estimator
from emoshare.training.augment import learning_partitions
from emoshare.training.classical import join, pooled_features, split
from emoshare.training.grid import ALL, Split, fingerprint
from emoshare.training.progress import label
from emoshare.training.system import Outcome, Task

log = logging.getLogger("emoshare")
DEVEL = "devel"  # the folder of the estimator that predicts devel
CLIPS, FEATURES, TARGETS = 24, 5, 3  # of the numbers that an estimator is tried on before anything is computed


def fit_predict(task: Task, head: Any) -> Outcome:
    """Fit the grid on train, choose on devel, predict devel, and test, with an estimator of both if so configured.

    Raises:
        EmoshareError: frames hold NaN, or every combination predicts constants.
    """
    corpus, folder, started = task.corpus, task.run.folder, time.monotonic()
    features, pooling, voicing = pooled_features(task)  # (N, F)
    learned = {name: task.source.augment(corpus.partitions[name]) for name in learning_partitions(task.config.train)}
    train, devel = split(features, learned["train"]), split(features, corpus.partitions["devel"])
    pooled = time.monotonic()
    meter = Meter(log, label(task.resolved, task.place))
    select, metrics = find(head.select), metrics_of(task.config)

    def judge(model: Any) -> dict[str, Any]:
        predicted, true = predict_shares(model, devel.features), devel.shares
        constant = constant_targets(predicted, corpus.targets)
        said = ALL if len(constant) == len(corpus.targets) else ", ".join(constant)
        return {**mean_scores(score_all(metrics, true, predicted)), "constant": said}

    key = fingerprint([train, devel], [metric.name + source_hash(metric.name) for metric in metrics])
    trials = search(head, train, folder / "grid", judge, task.config.seed, key, meter)
    write_trials(folder / "grid.csv", trials)
    best = choose(select, trials)
    selected = model = best["model"]
    if task.config.train.refit:
        model = fit(head, join(features, learned.values()), best["parameters"], task.config.seed)
    noted = {
        "parameters": best["parameters"], "pooling": pooling, "voicing": voicing, "targets": list(corpus.targets),
        "backbone": task.source.identity,
    }  # fmt: skip
    (folder / DEVEL).mkdir(exist_ok=True)
    save_estimator(selected, folder / DEVEL, noted)
    save_estimator(model, folder, noted)
    predictions = {
        name: predict_shares(selected if name == "devel" else model, features[part.rows])
        for name, part in corpus.partitions.items()
        if name != "train"
    }
    files = (ESTIMATOR, FACTS, f"{DEVEL}/{ESTIMATOR}", f"{DEVEL}/{FACTS}")
    return Outcome(
        predictions,
        timings={"pool_seconds": pooled - started},
        refit=model is not selected,
        predicted_by={"devel": f"{DEVEL}/{ESTIMATOR}", "test": ESTIMATOR},
        choices={"parameters": best["parameters"], **best["scores"], "pooling": pooling},
        weights=files,
    )


def search(
    head: Any, train: Split, folder: Path, judge: Callable[[Any], dict[str, Any]], seed: int, data: str, meter: Meter
) -> list[dict[str, Any]]:
    """Fit every combination of the grid on train and judge it; estimators of the same data in `folder` are read."""
    outside.allow(head.target.rpartition(".")[0])  # the user's own command names it
    names = list(head.grid)
    combinations = [dict(zip(names, values, strict=True)) for values in itertools.product(*head.grid.values())]
    key, trials = digest([data, head.estimator, head.scaler, seed]), []
    for number, parameters in enumerate(combinations, 1):
        place = folder / digest([key, parameters], 16)
        try:
            noted = read_sealed(place / FACTS, "") if place.is_dir() else {}
            model = read_estimator(place / ESTIMATOR) if noted else None
        except EmoshareError:  # damaged, or not written to its end
            model = None
        if model is None:
            started = time.monotonic()
            model = fit(head, train, parameters, seed)
            noted = {"scores": judge(model) | {"seconds": time.monotonic() - started}}
            place.mkdir(parents=True, exist_ok=True)
            save_estimator(model, place, noted)
        trials.append({"parameters": parameters, "scores": noted["scores"], "model": model})
        meter.report(f"fit {number}/{len(combinations)} of the grid", number / len(combinations))
    return trials


def fit(head: Any, data: Split, parameters: dict[str, Any], seed: int) -> Any:
    """Fit a pipeline of scaler and estimator. An error inside of it shows the estimator's own frames."""
    model = pipeline(head, parameters, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return model.fit(data.features.astype(np.float64), data.shares.astype(np.float64))
        except Exception as error:
            raise outside.crash(error, head.target) from error


def pipeline(head: Any, parameters: dict[str, Any], seed: int) -> Any:
    """A pipeline of scaler and estimator, not fitted; an estimator of one target is wrapped for several."""
    from sklearn.multioutput import MultiOutputRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    estimator = head.make_estimator(**parameters)
    if hasattr(estimator, "get_params") and estimator.get_params().get("random_state", 0) is None:
        estimator.set_params(random_state=seed)
    if not takes_several(estimator):
        estimator = MultiOutputRegressor(estimator)
    scaler = {"standard": [StandardScaler()], "minmax": [MinMaxScaler()], "none": []}[head.scaler]
    return make_pipeline(*scaler, estimator)


def takes_several(estimator: Any) -> bool:
    """Whether it predicts several targets at once, tried on a few numbers.

    scikit-learn's tag `multi_output` says no of estimators that do, as MLPRegressor, BaggingRegressor and GridSearchCV.
    """
    numbers = np.random.default_rng(0)
    features, targets = numbers.normal(size=(CLIPS, FEATURES)), numbers.uniform(size=(CLIPS, TARGETS))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            predicted = copy.deepcopy(estimator).fit(features, targets).predict(features)
    except Exception:  # its own, whatever it is: alone with each target it may still work
        return False
    return np.shape(predicted) == targets.shape


def try_out(head: Any) -> None:
    """Raise EmoshareError unless the estimator can be fitted on a few numbers, and predicts as many targets."""
    made = head.make_estimator(**{name: values[0] for name, values in head.grid.items()})
    if missing := [name for name in ("fit", "predict") if not callable(getattr(made, name, None))]:
        raise EmoshareError(
            f"{head.target}: is no regressor of scikit-learn's kind: it has no {' and no '.join(missing)}"
        )
    numbers = np.random.default_rng(0)
    data = Split(numbers.normal(size=(CLIPS, FEATURES)), numbers.uniform(size=(CLIPS, TARGETS)))
    first = {name: values[0] for name, values in head.grid.items()}
    shares = predict_shares(fit(head, data, first, 0), data.features)
    if shares.shape != (CLIPS, TARGETS):
        raise EmoshareError(
            f"{head.target}: predicts the shape {shares.shape} for {CLIPS} clips and {TARGETS} targets; must be "
            f"({CLIPS}, {TARGETS})"
        )


def choose(select: Metric, trials: list[dict[str, Any]]) -> dict[str, Any]:
    """The best trial on devel by a metric; of equals the first.

    Raises:
        EmoshareError: each of them predicts one share for all clips, whatever the emotion.
    """
    usable = [trial for trial in trials if trial["scores"]["constant"] != ALL]
    if not usable:
        raise EmoshareError(
            "head=sklearn: every combination of head.grid predicts constants, one share for all clips of devel; choose "
            "other parameters of head.estimator, or train on more clips or other features"
        )
    best = usable[select.best([trial["scores"][select.name] for trial in usable])]
    if best["scores"]["constant"]:
        log.warning("the chosen estimator predicts one share for all clips of devel: %s", best["scores"]["constant"])
    return best


def write_trials(path: Path, trials: list[dict[str, Any]]) -> None:
    """Write the grid as a table, a row per combination."""
    import csv
    import io

    rows = [{**{n: json.dumps(v) for n, v in t["parameters"].items()}, **t["scores"]} for t in trials]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
