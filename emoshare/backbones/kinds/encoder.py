"""backbone.type=<a model_type of transformers>, or auto: a self-supervised speech encoder, from its checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from emoshare.backbones.architecture import READ, check_parameters
from emoshare.backbones.families import FAMILIES
from emoshare.backbones.kinds.checkpoint import CheckpointOptions
from emoshare.core.bases import TRAINED
from emoshare.core.config import Config, WindowConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.kinds import classes
from emoshare.core.schema import MANY, MISSING, key
from emoshare.core.text import near

if TYPE_CHECKING:
    from types import ModuleType

    from torch import Tensor

    from emoshare.backbones.base import Backbone


@dataclass
class Options(CheckpointOptions):
    """Its options."""

    type: str = key(
        MISSING, "model_type of transformers, another kind of backbone, or auto: as the checkpoint says",
        file_name=True,
    )  # fmt: skip
    dim: int = key(MISSING, "features per frame", at_least=1, at_most=MANY)
    layers: int = key(MISSING, "layers of the encoder", at_least=0, at_most=1000)
    parameters: int | None = key(
        None, "expected parameters of the bare encoder; loading fails if the checkpoint has others", at_least=1,
        at_most=1e12, neutral=True,
    )  # fmt: skip
    conv_norm: str | None = key(
        None, "norm of the convolutional front end, compared with the checkpoint", choices=("group", "layer"),
    )  # fmt: skip
    architecture: dict[str, Any] = key(
        {}, "values of transformers' config that sizes do not tell, for an encoder that is built without a checkpoint",
    )  # fmt: skip
    prefix: str | None = key(
        None, "prefix of the encoder's tensors in a larger model; null: looked for, where there is one encoder alone",
    )  # fmt: skip
    adapter: str | None = key(
        None, "merge: a low-rank adapter (LoRA) that lies beside the weights is merged into them; null: it is refused",
        choices=("merge",),
    )  # fmt: skip
    normalize: bool | None = key(None, "samples were normalised in pre-training; if the checkpoint does not say")
    layer: str = key(
        "last", "hidden state: last, weighted (a learned sum of all), or an index (0: input of the first layer)",
        words=("last", "weighted"), at_least=0, whole=True, note="an index up to backbone.layers",
    )  # fmt: skip
    specaugment: bool = key(
        False, "SpecAugment while fine-tuning: masks 5 % of frames and of features, 10 at a time", only=TRAINED,
    )  # fmt: skip
    layerdrop: str | None = key(
        None, "LayerDrop probability while fine-tuning; checkpoint: as its config says; null: none",
        words=("checkpoint",), at_least=0, less_than=1, only=TRAINED,
    )  # fmt: skip
    trainable_layers: int | None = key(
        None, "number of top layers to fine-tune; null: all, and the front end", at_least=1, at_most=1000, only=TRAINED,
    )  # fmt: skip
    lora: int = key(
        0, "rank of the low-rank adapters that are fine-tuned in place of the layers; 0: none", at_least=0,
        at_most=1024, only=TRAINED,
    )  # fmt: skip
    gradient_checkpointing: bool = key(
        False, "fine-tune with less memory for a third more time, and the same numbers", only=TRAINED,
    )  # fmt: skip

    types: ClassVar[tuple[str, ...]] = (*FAMILIES, "auto")
    convertible: ClassVar[bool] = True

    @property
    def normalizes(self) -> bool:  # type: ignore[override]
        return self.normalize is not False

    @property
    def terms(self) -> str:  # type: ignore[override]
        return "part of emoshare, MIT" if self.path == "tiny" else ""

    @property
    def read_from_checkpoint(self) -> bool:  # type: ignore[override]
        return self.type == "auto" or any(getattr(self, key) == MISSING for key in READ)

    @property
    def checkpoint_keys(self) -> tuple[str, ...]:
        by_path = self.name == MISSING != self.path  # backbone=emotion2vec
        return READ if self.type in ("auto", MISSING) or by_path else ()

    @property
    def module(self) -> ModuleType:
        """The module that loads its family. EmoshareError for a type that there is not."""
        if self.type not in FAMILIES:
            others = {name for name, cls in classes("backbone").items() if cls.selectable}
            known = sorted({*FAMILIES, *others} - {"encoder"})
            raise EmoshareError(
                f"backbone.type={self.type}: must be one of {', '.join(known)}{near(self.type, known)}. Encoders of "
                "another architecture can't be loaded: choose one of the backbones that there are, or name a class of "
                "your own in backbone._target_"
            )
        return import_module(f"emoshare.backbones.{FAMILIES[self.type].module}")

    def problems(self, config: Config) -> Iterator[str]:
        if self.layer.isdigit() and int(self.layer) > self.layers:
            yield f"backbone.layer={self.layer}: {self.name} has the layers 0 to {self.layers}"
        if self.layerdrop is not None and not self.frozen and self.layer == "weighted":
            yield f"backbone.layerdrop={self.layerdrop}: a weighted sum needs all layers; set backbone.layer to last"

    def canonical_values(self) -> dict[str, Any]:
        values: dict[str, Any] = {} if self.layers else {"backbone.layer": None}  # there is one state alone
        if self.pretrained and self.path != "tiny":
            values["backbone.architecture"] = None  # a checkpoint says its own, which is compared with it
        return values

    def for_store(self) -> Options:
        return replace(self, frozen=True, specaugment=False, layerdrop=None)

    def settle_from(self, window: WindowConfig, cache: Path | None = None) -> Options:
        from emoshare.backbones.auto import settle

        return settle(self, window, cache)

    def check_loadable(self, window: WindowConfig) -> None:
        """As for every backbone. A checkpoint that has to be fetched first is left to `load`."""
        from emoshare.backbones import checkpoint
        from emoshare.backbones.finetuning import check_trained

        config = self.settle_from(window)
        config.check_layer()
        check_trained(config)
        module = config.module
        if not checkpoint.at_hand(config):
            return
        checked = module.check(replace(config, pretrained=False), window)
        if config.path == "tiny" or not config.pretrained:
            check_parameters(config, checked[1])

    def check_layer(self) -> None:
        """Raise EmoshareError for a layer that the encoder has not."""
        if self.layer.isdigit() and int(self.layer) > self.layers:
            raise EmoshareError(f"backbone.layer={self.layer}: {self.name} has the layers 0 to {self.layers}")

    def load(self, window: WindowConfig, dtype: Any, seed: int, cache: Path) -> Backbone:
        from emoshare.backbones.finetuning import prepare

        config = self.settle_from(window)
        config.check_layer()
        backbone: Backbone = config.module.load(config, window, dtype, seed, cache)
        prepare(backbone, config, seed)
        return backbone

    def for_export(self, place: str) -> Options:
        from emoshare.backbones import ssl

        options = super().for_export(place)  # the encoder alone is written; of other families the files are copied
        return replace(options, prefix=None, adapter=None) if self.module is ssl else options

    def version(self) -> Any:
        return getattr(self.module, "VERSION", None)

    def write(self, window: WindowConfig, seed: int, weights: dict[str, Tensor], folder: Path) -> None:
        from emoshare.backbones.writing import write_encoder

        write_encoder(self, seed, weights, folder)
