"""The base class of a backbone's options: everything that the program knows of it before it is loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, cast

from emoshare.core.errors import EmoshareError
from emoshare.core.kinds import Options
from emoshare.core.schema import MISSING, key


@dataclass
class BackboneOptions(Options):
    """The options of a backbone, which turns the samples of a clip into frames."""

    name: str = key(MISSING, "name in tables and run names", file_name=True, neutral=True)
    _: KW_ONLY
    frozen: bool = key(True, "keep its weights; false: fine-tune them with optimizer.backbone_lr")
    cache: bool = key(True, "frames are computed once and stored; false: the backbone runs in every epoch")

    # Of a class that has no such key.
    type = path = ""
    dim, layers, layer = MISSING, 0, "last"  # features of a frame, number of layers, and the one that gives the frames
    revision = licence = parameters = parts = cast(Any, None)  # parts: backbones whose frames are joined
    pretrained = True

    # Facts about a class.
    types: ClassVar[tuple[str, ...]] = ()  # values of `type` that stand for it
    own_samples: ClassVar[bool] = False  # it never sees padding
    whole_clips: ClassVar[bool] = False  # and takes a clip to its last sample, not cut down to whole frames
    voiced: ClassVar[bool] = False  # one of its features says how voiced a frame is
    normalizes: ClassVar[bool] = False  # `window.normalize` may change its frames
    convertible: ClassVar[bool] = False  # a network that extraction can hand to another engine
    terms: ClassVar[str] = ""  # the licence of what comes without a checkpoint, for the model card
    needs: ClassVar[str] = ""  # what must be installed beside emoshare, a sentence for the model card
    untraceable: ClassVar[str] = ""  # why it can be no part of an ONNX file
    apart: ClassVar[str] = ""  # why it cannot be a part of several
    from_file: ClassVar[bool] = False  # its frames are those of whole clips in a file: no sample or window is seen
    read_from_checkpoint: ClassVar[bool] = False  # whether anything of it is still to be read from its checkpoint

    @property
    def vector(self) -> bool:
        """Whether it gives one vector per clip."""
        return False

    @property
    def seeded(self) -> bool:
        """Whether its weights depend on the seed of a run."""
        return False

    @property
    def trained_first(self) -> bool:
        """Whether its weights are learned from the corpus before anything else."""
        return False

    @property
    def fetchable(self) -> bool:
        """Whether anybody can have it as a run had it, without files of the run's machine."""
        return self.frozen

    @property
    def checkpoint(self) -> Path | None:
        """The folder of a checkpoint that its frames depend on; None: there is none."""
        return None

    def canonical_values(self) -> dict[str, Any]:
        """Keys whose values make no difference here → their value in the identity; None: it has none."""
        return {}

    def for_store(self) -> Self:
        """A copy of the options as for stored frames: with the weights frozen."""
        return dataclasses.replace(self, frozen=True)

    @property
    def checkpoint_keys(self) -> tuple[str, ...]:
        """The keys whose values its files give when a command is composed."""
        return ()

    def settle_from(self, window: Any, cache: Path | None = None) -> Self:
        """A copy of the options with the facts of its checkpoint filled in; cache: the folder that remembers them."""
        return self

    def check_loadable(self, window: Any) -> None:
        """Raise EmoshareError for every mistake that shows before the weights are loaded."""

    def check_clips(self, files: Sequence[str], cache: Path) -> list[str]:
        """Warnings about the frames of clips, a line each. EmoshareError where some clips cannot have any."""
        return []

    def extractor(self, config: Any, device: Any, cache: Path) -> Any:
        """The `store.tensors.Extractor` of a FramesConfig where there is no backbone to load; None: there is one."""
        return None

    def load(self, window: Any, dtype: Any, seed: int, cache: Path) -> Any:
        """The `backbones.base.Backbone`, on the CPU, its weights in a dtype; cache: for what it keeps."""
        raise NotImplementedError

    def sources(self, cache: Path) -> dict[str, Any]:
        """The source of its weights, for a run's identity, JSON-able; cache: the folder that remembers fingerprints."""
        return {"name": self.path}

    def version(self) -> Any:
        """A version of its computation, beside those of the packages that it uses; None: it needs none."""
        return None

    def write(self, window: Any, seed: int, weights: dict[str, Any], folder: Path) -> None:
        """Write what it has learned as data; weights: those that a run has trained, in place of its own.

        Raises:
            EmoshareError: that cannot be done.
        """
        raise EmoshareError(
            f"backbone={self.name}: a trained backbone of type {self.type} cannot be exported; train the head alone"
        )

    @property
    def place(self) -> str:
        """The folder or file of its checkpoint."""
        return self.path

    def with_place(self, place: str) -> Self:
        """A copy of the options with the checkpoint in another folder."""
        return dataclasses.replace(self, path=place)  # type: ignore[call-arg]

    def with_commit(self, commit: str | None) -> Self:
        """A copy of the options with the hub's commit of its files."""
        return self

    def for_export(self, place: str) -> Self:
        """A copy of the options for the files that `write` has written into a folder."""
        return self.with_place(place)
