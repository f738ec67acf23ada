"""One linear support vector regression per emotion, as the challenge's baselines have it: (N, F) → shares (N, E).

Of scaled features x it is scikit-learn's LinearSVR with epsilon 0: w and b minimise
½(‖w‖² + b²) + C Σ ℓ(y − w·x − b) with ℓ(r) = |r| (`epsilon_insensitive`) or r² (`squared_epsilon_insensitive`).
`svr_solver.py` fits it. A fitted model is four arrays.

Shapes: N clips, F features, E emotions. Nothing here imports PyTorch: a model predicts without.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emoshare.core.errors import EmoshareError
from emoshare.core.files import replacing
from emoshare.core.hashing import SEAL, digest

SCALERS = ("standard", "minmax")
LOSSES = ("epsilon_insensitive", "squared_epsilon_insensitive")
CHUNK = 2048  # rows that are converted to float64 at once
FACTS = "emoshare"  # the one key of a file's metadata: safetensors writes several in an order of its own each time


@dataclass(frozen=True)
class Setting:
    """One point of the grid, the same for all emotions."""

    scaler: str  # one of SCALERS
    loss: str  # one of LOSSES
    C: float

    @property
    def name(self) -> str:
        return f"{self.scaler}-{self.loss}-{self.C:g}"


@dataclass(frozen=True, eq=False)
class Model:
    """Fitted regressions: shares = (features − shift) / scale · weightsᵀ + bias. All arrays are float64."""

    shift: np.ndarray  # (F,)
    scale: np.ndarray  # (F,)
    weights: np.ndarray  # (E, F)
    bias: np.ndarray  # (E,)

    def predict(self, features: np.ndarray) -> np.ndarray:
        """(N, F) → (N, E) float64, not clipped to [0, 1]."""
        return np.concatenate([rescale(c, self.shift, self.scale) @ self.weights.T + self.bias for c in rows(features)])

    def save(self, path: Path, **metadata: Any) -> None:
        """Write arrays and JSON-able metadata to a safetensors file, whole or not at all."""
        from safetensors.numpy import save_file

        arrays = {"shift": self.shift, "scale": self.scale, "weights": self.weights, "bias": self.bias}
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        metadata = metadata | {SEAL: fingerprint(arrays, metadata)}
        with replacing(path) as temporary:
            save_file(arrays, temporary, {FACTS: json.dumps(metadata, sort_keys=True)})

    @classmethod
    def load(cls, path: Path) -> tuple[Model, dict[str, Any]]:
        """A saved model and its metadata. Raises EmoshareError where the file is not one, or is damaged."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "np") as file:
                arrays = {name: file.get_tensor(name) for name in ("shift", "scale", "weights", "bias")}
                metadata = dict(json.loads((file.metadata() or {}).get(FACTS, "{}")))
            model = cls(**arrays)
            model.check()
            if metadata.pop(SEAL, None) not in (None, fingerprint(arrays, metadata)):
                raise ValueError("its content is not what was written")
        except (OSError, ValueError, TypeError, RecursionError, SafetensorError) as error:
            raise EmoshareError(f"{path}: not a fitted SVR ({error}); fit the run again") from None
        return model, metadata

    def check(self) -> None:
        """ValueError where the arrays are not those of one model."""
        shapes = [array.shape for array in (self.shift, self.scale, self.weights, self.bias)]
        features, emotions = shapes[0], shapes[3]
        if len(features) != 1 or len(emotions) != 1 or shapes != [features, features, emotions + features, emotions]:
            raise ValueError(f"arrays of shapes {', '.join(map(str, shapes))}")
        if not all(array.dtype == np.float64 for array in (self.shift, self.scale, self.weights, self.bias)):
            raise ValueError("arrays of another type than float64")
        if not all(np.isfinite(array).all() for array in (self.shift, self.scale, self.weights, self.bias)):
            raise ValueError("a number is not finite")


def fingerprint(arrays: dict[str, np.ndarray], metadata: dict[str, Any]) -> str:
    """A hash of all that a file of a model holds."""
    return digest([*([name, hashlib.sha256(array.data).hexdigest()] for name, array in arrays.items()), metadata])


def rows(features: np.ndarray) -> Iterator[np.ndarray]:
    """(N, F) in pieces of at most CHUNK rows, as float64."""
    for start in range(0, max(len(features), 1), CHUNK):
        yield features[start : start + CHUNK].astype(np.float64)


def rescale(features: np.ndarray, shift: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return (features - shift) / scale


def fit_scaler(features: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Shift and scale (F,) of scikit-learn's StandardScaler or MinMaxScaler; scale 1 where a feature is constant."""
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    scaler = {"standard": StandardScaler, "minmax": MinMaxScaler}[kind]()
    for piece in rows(features):
        scaler.partial_fit(piece)
    if kind == "standard":
        return scaler.mean_, scaler.scale_
    return scaler.data_min_, 1 / scaler.scale_
