"""backbone.type=opensmile: openSMILE's feature sets, by its own package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from emoshare.core.backbones import BackboneOptions
from emoshare.core.config import WindowConfig
from emoshare.core.schema import MANY, key

if TYPE_CHECKING:
    from emoshare.backbones.base import Backbone


@dataclass
class Options(BackboneOptions):
    """Its options."""

    name: str = key("opensmile", "name in tables and run names", file_name=True, neutral=True)
    type: str = key("opensmile", "the kind of backbone")
    dim: int = key(6373, "features per frame; the package knows them", at_least=1, at_most=MANY)
    feature_set: str = key("ComParE_2016", "openSMILE's feature set", choices=("ComParE_2016", "eGeMAPSv02"))
    level: str = key(
        "functionals", "openSMILE's functionals, a vector per clip, or low-level descriptors, 100 frames per second",
        choices=("functionals", "lld"),
    )  # fmt: skip

    path = "opensmile"
    licence = "audEERING's own, for research alone"
    own_samples: ClassVar[bool] = True
    whole_clips: ClassVar[bool] = True
    untraceable: ClassVar[str] = "openSMILE computes its features, which cannot be expressed in ONNX or OpenVINO"
    needs: ClassVar[str] = "It also needs `pip install 'emoshare[opensmile]'`, whose licence allows research alone."

    @property
    def vector(self) -> bool:
        return self.level == "functionals"

    def check_loadable(self, window: WindowConfig) -> None:
        from emoshare.backbones.opensmile import check

        check(self, window)

    def load(self, window: WindowConfig, dtype: Any, seed: int, cache: Path) -> Backbone:
        from emoshare.backbones.opensmile import load

        return load(self, window)
