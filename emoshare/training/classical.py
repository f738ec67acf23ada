"""A support vector regression on pooled frames: pool, search the grid, choose on devel, fit again for test.

In the run's folder: `svr.safetensors` is the model that predicts test and new clips, `svr_devel.safetensors` the one
that predicts devel, `grid.csv` the table of all settings, and `grid/` their models, from which a run is resumed.

Shapes: N clips, T frames, D features of a frame, F features of a pooled clip, E emotions.
"""

from __future__ import annotations

import csv
import io
import logging
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from emoshare.core.cores import usable_cores
from emoshare.core.errors import EmoshareError
from emoshare.core.files import write_text
from emoshare.core.progress import Meter
from emoshare.data.partition import Corpus, Partition
from emoshare.metrics.metric import Metric
from emoshare.metrics.registry import find, metrics_of
from emoshare.models.functionals import pool
from emoshare.models.svr import Model
from emoshare.store.tensors import JoinedStore, TensorStore
from emoshare.training.augment import learning_partitions
from emoshare.training.grid import (
    ALL,
    METRICS,
    Fitter,
    Split,
    Trial,
    choose,
    grid_warnings,
    load_model,
    refit,
    search,
    settings,
)
from emoshare.training.progress import label
from emoshare.training.source import set_threads
from emoshare.training.system import Outcome, Task

log = logging.getLogger("emoshare")
VALUES = 2**22  # of frames that are pooled at once
FILES = {"devel": "svr_devel.safetensors", "test": "svr.safetensors"}  # partition → the model that predicts it


def fit_predict(task: Task) -> Outcome:
    """Fit the grid on train, choose on devel, predict devel, and test with the model fitted on both if so configured.

    Raises:
        EmoshareError: frames hold NaN.
    """
    head: Any = task.config.head
    corpus, folder, started = task.corpus, task.run.folder / "grid", time.monotonic()
    features, pooling, voicing = pooled_features(task)
    learned = {name: task.source.augment(corpus.partitions[name]) for name in learning_partitions(task.config.train)}
    both = join(features, learned.values())  # begins with train
    train, pooled = both.first(len(learned["train"].files)), time.monotonic()
    select, metrics = find(head.select), list(dict.fromkeys([*metrics_of(task.config), *METRICS]))
    grid, devel = settings(head.scalers, head.losses, head.grid), split(features, corpus.partitions["devel"])
    name, cache = label(task.resolved, task.place), task.resolved.cache / head.extension / task.run.name
    fitter = Fitter(task.device, cache, Meter(log, name).report)
    set_threads(task.config.trainer.threads or min(joblib.cpu_count(), usable_cores()))  # a run beside others has fewer
    trials = search(train, devel, grid, folder, fitter, corpus.targets, metrics)
    write_trials(task.run.folder / "grid.csv", trials)
    best = choose(trials, select)
    tell(best, trials, select)
    selected, gap = load_model(folder, best.setting), best.gap
    model = selected
    if task.config.train.refit:
        fitter.report = Meter(log, f"{name} · train + devel").report
        model, gap = refit(both, best.setting, folder, fitter)
    fitter.forget()
    facts = {
        "setting": best.setting.name, "pooling": pooling, "voicing": voicing, "targets": list(corpus.targets),
        "backbone": task.source.identity,
    }  # fmt: skip
    selected.save(task.run.folder / FILES["devel"], **facts, fitted_on="train")
    model.save(task.run.folder / FILES["test"], **facts, fitted_on="train" if model is selected else "train + devel")
    return Outcome(
        predict({"devel": selected, "test": model}, features, corpus),
        timings={"pool_seconds": pooled - started},
        refit=model is not selected,
        predicted_by=FILES,
        choices={**best.row(), "pooling": pooling, "refit_gap": gap},
        weights=tuple(FILES.values()),
    )


def predict(models: dict[str, Model], features: np.ndarray, corpus: Corpus) -> dict[str, np.ndarray]:
    """Predict each partition by its model: partition → shares (N, E)."""
    parts = {name: part for name, part in corpus.partitions.items() if name in models}
    return {name: models[name].predict(features[part.rows]).astype(np.float32) for name, part in parts.items()}


def tell(best: Trial, trials: Sequence[Trial], select: Metric) -> None:
    """Log warnings about the grid."""
    for warning in grid_warnings(best, trials, select):
        log.warning("%s", warning)
    if constant := [trial.setting.name for trial in trials if trial.constant == ALL]:
        log.info("settings that predict one share for all clips of devel, never chosen: %s", ", ".join(constant))


def pooled_features(task: Task) -> tuple[np.ndarray, str, int | None]:
    """Features (N, F) of all clips of the corpus, and their pooling, as `pooling_of`.

    Raises:
        EmoshareError: frames hold NaN.
    """
    store, option = task.source.store, task.config.head.pooling  # type: ignore[attr-defined]
    assert store is not None  # the config is checked for it
    pooling, voicing = pooling_of(option, store)
    features = pool_all(store, pooling, voicing)
    check_finite(features, task.corpus)
    return features, pooling, voicing


def pooling_of(option: str, store: TensorStore | JoinedStore) -> tuple[str, int | None]:
    """Resolve head.pooling for a store. Returns it with the index of the frame's voicing feature, if one is.

    A store of one frame per clip, as functionals are, needs no pooling: `none`.
    """
    voicing = store.recipe.backbone.get("voicing")
    if (store.lengths == 1).all():
        return "none", voicing
    if option != "auto":
        return option, voicing
    return "mean_std" if voicing is None else "functionals", voicing


def pool_all(store: TensorStore | JoinedStore, pooling: str, voicing: int | None) -> np.ndarray:
    """Pool every clip of the store to one vector: (N, F) float32, in corpus-wide order."""
    lengths, width = store.lengths, store.recipe.width
    order = np.argsort(lengths, kind="stable")
    features: np.ndarray | None = None
    start = 0
    while start < len(order):
        size = max(VALUES // (int(lengths[order[start]]) * width), 1)
        rows = order[start : start + size]
        frames, counts = store.gather(rows)  # (B, T, D), (B,)
        vectors = frames[:, 0].float() if pooling == "none" else pool(frames, counts, pooling, voicing)
        if features is None:
            features = np.empty((len(order), vectors.shape[1]), np.float32)
        features[rows] = vectors.numpy()
        start += size
    assert features is not None
    return features


def check_finite(features: np.ndarray, corpus: Corpus) -> None:
    """Raise EmoshareError where a clip's features are not numbers."""
    bad = [row for row, vector in enumerate(features[: len(corpus.files)]) if not np.isfinite(vector).all()]
    if bad:
        raise EmoshareError(
            f"{corpus.path(corpus.files[bad[0]])}: its frames hold NaN or infinite values, as those of {len(bad)} of "
            f"{len(features)} clips; extract them again with another backbone or precision, or take the clips out"
        )


def split(features: np.ndarray, part: Partition) -> Split:
    """The features and labels of a partition."""
    assert part.shares is not None
    return Split(features[part.rows], part.shares)


def join(features: np.ndarray, parts: Iterable[Partition]) -> Split:
    """Join the features and labels of several partitions."""
    splits = [split(features, part) for part in parts]
    return Split(*(np.concatenate(arrays) for arrays in zip(*((s.features, s.shares) for s in splits), strict=True)))


def write_trials(path: Path, trials: Sequence[Trial]) -> None:
    """Write the grid as a table, a row per setting."""
    text = io.StringIO()
    rows = [trial.row() for trial in trials]
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
