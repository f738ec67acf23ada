"""A backbone of the user's own: an nn.Module from outside the package, made as `MyBackbone(**options)`.

It has `width` (D numbers per frame), `frame_counts(samples (N,)) -> (N,)` in NumPy's integers, and
`forward(waves (B, N) float32, lengths (B,)) -> (frames (B, T, D), counts (B,))`. With window.pad=zeros every clip has
the window's length, and its zeros are part of it; with window.pad=none samples from `lengths` on are zeros that do not
count. It may also say `equal_lengths = True` (it takes clips of one length alone) and `float32_only = False` (it can
compute in the precision of its weights, when these are made half).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from emoshare.core.backbones import BackboneOptions
from emoshare.core.config import WindowConfig
from emoshare.core.hashing import path_fingerprint
from emoshare.core.kinds import Outside
from emoshare.core.schema import key

if TYPE_CHECKING:
    from torch import Tensor

    from emoshare.backbones.base import Backbone


def is_place(value: str) -> bool:
    """Whether an option names a file, or a folder by more than a word."""
    return ("/" in value and Path(value).expanduser().exists()) or Path(value).is_file()


@dataclass
class Options(Outside, BackboneOptions):
    """Its dotted name and its options."""

    _weights_: str | None = key(None, "folder with weights of it, as safetensors, in place of its own")

    type = "outside"
    given: ClassVar[int] = 0
    apart: ClassVar[str] = "a class from outside is no part of a concat; fuse the runs"

    @property
    def path(self) -> str:  # type: ignore[override]
        return self._target_

    @property
    def fetchable(self) -> bool:
        return False

    @property
    def seeded(self) -> bool:  # its class may draw its weights
        return True

    def check_loadable(self, window: WindowConfig) -> None:
        """Raise EmoshareError unless the class makes a backbone; before anything is computed."""
        from emoshare.backbones.outside import probe

        probe(self, window)

    def load(self, window: WindowConfig, dtype: Any, seed: int, cache: Path) -> Backbone:
        from emoshare.backbones.outside import load

        return load(self, window, dtype, seed)

    def sources(self, cache: Path) -> dict[str, Any]:
        """The class, and the fingerprints of the files and folders that its options name."""
        named = {**self.options, "_weights_": self._weights_}
        places = {name: Path(value) for name, value in named.items() if isinstance(value, str) and is_place(value)}
        fingerprints = {name: path_fingerprint(place, cache / "fingerprints") for name, place in places.items()}
        return {"class": self._target_, "files": {name: value for name, value in fingerprints.items() if value}}

    def write(self, window: WindowConfig, seed: int, weights: dict[str, Tensor], folder: Path) -> None:
        """Write its weights as data, those that a run has trained in place of its own."""
        from emoshare.backbones.outside import write

        write(self, window, seed, weights, folder)

    @property
    def place(self) -> str:
        return self._weights_ or ""

    def with_place(self, place: str) -> Options:
        return replace(self, _weights_=place)
