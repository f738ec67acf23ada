"""The losses of conf/loss/: a weighted mix of 1 − CCC, errors, cross-entropies and divergences of distributions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from emoshare.core.bases import LossOptions
from emoshare.core.schema import key, value_text

if TYPE_CHECKING:
    from emoshare.core.config import Config

BALANCED = "balanced"
RAREST = 1e-3  # mean share that a target counts as at least, so that one that hardly occurs does not count alone
LOGARITHMIC = ("kl", "js", "bce", "focal_bce")  # take logarithms of the predicted shares
ALL = ("ccc", "mse", "mae", *LOGARITHMIC)


@dataclass
class Options(LossOptions):
    """Its weights."""

    ccc: float = key(1.0, "weight of 1 - CCC; loss={kl: 1, ccc: 0.5} sets all weights at once", at_least=0)
    mse: float = key(0.0, "weight of the mean squared error", at_least=0)
    mae: float = key(0.0, "weight of the mean absolute error", at_least=0)
    kl: float = key(0.0, "weight of the Kullback-Leibler divergence of shares that add up to 1", at_least=0)
    js: float = key(0.0, "weight of their Jensen-Shannon divergence", at_least=0)
    bce: float = key(0.0, "weight of the binary cross-entropy of each target", at_least=0)
    focal_bce: float = key(0.0, "weight of the same times |true - predicted| ** loss.gamma", at_least=0)
    gamma: float = key(
        2.0, "exponent of the focal cross-entropy: the larger, the less easy clips count", at_least=0,
        unless={"loss.focal_bce": (0,)},
    )  # fmt: skip
    weights: Any | None = key(
        None,
        "weights of the targets: a number for each in their order, or balanced (inverse to the mean in train)",
    )
    released: bool = key(
        False, "CCC with the moments of the paper's released code in place of Lin's", unless={"loss.ccc": (0,)},
    )  # fmt: skip

    label: ClassVar[str] = "CCC, errors and divergences"

    @property
    def least_batch(self) -> int:
        return 2 if self.ccc else 1

    def problems(self, config: Config) -> Iterator[str]:
        if not any(getattr(self, name) for name in ALL):
            yield f"loss: all weights are 0; set at least one of {', '.join(f'loss.{name}' for name in ALL)}"
        if not config.head.bounded:
            for name in LOGARITHMIC:
                if getattr(self, name):
                    yield f"loss.{name}: needs shares from 0 to 1; leave it out, or set head.output=sigmoid or softmax"
        if (
            self.weights is not None
            and self.weights != BALANCED
            and not _are_weights(self.weights, config.data.targets)
        ):
            yield (
                f"loss.weights={value_text(self.weights)}: must be balanced, or {len(config.data.targets)} numbers of "
                "0 or more, one for each of data.targets and not all 0"
            )

    def make(self, means: Sequence[float] = ()) -> Any:
        from emoshare.models.loss import ShareLoss

        weights = [1 / max(mean, RAREST) for mean in means] if self.weights == BALANCED else self.weights
        return ShareLoss(self, weights)


def mix_text(config: Mapping[str, Any], prefix: str = "") -> str:
    """The weights of a mix as one value, `ccc + 0.5 mse`; prefix: of the keys in a flat config."""
    weights = {name: config.get(f"{prefix}{name}") or 0 for name in ALL}
    return " + ".join(name if weight == 1 else f"{weight:g} {name}" for name, weight in weights.items() if weight)


def _are_weights(values: Any, targets: Sequence[str]) -> bool:
    if not isinstance(values, list) or len(values) != len(targets):
        return False
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    return len(numbers) == len(targets) and all(0 <= n < math.inf for n in numbers) and sum(numbers) > 0
