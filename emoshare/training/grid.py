"""The grid search of an SVR: every setting is fitted on train and scored on devel; finished ones survive a kill.

Each setting's fitted model is a file in the search's folder, with its scores.

Shapes: N clips, F features, E emotions.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from emoshare.core.errors import EmoshareError
from emoshare.core.files import replacing
from emoshare.core.hashing import digest
from emoshare.core.leftovers import delete
from emoshare.metrics.agreement import CCC
from emoshare.metrics.error import MAE
from emoshare.metrics.metric import Metric, mean_scores, score_all
from emoshare.metrics.outside import source_hash
from emoshare.metrics.registry import AVG, STANDARD
from emoshare.metrics.scores import constant_targets
from emoshare.models.svr import Model, Setting, fit_scaler
from emoshare.models.svr_solver import CHUNK, EXACT, LIMIT, Basis, Design, Scatter, decompose, solve

log = logging.getLogger("emoshare")
VERSION = 5  # of the search: raise it when the same data gives other models
LARGE = 2000  # rows of a Gram matrix from which on its decomposition, of seconds to minutes, is stored
ABANDONED = 7 * 86_400  # seconds after which a run that was killed is not taken up again
CPU = torch.device("cpu")
FLAT = 0.1  # spread of predictions, relative to the labels', below which they are hardly better than a constant
METRICS = (*STANDARD, MAE)  # that every setting is scored by
ALL = "all"  # of a trial that predicts nothing but constants


@dataclass(frozen=True)
class Trial:
    """A setting and its scores on devel."""

    setting: Setting
    scores: dict[str, float]  # metric → mean over the emotions, by the rules of `metrics/scores.py`
    spread: float  # least ratio over the emotions of the predictions' standard deviation to that of the labels
    gap: float  # the most that an emotion's objective lies above its least value, relative to it
    steps: int  # of the solver, the most that an emotion took; 0 where there is a formula
    constant: str = ""  # emotions whose labels vary and that it predicts as one share: "Anger, Boredom", or "all"

    @property
    def converged(self) -> bool:
        return self.gap <= EXACT

    def row(self) -> dict[str, str | float | bool]:
        """The trial as a row of a flat table."""
        values = asdict(self)
        return {**values.pop("setting"), **values.pop("scores"), **values, "converged": self.converged}


@dataclass(frozen=True, eq=False)
class Split:
    """Pooled features and labels of some clips."""

    features: np.ndarray  # (N, F)
    shares: np.ndarray  # (N, E)

    def first(self, count: int) -> Split:
        return Split(self.features[:count], self.shares[:count])


def settings(scalers: Sequence[str], losses: Sequence[str], costs: Sequence[float]) -> list[Setting]:
    """The grid, in the challenge's order."""
    return [Setting(scaler, loss, C) for scaler in scalers for loss in losses for C in costs]


class Fitter:
    """Fits settings on clips. The clips of a later call begin with those of an earlier one, whose sums are reused.

    A large decomposition is stored in the cache by a hash of its data, so that a killed run goes on from there, until
    `forget`.

    Args:
        device: that computes, in float64.
        cache: a folder of the run's own; None: nothing is stored.
        report: called with a text and the part of the call's work that is done, from 0 to 1.
    """

    def __init__(
        self, device: torch.device = CPU, cache: Path | None = None, report: Callable[[str, float], None] | None = None
    ) -> None:
        self.device = device if device.type == "cuda" else CPU  # others have no float64
        self.cache, self.report = cache, report or (lambda _, done: None)
        self.scatter: Scatter | None = None

    def fit(self, split: Split, pending: Sequence[Setting]) -> Iterator[tuple[Setting, Model, float, int]]:
        """Each setting's model, the worst relative gap of its emotions, and the most steps that one took."""
        y = torch.from_numpy(split.shares.T.astype(np.float64)).to(self.device)  # (E, N)
        groups: dict[tuple[str, str], list[Setting]] = {}
        for setting in pending:
            groups.setdefault((setting.scaler, setting.loss), []).append(setting)
        scaler, basis = "", None
        for number, ((kind, loss), same) in enumerate(groups.items()):
            if kind != scaler:
                basis = None  # the old one goes before the new one comes
                self.report(f"{kind}: decomposition", number / len(groups))
                scaler, shift_scale = kind, fit_scaler(split.features, kind)
                design = Design(split.features, *(torch.from_numpy(part).to(self.device) for part in shift_scale))
                basis = Basis.of(design, *self.cached_decomposition(design, kind))
            assert basis is not None
            costs = torch.tensor([s.C for s in same], dtype=torch.float64, device=self.device)
            advance = self.steps(f"{kind}, {loss}", number, len(groups))
            squared = loss == "squared_epsilon_insensitive"
            solution = solve(design, basis, y.repeat(len(same), 1), costs.repeat_interleave(len(y)), squared, advance)
            weights = solution.weights.view(len(same), len(y), -1).cpu().numpy()
            worst, most = (numbers.view(len(same), -1).amax(1).tolist() for numbers in (solution.gaps, solution.steps))
            for each, setting in enumerate(same):
                model = Model(*shift_scale, weights[each, :, :-1].copy(), weights[each, :, -1].copy())
                yield setting, model, worst[each], most[each]

    def steps(self, title: str, number: int, total: int) -> Callable[[int, float], None]:
        """A function that reports a solver's progress: the fall of the worst gap's logarithm towards EXACT's."""
        first = best = math.nan

        def advance(count: int, gap: float) -> None:
            nonlocal first, best
            first, best = (gap, gap) if count == 1 else (first, min(gap, best))
            part = math.log(first / best) / math.log(first / EXACT) if best > EXACT else 1
            self.report(f"{title}: step {count}, worst gap {gap:.1e}", (number + part) / total)

        return advance

    def cached_decomposition(self, design: Design, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
        """The result of `decompose`, or the stored one of a run that was killed."""
        clips, width = design.features.shape
        if self.cache is None or min(clips, width) < LARGE:
            return self.decompose(design)
        features = np.ascontiguousarray(design.features)
        key = digest([VERSION, kind, [clips, width], hashlib.sha256(features.data).hexdigest()], 16)
        path = self.cache / f"{key}.safetensors"
        with suppress(OSError, SafetensorError, KeyError):
            stored = load_file(path, str(self.device))
            return stored["values"], stored["vectors"]
        values, vectors = self.decompose(design)
        try:
            with replacing(path) as temporary:
                save_file({"values": values, "vectors": vectors.contiguous()}, temporary)
        except OSError as error:
            log.warning("%s; if this run is killed, its decomposition is done again", error)
        return values, vectors

    def decompose(self, design: Design) -> tuple[torch.Tensor, torch.Tensor]:
        if not design.wide:
            if self.scatter is None:
                self.scatter = Scatter(torch.from_numpy(design.features[:CHUNK].mean(0, np.float64)).to(self.device))
            self.scatter.add(design.features[self.scatter.count :])
        return decompose(design, self.scatter)

    def forget(self) -> None:
        """Delete the stored decompositions of this run, and of runs that were abandoned."""
        if self.cache is None:
            return
        delete(self.cache)
        for folder in self.cache.parent.glob("*"):
            with suppress(OSError):  # another run does the same
                if time.time() - folder.stat().st_mtime > ABANDONED:
                    delete(folder)


def search(
    train: Split, devel: Split, grid: Sequence[Setting], folder: Path, fitter: Fitter | None = None,
    targets: Sequence[str] | None = None, metrics: Sequence[Metric] = METRICS,
) -> list[Trial]:  # fmt: skip
    """Fit every setting on train and score it on devel; models in `folder` are not fitted again.

    `targets` names the emotions in the trials, by default by number; `metrics` are those of the scores. The trials come
    in the grid's order; `load_model` reads the model of one.
    """
    key = fingerprint([train, devel], [metric.name + source_hash(metric.name) for metric in metrics])
    trials = {setting: trial for setting in grid if (trial := load_trial(folder, setting, key))}
    names = targets or [str(e) for e in range(train.shares.shape[1])]
    remaining = [setting for setting in grid if setting not in trials]
    for setting, model, gap, steps in (fitter or Fitter()).fit(train, remaining):
        trials[setting] = judge(setting, model, devel, gap, steps, names, metrics)
        model.save(path_of(folder, setting), key=key, trial=asdict(trials[setting]))
    return [trials[setting] for setting in grid]


def refit(split: Split, setting: Setting, folder: Path, fitter: Fitter | None = None) -> tuple[Model, float]:
    """The model of one setting, fitted on all clips of a split, and its gap; read from `folder` if it is in it."""
    path, key = folder / f"refit-{setting.name}.safetensors", fingerprint([split], [])
    if path.exists():
        with suppress(EmoshareError):  # a damaged file is written again
            model, metadata = Model.load(path)
            if metadata.get("key") == key:
                return model, metadata["gap"]
    ((_, model, gap, _),) = (fitter or Fitter()).fit(split, [setting])
    model.save(path, key=key, gap=gap)
    return model, gap


def judge(
    setting: Setting, model: Model, devel: Split, gap: float, steps: int, targets: Sequence[str],
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
        gap=gap,
        steps=steps,
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


def grid_warnings(best: Trial, trials: Sequence[Trial], select: Metric) -> list[str]:
    """Warnings about the chosen setting, a line each."""
    lines = []
    if best.constant:
        lines.append(
            f"the chosen {best.setting.name} predicts a constant, one share for all clips of devel: {best.constant}"
        )
    costs = sorted({trial.setting.C for trial in trials})
    if len(costs) > 1 and best.setting.C in (costs[0], costs[-1]):
        side, more = ("largest", "larger") if costs[-1] == best.setting.C else ("smallest", "smaller")
        lines.append(f"head.grid: the best C, {best.setting.C:g}, is the {side} of the grid; {more} ones may do better")
    if not select.correlation and best.spread < FLAT:
        lines.append(
            f"head.select: {select.name} has chosen predictions that hardly vary; {AVG.name} weighs correlation as well"
        )
    agreement, score = best.scores.get(CCC.name, math.nan), best.scores[select.name]
    if select.correlation and CCC.name not in (select.name, *select.parts) and agreement < score / 2:
        lines.append(
            f"head.select: {select.name} has chosen badly scaled predictions ({select.label} {score:.3f}, "
            f"{CCC.label} {agreement:.3f}); {AVG.name} weighs both"
        )
    if inexact := [trial for trial in trials if not trial.converged]:
        named = ", ".join(f"{trial.setting.name} ({trial.gap:.1e})" for trial in inexact)
        lines.append(f"not within {EXACT:g} of the optimum in {LIMIT:,} steps: {named}; leave out the largest C")
    return lines


# Files of a search


def path_of(folder: Path, setting: Setting) -> Path:
    return folder / f"{setting.name}.safetensors"


def load_model(folder: Path, setting: Setting) -> Model:
    """The model of a setting that a search has finished."""
    return Model.load(path_of(folder, setting))[0]


def load_trial(folder: Path, setting: Setting, key: str) -> Trial | None:
    """The trial of a setting that an earlier search of the same data finished."""
    try:
        _, metadata = Model.load(path_of(folder, setting))
    except EmoshareError:  # not there, or damaged
        return None
    if metadata.get("key") != key:
        return None
    return replace(Trial(**metadata["trial"]), setting=setting)


def fingerprint(splits: Sequence[Split], metrics: Sequence[str]) -> str:
    """A hash of all that a setting's models and scores depend on; metrics: names that tell them apart."""
    import sklearn

    arrays = [np.ascontiguousarray(array) for split in splits for array in (split.features, split.shares)]
    content = [[list(a.shape), str(a.dtype), hashlib.sha256(a.data).hexdigest()] for a in arrays]
    return digest([VERSION, sklearn.__version__, EXACT, content, list(metrics)])
