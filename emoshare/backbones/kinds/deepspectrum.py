"""backbone.type=deepspectrum: a mel spectrogram as a picture, described by a CNN of ImageNet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from emoshare.backbones.kinds.checkpoint import CheckpointOptions
from emoshare.core.config import WindowConfig
from emoshare.core.schema import MANY, key

if TYPE_CHECKING:
    from torch import Tensor

    from emoshare.backbones.base import Backbone


@dataclass
class Options(CheckpointOptions):
    """Its options."""

    name: str = key("deepspectrum", "name in tables and run names", file_name=True, neutral=True)
    type: str = key("deepspectrum", "the kind of backbone")
    dim: int = key(2048, "features per frame", at_least=1, at_most=MANY)
    parameters: int | None = key(
        None, "expected parameters of the CNN without its classifier; null: any", at_least=1, at_most=1e12,
        neutral=True,
    )  # fmt: skip

    own_samples: ClassVar[bool] = True

    @property
    def vector(self) -> bool:
        return True

    def check_loadable(self, window: WindowConfig) -> None:
        """As for every backbone. A checkpoint that has to be fetched first is left to `load`."""
        from emoshare.backbones import checkpoint
        from emoshare.backbones.deepspectrum import check

        if "/" not in self.path or checkpoint.at_hand(self):
            check(self, window)

    def load(self, window: WindowConfig, dtype: Any, seed: int, cache: Path) -> Backbone:
        from emoshare.backbones.deepspectrum import load

        return load(self, window, seed)

    def write(self, window: WindowConfig, seed: int, weights: dict[str, Tensor], folder: Path) -> None:
        from emoshare.backbones.writing import write_cnn

        write_cnn(self, seed, weights, folder)
