"""`emoshare bench svr`: the grid of `head=svr` and a refit on random features, against scikit-learn's LinearSVR.

Shapes: N clips, F features, E emotions.
"""

from __future__ import annotations

import logging
import resource
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from emoshare.core.config import Config
from emoshare.core.cores import usable_cores
from emoshare.core.hardware import choose_device
from emoshare.core.progress import Meter
from emoshare.metrics.registry import find
from emoshare.models.svr import Model, Setting, fit_scaler, rescale
from emoshare.training.grid import Fitter, Split, choose, judge, settings
from emoshare.training.source import set_threads

log = logging.getLogger("emoshare")
DEVEL = 9_925 / 31_745  # of the challenge's train clips, that a refit adds
FACTORS, NOISE = 0.125, 0.5  # of the features: how many they share, and the standard deviation of their own part
CHUNK = 2048
REFERENCE = {"epsilon": 0.0, "tol": 1e-4, "max_iter": 50_000, "dual": True, "random_state": 42}  # the challenge's


def run(config: Config) -> None:
    """Print the seconds of both, the largest gap and the largest difference of objectives."""
    head: Any = config.head
    clips, width = config.bench.corpus, config.bench.features
    both = random_clips(clips + round(clips * DEVEL), width, len(config.data.targets))
    train, grid = both.first(clips), settings(head.scalers, head.losses, head.grid)
    set_threads(config.trainer.threads or usable_cores())
    fitter = Fitter(choose_device(config.trainer), report=Meter(log, f"{clips:,} × {width:,}").report)
    with time_block(f"grid, {len(grid)} settings of {both.shares.shape[1]} emotions") as ours:
        fits = list(fitter.fit(train, grid))
    gap, devel = max(gap for _, _, gap, _ in fits), Split(both.features[clips:], both.shares[clips:])
    trials = [judge(*fit[:2], devel, *fit[2:], config.data.targets) for fit in fits]
    best = choose(trials, find(head.select)).setting
    print("steps: " + ", ".join(f"{setting.name} {steps}" for setting, _, _, steps in fits if steps))
    with time_block(f"refit of {best.name}, the best on the {len(devel.features):,} clips more"):
        ((_, _, refit_gap, _),) = fitter.fit(both, [best])
    print(f"largest gap {gap:.1e}, of the refit {refit_gap:.1e}; peak memory {peak_gb():.2f} GB")
    if not config.bench.reference:
        print(f"grid: {ours[0]:.1f} s, gap {max(gap, refit_gap):.1e}")
        return
    with time_block("scikit-learn") as theirs:
        lower, higher = differences(train, {setting: model for setting, model, _, _ in fits})
    print(
        f"objectives: ours at most {max(higher, 0):.1e} above scikit-learn's and {max(-lower, 0):.1e} below, relative"
    )
    print(f"grid: {theirs[0] / ours[0]:.1f} × scikit-learn, gap {max(gap, refit_gap):.1e}")


@contextmanager
def time_block(name: str) -> Iterator[list[float]]:
    """Print how long the block took; the list then holds its seconds."""
    seconds: list[float] = []
    wall, cpu = time.perf_counter(), time.process_time()
    yield seconds
    seconds.append(time.perf_counter() - wall)
    print(f"{name}: {seconds[0]:.1f} s, {time.process_time() - cpu:.1f} CPU s", flush=True)


def random_clips(clips: int, width: int, emotions: int) -> Split:
    """Correlated features of unlike scale, (N, F) float32, and shares in steps of a twentieth that depend on them."""
    numbers = np.random.default_rng(0)
    count = max(int(width * FACTORS), 1)
    sizes = np.arange(1, count + 1, dtype=np.float32) ** -0.5
    mixing = numbers.standard_normal((count, width), np.float32) / np.sqrt((sizes**2).sum())
    effects = numbers.standard_normal((count, emotions), np.float32)
    scale = 10 ** numbers.uniform(-3, 3, width).astype(np.float32)
    features, shares = np.empty((clips, width), np.float32), np.empty((clips, emotions), np.float32)
    for start in range(0, clips, CHUNK):
        rows = slice(start, min(start + CHUNK, clips))
        factors = numbers.standard_normal((rows.stop - start, count), np.float32) * sizes
        noise = numbers.standard_normal((rows.stop - start, width), np.float32)
        features[rows] = (factors @ mixing + NOISE * noise + 1) * scale
        signal = factors @ effects + 0.7 * numbers.standard_normal((rows.stop - start, emotions), np.float32) - 1
        shares[rows] = np.round(20 / (1 + np.exp(-signal))) / 20
    return Split(features, shares)


def differences(train: Split, models: dict[Setting, Model]) -> tuple[float, float]:
    """The least and the largest difference of our objective from scikit-learn's, relative to it; on all cores."""
    excesses = []
    for kind in dict.fromkeys(setting.scaler for setting in models):
        inputs = rescale(train.features.astype(np.float64), *fit_scaler(train.features, kind))
        labels = train.shares.astype(np.float64)

        def compare(task: tuple[Setting, int], inputs: np.ndarray = inputs, labels: np.ndarray = labels) -> float:
            setting, emotion = task
            model, y = models[setting], labels[:, emotion]
            theirs = objective(setting, inputs, y, *reference(setting, inputs, y))
            return objective(setting, inputs, y, model.weights[emotion], float(model.bias[emotion])) / theirs - 1

        tasks = [(setting, e) for setting in models if setting.scaler == kind for e in range(labels.shape[1])]
        with ThreadPoolExecutor(usable_cores()) as pool:  # liblinear releases Python's lock
            excesses += list(pool.map(compare, tasks))
    return min(excesses), max(excesses)


def reference(setting: Setting, inputs: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights (F,) and intercept of scikit-learn's LinearSVR."""
    from sklearn.svm import LinearSVR

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        svr = LinearSVR(loss=setting.loss, C=setting.C, **REFERENCE).fit(inputs, y)
    return svr.coef_, float(np.ravel(svr.intercept_)[0])


def objective(setting: Setting, inputs: np.ndarray, y: np.ndarray, weights: np.ndarray, bias: float) -> float:
    residual = y - inputs @ weights - bias
    loss = np.square(residual) if setting.loss == "squared_epsilon_insensitive" else np.abs(residual)
    return float((weights @ weights + bias**2) / 2 + setting.C * loss.sum())


def peak_gb() -> float:
    """Memory of this process at its peak."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
