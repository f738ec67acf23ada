"""backbone.type=features: a vector or frames per clip that another tool has made, from a file or a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from emoshare.core.backbones import BackboneOptions
from emoshare.core.config import Config, FramesConfig, WindowConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.parts import no_variants
from emoshare.core.schema import MANY, MISSING, key


@dataclass
class Options(BackboneOptions):
    """Its options."""

    path: str = key(MISSING, "file (.npz, .csv, .parquet) or folder (of .npy, .npz) with the features", neutral=True)
    type: str = key("features", "the kind of backbone")
    dim: int = key(MISSING, "features per frame, read from the file", at_least=1, at_most=MANY, neutral=True)
    shape: str = key(
        MISSING, "one vector per clip, or frames over time; read from the file", choices=("vector", "frames"),
        neutral=True,
    )  # fmt: skip

    own_samples: ClassVar[bool] = True
    whole_clips: ClassVar[bool] = True
    from_file: ClassVar[bool] = True
    fetchable: ClassVar[bool] = False

    @property
    def vector(self) -> bool:
        return self.shape == "vector"

    @property
    def checkpoint_keys(self) -> tuple[str, ...]:
        return ("name", "dim", "shape")

    def problems(self, config: Config) -> Iterator[str]:
        if reason := config.unstorable:
            yield f"backbone.type=features: frames of a file are stored as they are, and here {reason}"
        elif not self.cache:
            yield "backbone.cache=false: frames of a file are stored as they are; set it to true"
        if config.augment:
            yield no_variants(self.name)

    def settle_from(self, window: WindowConfig, cache: Path | None = None) -> Options:
        from emoshare.backbones.features import settle

        return settle(self, cache)

    def check_clips(self, files: Sequence[str], cache: Path) -> list[str]:
        from emoshare.backbones.features import read_facts

        return read_facts(self, cache).match(files, self.path).notes

    def extractor(self, config: FramesConfig, device: Any, cache: Path) -> Any:
        from emoshare.backbones.features import FeatureExtractor

        return FeatureExtractor(self, device, cache)

    def load(self, window: WindowConfig, dtype: Any, seed: int, cache: Path) -> Any:
        """Raises EmoshareError: there is no encoder."""
        raise EmoshareError(f"{self.name}: its features come from {self.path}, and nothing here computes them")

    def sources(self, cache: Path) -> dict[str, Any]:
        from emoshare.backbones.features import fingerprint

        return {"folder" if Path(self.path).expanduser().is_dir() else "file": fingerprint(self.path, cache)}
