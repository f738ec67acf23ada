"""backbone.type=prosody: pitch, loudness, spectrum and cepstra, measured frame by frame."""

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

    name: str = key("prosody", "name in tables and run names", file_name=True, neutral=True)
    type: str = key("prosody", "the kind of backbone")
    dim: int = key(83, "features per frame", at_least=1, at_most=MANY)

    path = "prosody"
    own_samples: ClassVar[bool] = True
    whole_clips: ClassVar[bool] = True
    voiced: ClassVar[bool] = True
    terms: ClassVar[str] = "part of emoshare, MIT"

    def check_loadable(self, window: WindowConfig) -> None:
        from emoshare.backbones.prosody import check

        check(self, window)

    def load(self, window: WindowConfig, dtype: Any, seed: int, cache: Path) -> Backbone:
        from emoshare.backbones.prosody import load

        return load(self, window)

    def version(self) -> Any:
        from emoshare.backbones.prosody import VERSION

        return VERSION
