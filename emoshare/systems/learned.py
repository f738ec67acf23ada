"""Trained heads: frames → shares, saved as data, and as a graph for export.

Shapes: B clips, T frames, W numbers per frame, F features of a pooled clip, E targets.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError, NotAtHandError, brief
from emoshare.core.files import replacing, without_paths
from emoshare.core.hashing import read_sealed, write_sealed
from emoshare.core.outside import is_allowed, locate
from emoshare.models.functionals import POOLINGS, pool, pooled_width
from emoshare.models.svr import Model as Regression
from emoshare.runs.folder import Run
from emoshare.runs.results import Results
from emoshare.training.weights import load_head, make_head

log = logging.getLogger("emoshare")
HEAD, SVR, ESTIMATOR, FACTS = "head.safetensors", "svr.safetensors", "estimator.skops", "estimator.json"
REMEDY = "do not use it, or export the run again"


class SavedRun(Protocol):
    """A trained model on disk, as `inference.bundle.Bundle` is one."""

    folder: Path
    config: Config
    results: Results
    exported: bool

    def check(self, name: str) -> None:
        """Raise EmoshareError where a file of the folder is not what was written."""


class LearnedHead(Protocol):
    """A trained head: frames → shares, on one device."""

    module: nn.Module | None  # that gives the shares, if one does: in evaluation mode, in float32

    def to(self, device: torch.device) -> None:
        """Move to a device."""

    def score(self, frames: Tensor, counts: Tensor) -> np.ndarray:
        """Predict: frames (B, T, W) and the number of them that count (B,) → shares (B, E) float32."""

    def graph(self) -> nn.Module:
        """The head as a module that can be traced. EmoshareError where there is none."""

    def save(self, folder: Path) -> None:
        """Write it into an exported folder, as data."""


class NetworkHead(LearnedHead):
    """A head of PyTorch."""

    def __init__(self, module: nn.Module) -> None:
        self.module: Any = module.float().eval().requires_grad_(False)

    def to(self, device: torch.device) -> None:
        self.module.to(device)

    def score(self, frames: Tensor, counts: Tensor) -> np.ndarray:
        return self.module(frames, counts).float().cpu().numpy()

    def graph(self) -> nn.Module:
        return self.module

    def save(self, folder: Path) -> None:
        from safetensors.torch import save_file

        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.module.state_dict().items()}
        save_file(state, folder / HEAD)


class RegressionHead(LearnedHead):
    """A support vector regression on pooled frames."""

    module: nn.Module | None = None

    def __init__(self, model: Regression, noted: dict[str, Any]) -> None:
        self.model, self.noted = model, noted

    def to(self, device: torch.device) -> None:
        """It computes where NumPy does."""

    def score(self, frames: Tensor, counts: Tensor) -> np.ndarray:
        vectors = pool_clips(frames, counts, self.noted["pooling"], self.noted.get("voicing"))
        return self.model.predict(vectors).astype(np.float32)

    def graph(self) -> nn.Module:
        return RegressionGraph(self.model, self.noted)

    def save(self, folder: Path) -> None:
        self.model.save(folder / SVR, **without_paths(self.noted))


class EstimatorHead(LearnedHead):
    """A regressor of scikit-learn's kind on pooled frames."""

    module: nn.Module | None = None

    def __init__(self, model: Any, noted: dict[str, Any], name: str) -> None:
        self.model, self.noted, self.name = model, noted, name

    def to(self, device: torch.device) -> None:
        """It computes where NumPy does."""

    def score(self, frames: Tensor, counts: Tensor) -> np.ndarray:
        vectors = pool_clips(frames, counts, self.noted["pooling"], self.noted.get("voicing"))
        return predict_shares(self.model, vectors)

    def graph(self) -> nn.Module:
        raise EmoshareError(f"{self.name}: an estimator of scikit-learn's has no graph; --to hub exports every run")

    def save(self, folder: Path) -> None:
        save_estimator(self.model, folder, without_paths(self.noted))


def predict_shares(model: Any, features: np.ndarray) -> np.ndarray:
    """Predict by a fitted estimator: features (N, F) → shares (N, E) float32."""
    shares = np.asarray(model.predict(features.astype(np.float64)), np.float32)
    return shares.reshape(len(features), -1)


def save_estimator(model: Any, folder: Path, noted: dict[str, Any]) -> None:
    """Write a fitted estimator as skops does, which is data, and the facts about it."""
    import skops.io

    with replacing(folder / ESTIMATOR) as temporary:
        skops.io.dump(model, temporary)
    write_sealed(folder / FACTS, noted)


def read_estimator(path: Path) -> Any:
    """Read a fitted estimator. EmoshareError where it cannot be read, or holds types that nobody has allowed."""
    try:
        import skops.io
    except ImportError:
        raise NotAtHandError(
            f'{path}: skops reads it, and is not installed; run `pip install "emoshare[skops]"`'
        ) from None
    try:
        types = skops.io.get_untrusted_types(file=path)
        refused = [name for name in types if not is_allowed(name)]
        if not refused:
            if types:
                log.info("%s: trusted, as allowed: %s", path, ", ".join(types))
            for name in types:
                locate(name)
            return skops.io.load(path, trusted=types)
    except EmoshareError:
        raise
    except Exception as error:
        raise EmoshareError(f"{path}: not a saved estimator ({brief(error)}); train or export the run again") from None
    modules = sorted({name.partition(".")[0] for name in refused})
    flags, listed = " ".join(f"--allow {name}" for name in modules), ", ".join(f'"{name}"' for name in modules)
    raise EmoshareError(
        f"{path}: holds {', '.join(refused)}, code from outside emoshare, which is not run unless you allow it; if you "
        f"trust it add {flags} (in Python: allow=[{listed}])"
    )


class RegressionGraph(nn.Module):
    """An SVR on pooled frames: (B, T, D), (B,) → (B, E)."""

    shift: Tensor  # (F,) float64, as the others
    scale: Tensor  # (F,)
    weights: Tensor  # (E, F)
    bias: Tensor  # (E,)

    def __init__(self, model: Regression, noted: dict[str, Any]) -> None:
        super().__init__()
        self.pooling, self.voicing = noted["pooling"], noted.get("voicing")
        for name in ("shift", "scale", "weights", "bias"):
            self.register_buffer(name, torch.from_numpy(getattr(model, name)).double())

    def features(self, frames: Tensor, counts: Tensor) -> Tensor:
        """(B, T, D), (B,) → (B, F)."""
        if self.pooling == "none":
            return frames[:, 0]
        if self.pooling == "functionals":  # which look at each frame's two neighbours
            frames = functional.pad(frames, (0, 0, 0, 3))
        return pool(frames, counts, self.pooling, self.voicing)

    def forward(self, frames: Tensor, counts: Tensor) -> Tensor:
        vectors = self.features(frames, counts).double()
        return ((vectors - self.shift) / self.scale @ self.weights.T + self.bias).float()


def pool_clips(frames: Tensor, counts: Tensor, pooling: str, voicing: int | None) -> np.ndarray:
    """Pool frames (B, T, W), of which (B,) count, to a vector per clip (B, F) float32."""
    vectors = frames[:, 0] if pooling == "none" else pool(frames, counts, pooling, voicing)
    return vectors.float().cpu().numpy()


def load_network(run: SavedRun) -> NetworkHead:
    """The network of a run or an exported folder. EmoshareError where its weights cannot be read, or are another's."""
    if not run.exported:
        return NetworkHead(load_head(Run(run.folder), run.config, run.results))
    head = make_head(run.config.head, run.results, tensors(run.folder / HEAD))
    run.check(HEAD)
    return NetworkHead(head)


def load_regression(run: SavedRun) -> RegressionHead:
    """The SVR that predicts new clips. EmoshareError where it cannot be read."""
    path = run.folder / SVR
    model, noted = Regression.load(path)
    check_regression(path, model, noted, run.results)
    run.check(SVR)
    return RegressionHead(model, noted)


def load_estimator(run: SavedRun) -> EstimatorHead:
    """The estimator that predicts new clips. EmoshareError where it cannot be read, or is not allowed."""
    path = run.folder / FACTS
    noted = read_sealed(path, REMEDY)
    pooling, voicing = noted.get("pooling"), noted.get("voicing")
    if pooling not in ("none", *POOLINGS) or not (voicing is None or type(voicing) is int):
        raise EmoshareError(f"{path}: no facts about an estimator; {REMEDY}")
    run.check(FACTS)
    run.check(ESTIMATOR)
    return EstimatorHead(read_estimator(run.folder / ESTIMATOR), noted, run.results.run)


def tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. EmoshareError where it is not one."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise EmoshareError(f"{path}: not readable ({brief(error)}); export the run again") from None


def check_regression(path: Path, model: Regression, noted: dict[str, Any], results: Results) -> None:
    """Raise EmoshareError where an SVR does not fit the run's targets and frames."""
    pooling, voicing = noted.get("pooling"), noted.get("voicing")
    width = results.backbone.width
    if pooling not in ("none", *POOLINGS):
        raise EmoshareError(f"{path}: pooling is {pooling}, not one of none, {', '.join(POOLINGS)}; {REMEDY}")
    if noted.get("targets", results.targets) != results.targets:
        raise EmoshareError(f"{path}: its targets are {noted['targets']}, not those of the run; {REMEDY}")
    if voicing is not None and not (type(voicing) is int and 0 <= voicing < width):
        raise EmoshareError(f"{path}: voicing is {voicing}, not the number of a feature; {REMEDY}")
    expected = (len(results.targets), pooled_width(width, pooling, voicing))
    if model.weights.shape != expected:
        actual = " × ".join(map(str, model.weights.shape))
        raise EmoshareError(
            f"{path}: weights of {actual}, not of {expected[0]} targets × {expected[1]} features; {REMEDY}"
        )
