"""head=mlp: pooling over time and a multi-layer perceptron, trained by gradient descent; by default the paper's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from emoshare.core.config import Config
from emoshare.core.schema import MANY, key
from emoshare.systems.options import NetworkOptions

SEGMENTS = {"head.pooling": ("segments",)}


@dataclass
class Options(NetworkOptions):
    """The options of `head=mlp`, and of `head=segments`, another pooling of it."""

    pooling: str = key(
        "attention", "pooling over the frames of a clip",
        choices=("attention", "mean", "max", "stats", "attentive_stats", "multihead", "segments"),
    )  # fmt: skip
    heads: int = key(
        4, "queries of pooling=multihead, each with a mean of its own", at_least=1, at_most=1024,
        only={"head.pooling": ("multihead",)},
    )  # fmt: skip
    segment_seconds: float = key(
        0.6, "length of a segment, for pooling=segments", unit="s", at_least=0.02, at_most=3600, only=SEGMENTS,
    )  # fmt: skip
    hop_seconds: float = key(
        0.2, "from one segment to the next, for pooling=segments", unit="s", at_least=0.02, at_most=3600, only=SEGMENTS,
    )  # fmt: skip
    hidden: int = key(256, "units of the hidden layer; 0: none, a single linear layer", at_least=0, at_most=MANY)
    norm: str = key("batch", "normalisation of the hidden layer and the output", choices=("batch", "layer", "none"))
    activation: str = key(
        "gelu", "activation of the hidden layer", choices=("gelu", "relu", "tanh"), unless={"head.hidden": (0,)},
    )  # fmt: skip
    dropout: float = key(0.0, "share of hidden units dropped in training", at_least=0, less_than=1)
    output: str = key("sigmoid", "output function, which gives the shares", choices=("sigmoid", "softmax", "linear"))

    label: ClassVar[str] = "MLP"

    @property
    def bounded(self) -> bool:
        return self.output != "linear"

    @property
    def least_batch(self) -> int:
        return 2 if self.norm == "batch" else 1

    @property
    def mixes_pooled(self) -> bool:
        return self.pooling != "segments"

    @property
    def words(self) -> str:
        return f"{self.pooling} pooling and an MLP"

    def problems(self, config: Config) -> Iterator[str]:
        if config.train.mixup and not self.mixes_pooled:
            yield (
                f"train.mixup: it mixes one vector per clip, and head.pooling={self.pooling} has several; set "
                "train.mixup to 0"
            )

    def make(self, width: int, states: int, targets: int) -> Any:
        """A head with fresh weights. width: numbers per frame, those of all `states` hidden states."""
        from emoshare.models.head import Head

        return Head(width, states, targets, self)
