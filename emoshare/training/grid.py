"""The grid search of an SVR: every setting is fitted on train and scored on devel; finished ones survive a kill.

Each setting's fitted model is a file in the search's folder, with its scores. Fits run in processes: liblinear draws
from one random generator per process, so that threads would disturb each other's results.

Shapes: N clips, F features, E emotions.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from emoshare.core.cores import usable_cores
from emoshare.core.errors import EmoshareError
from emoshare.core.hashing import digest
from emoshare.metrics.agreement import CCC
from emoshare.metrics.error import MAE
from emoshare.metrics.metric import Metric, mean_scores, score_all
from emoshare.metrics.outside import source_hash
from emoshare.metrics.registry import AVG, STANDARD
from emoshare.metrics.scores import constant_targets
from emoshare.models.svr import FIXED, RANDOM_STATE, Fit, Model, Problem, Setting, problem, regress

VERSION = 3  # of the search: raise it when the same data gives other models
SMALL = 32 * 2**20  # bytes of a fit below which starting processes costs more than they save
SHARE = 0.6  # of the free memory, for all fits of all runs together
FLAT = 0.1  # spread of predictions, relative to the labels', below which they are hardly better than a constant
METRICS = (*STANDARD, MAE)  # that every setting is scored by
ALL = "all"  # of a trial that predicts nothing but constants
Advance = Callable[[int, int], None]  # fits done, fits in all


@dataclass(frozen=True)
class Trial:
    """A setting and how it does on devel."""

    setting: Setting
    scores: dict[str, float]  # metric → mean over the emotions, by the rules of `metrics/scores.py`
    spread: float  # least ratio over the emotions of the predictions' standard deviation to that of the labels
    converged: bool
    seconds: float  # of all its fits, one after the other
    constant: str = ""  # emotions whose labels vary and that it predicts as one share: "Anger, Boredom", or "all"

    def row(self) -> dict[str, str | float | bool]:
        """As a flat table has it, and JSON."""
        values = asdict(self)
        return {**values.pop("setting"), **values.pop("scores"), **values}


@dataclass(frozen=True, eq=False)
class Split:
    """Pooled features and labels of some clips."""

    features: np.ndarray  # (N, F)
    shares: np.ndarray  # (N, E)


def settings(scalers: Sequence[str], losses: Sequence[str], costs: Sequence[float]) -> list[Setting]:
    """The grid, in the challenge's order."""
    return [Setting(scaler, loss, C) for scaler in scalers for loss in losses for C in costs]


def search(
    train: Split, devel: Split, grid: Sequence[Setting], folder: Path, advance: Advance | None = None,
    targets: Sequence[str] | None = None, metrics: Sequence[Metric] = METRICS,
) -> list[Trial]:  # fmt: skip
    """Fit every setting on train and score it on devel, on all cores; what `folder` holds already is not fitted again.

    `advance` is called after every fit; `targets` names the emotions in the trials, by default by number; `metrics`
    are those of the scores. The trials come in the grid's order; `load_model` reads the model of one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "features.npy").unlink(missing_ok=True)  # of a process that was killed
    key = fingerprint([train, devel], [metric.name + source_hash(metric.name) for metric in metrics])
    trials = {setting: trial for setting in grid if (trial := finished(folder, setting, key))}
    emotions = train.shares.shape[1]
    names = targets or [str(e) for e in range(emotions)]
    done, total = len(trials) * emotions, len(grid) * emotions
    for scaler in dict.fromkeys(setting.scaler for setting in grid if setting not in trials):
        left = [setting for setting in grid if setting.scaler == scaler and setting not in trials]
        parts: dict[Setting, dict[int, Fit]] = {setting: {} for setting in left}
        with problem(train.features, train.shares, scaler, folder / "features.npy") as posed:
            for setting, emotion, fit in fits(posed, left):
                parts[setting][emotion] = fit
                if len(parts[setting]) == emotions:
                    model = posed.model([parts[setting][e] for e in range(emotions)])
                    trials[setting] = judge(setting, model, devel, list(parts.pop(setting).values()), names, metrics)
                    model.save(path_of(folder, setting), key=key, trial=asdict(trials[setting]))
                done += 1
                if advance:
                    advance(done, total)
    return [trials[setting] for setting in grid]


def refit(split: Split, setting: Setting, folder: Path) -> Model:
    """The model of one setting, fitted on all clips of a split; read from `folder` where it holds it already."""
    path, key = folder / f"refit-{setting.name}.safetensors", fingerprint([split], [])
    if path.exists():
        with suppress(EmoshareError):  # a damaged file is written again
            model, metadata = Model.load(path)
            if metadata.get("key") == key:
                return model
    with problem(split.features, split.shares, setting.scaler, folder / "features.npy") as posed:
        found = {emotion: fit for _, emotion, fit in fits(posed, [setting])}
        model = posed.model([found[e] for e in range(split.shares.shape[1])])
    model.save(path, key=key)
    return model


def fits(posed: Problem, settings: Sequence[Setting]) -> Iterator[tuple[Setting, int, Fit]]:
    """Every emotion of every setting, in the order in which they are done."""
    tasks = [(setting, emotion) for setting in settings for emotion in range(posed.targets.shape[1])]

    def arguments(setting: Setting, emotion: int) -> tuple[Path, np.ndarray, Setting]:
        return posed.path, posed.targets[:, emotion], setting

    count = min(workers(posed.bytes), len(tasks))
    if count == 1:
        for setting, emotion in tasks:
            yield setting, emotion, regress(*arguments(setting, emotion))
        return
    from joblib import Parallel, delayed

    pool = Parallel(count, return_as="generator_unordered", pre_dispatch=count, batch_size=1)
    yield from pool(delayed(numbered)(task, *arguments(*task)) for task in tasks)


def numbered(task: tuple[Setting, int], *arguments: Any) -> tuple[Setting, int, Fit]:
    """What a process of the pool does."""
    return *task, regress(*arguments)


def workers(needed: int) -> int:
    """Processes for fits that take so many bytes each: as many as there are cores, and as memory allows.

    A run beside others has a part of the cores (LOKY_MAX_CPU_COUNT), and so the same part of the memory.
    """
    if needed < SMALL:
        return 1
    import joblib
    import psutil

    cores = joblib.cpu_count()
    part = min(cores / usable_cores(), 1)
    return max(min(cores, int(psutil.virtual_memory().available * SHARE * part / needed)), 1)


def judge(
    setting: Setting, model: Model, devel: Split, parts: Sequence[Fit], targets: Sequence[str],
    metrics: Sequence[Metric] = METRICS,
) -> Trial:  # fmt: skip
    """Score a model on devel; targets: names of the emotions."""
    predicted, true = model.predict(devel.features), devel.shares.astype(np.float64)
    varying = [target for target in targets if target not in constant_targets(true, targets)]
    same = [target for target in constant_targets(predicted, targets) if target in varying]
    ratios = predicted.std(0) / np.maximum(true.std(0), 1e-12)
    return Trial(
        setting=setting,
        scores=mean_scores(score_all(metrics, true, predicted)),
        spread=float(min(ratio for target, ratio in zip(targets, ratios, strict=True) if target in varying)),
        converged=all(fit.converged for fit in parts),
        seconds=sum(fit.seconds for fit in parts),
        constant=ALL if same == varying else ", ".join(same),
    )


def choose(trials: Sequence[Trial], select: Metric) -> Trial:
    """The best trial by a metric on devel; of equals the first.

    A setting that predicts one share for all clips, whatever the emotion, is never chosen.

    Raises:
        EmoshareError: all settings are such.
    """
    usable = [trial for trial in trials if trial.constant != ALL]
    if not usable:
        raise EmoshareError(
            "head=svr: every setting of the grid predicts constants, one share for all clips of devel; add "
            f"a C above {max(trial.setting.C for trial in trials):g} to head.grid, or train on more clips or other "
            "features"
        )
    return usable[select.best([trial.scores[select.name] for trial in usable])]


def doubts(best: Trial, trials: Sequence[Trial], select: Metric) -> list[str]:
    """What a user should know of the chosen setting, a line each."""
    found = []
    if best.constant:
        found.append(
            f"the chosen {best.setting.name} predicts a constant, one share for all clips of devel: {best.constant}"
        )
    costs = sorted({trial.setting.C for trial in trials})
    if len(costs) > 1 and best.setting.C in (costs[0], costs[-1]):
        side, more = ("largest", "larger") if costs[-1] == best.setting.C else ("smallest", "smaller")
        found.append(f"head.grid: the best C, {best.setting.C:g}, is the {side} of the grid; {more} ones may do better")
    if not select.correlation and best.spread < FLAT:
        found.append(
            f"head.select: {select.name} has chosen predictions that hardly vary; {AVG.name} weighs correlation as well"
        )
    agreement, score = best.scores.get(CCC.name, math.nan), best.scores[select.name]
    if select.correlation and CCC.name not in (select.name, *select.parts) and agreement < score / 2:
        found.append(
            f"head.select: {select.name} has chosen badly scaled predictions ({select.label} {score:.3f}, "
            f"{CCC.label} {agreement:.3f}); {AVG.name} weighs both"
        )
    if not best.converged:
        found.append(f"the SVR with C={best.setting.C:g} did not converge in {FIXED['max_iter']:,} iterations")
    return found


# Files of a search


def path_of(folder: Path, setting: Setting) -> Path:
    return folder / f"{setting.name}.safetensors"


def load_model(folder: Path, setting: Setting) -> Model:
    """The model of a setting that a search has finished."""
    return Model.load(path_of(folder, setting))[0]


def finished(folder: Path, setting: Setting, key: str) -> Trial | None:
    """The trial of a setting that an earlier search of the same data finished."""
    try:
        _, metadata = Model.load(path_of(folder, setting))
    except EmoshareError:  # not there, or damaged
        return None
    if metadata.get("key") != key:
        return None
    return replace(Trial(**metadata["trial"]), setting=setting)


def fingerprint(splits: Sequence[Split], metrics: Sequence[str]) -> str:
    """A hash of what the models and scores of a setting depend on; metrics: what tells them apart."""
    import sklearn

    arrays = [np.ascontiguousarray(array) for split in splits for array in (split.features, split.shares)]
    content = [[list(a.shape), str(a.dtype), hashlib.sha256(a.data).hexdigest()] for a in arrays]
    return digest([VERSION, sklearn.__version__, FIXED, RANDOM_STATE, content, list(metrics)])
