"""backbone.type=logmel: log-mel bands, a backbone that has learned nothing."""

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

    name: str = key("logmel", "name in tables and run names", file_name=True, neutral=True)
    type: str = key("logmel", "the kind of backbone")
    dim: int = key(80, "mel bands", at_least=1, at_most=MANY)

    path = "logmel"
    conv_norm, normalize = None, False
    terms: ClassVar[str] = "part of emoshare, MIT"

    def load(self, window: WindowConfig, dtype: Any, seed: int, cache: Path) -> Backbone:
        from emoshare.backbones.logmel import load

        return load(self, window)
