"""backbone.type=concat: several backbones, whose frames are joined side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from emoshare.core.backbones import BackboneOptions
from emoshare.core.config import Config, WindowConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.parts import parts_of, problems
from emoshare.core.schema import MANY, MISSING, key


@dataclass
class Options(BackboneOptions):
    """Its options. `parts` has the sections of the backbones, as `core.parts` reads them."""

    type: str = key("concat", "the kind of backbone")
    dim: int = key(MISSING, "features per frame: the sum of the parts'", at_least=1, at_most=MANY)
    parts: list[Any] = key([], "backbones by name or path, or by keys as in {name: hubert_large, layer: 12}")

    path = "concat"
    apart: ClassVar[str] = "type must not be concat"

    def problems(self, config: Config) -> Iterator[str]:
        yield from problems(config)

    def load(self, window: WindowConfig, dtype: Any, seed: int, cache: Path) -> Any:
        """Raises EmoshareError: there is no single encoder."""
        raise EmoshareError(
            f"{self.name}: the backbone concat is no single encoder, and its parts are loaded one by one; name one of "
            f"{', '.join(part.name for part in parts_of(self))}"
        )

    def sources(self, cache: Path) -> dict[str, Any]:
        return {"parts": [part.sources(cache) for part in parts_of(self)]}
