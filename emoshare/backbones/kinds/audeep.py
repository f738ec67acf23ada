"""backbone.type=audeep: recurrent autoencoders that are trained without labels on the corpus."""

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

BUILT_IN = "audeep"  # backbone.path of autoencoders that are trained on the corpus at hand


@dataclass
class Options(CheckpointOptions):
    """Its options."""

    name: str = key("audeep", "name in tables and run names", file_name=True, neutral=True)
    path: str = key(
        BUILT_IN, "audeep: trained at the first use; or a folder of trained ones, below cache/audeep", neutral=True
    )
    type: str = key("audeep", "the kind of backbone")
    dim: int = key(4096, "features per frame, 16 times the units", at_least=1, at_most=MANY)
    epochs: int = key(64, "epochs of the autoencoders' training", at_least=1, at_most=MANY)
    units: int = key(256, "units of each GRU layer", at_least=1, at_most=MANY)
    batch_size: int = key(512, "clips in a batch of the autoencoders' training", at_least=1, at_most=MANY)
    train_on_test: bool = key(True, "the autoencoders learn from the test clips, too, without labels")

    own_samples: ClassVar[bool] = True
    terms: ClassVar[str] = "trained with emoshare, MIT"
    apart: ClassVar[str] = (
        "its autoencoders are trained on the corpus by a run of its own, and no part of a concat; fuse the runs"
    )

    @property
    def vector(self) -> bool:
        return True

    @property
    def trained_first(self) -> bool:
        return self.path == BUILT_IN and self.pretrained

    @property
    def fetchable(self) -> bool:
        return not self.pretrained and self.frozen

    @property
    def checkpoint(self) -> Path | None:
        return None

    def check_loadable(self, window: WindowConfig) -> None:
        from emoshare.backbones.audeep import check

        check(self, window)

    def load(self, window: WindowConfig, dtype: Any, seed: int, cache: Path) -> Backbone:
        from emoshare.backbones.audeep import load

        return load(self, window, seed, cache)

    def write(self, window: WindowConfig, seed: int, weights: dict[str, Tensor], folder: Path) -> None:
        from emoshare.backbones.writing import copy_audeep

        copy_audeep(Path(self.path).expanduser(), folder)
