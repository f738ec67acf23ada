"""A head of the user's own: an nn.Module from outside the package, trained by the same loop as head=mlp.

It is made as `MyHead(width, targets, **options)` (D numbers per frame, E targets) and called as
`forward(frames (B, T, D) float32, lengths (B,)) -> (B, E)`, where frames from `lengths` on do not count. With
methods `pool_frames(frames, lengths) -> (B, F)` and `classify(pooled) -> (B, E)` it can be trained with `train.mixup`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from emoshare.core.config import Config, hidden_states
from emoshare.core.errors import EmoshareError
from emoshare.core.kinds import Outside
from emoshare.core.outside import crash
from emoshare.core.schema import MISSING
from emoshare.systems.options import NetworkOptions

CLIPS, FRAMES, TARGETS = 3, 7, 2  # of the batch that a head is tried on before anything is computed


@dataclass
class Options(Outside, NetworkOptions):
    """The dotted name of a head from outside the package, and its options."""

    given: ClassVar[int] = 2

    @property
    def extension(self) -> str:  # type: ignore[override]
        return self.name

    @property
    def mixes_pooled(self) -> bool:
        return self.allowed and all(hasattr(self.load_target(), name) for name in ("pool_frames", "classify"))

    @property
    def words(self) -> str:
        return f"the head {self._target_}"

    def problems(self, config: Config) -> Iterator[str]:
        if config.train.mixup and not self.mixes_pooled:
            yield (
                f"train.mixup: it mixes pooled clips, and {self._target_} lacks the methods pool_frames and classify; "
                "set train.mixup to 0"
            )

    def make(self, width: int, states: int, targets: int) -> Any:
        """A head with fresh weights. width: numbers per frame, those of all `states` hidden states."""
        from emoshare.models.head import OutsideHead

        return OutsideHead(self.load_target()(width // states, targets, **self.options), states)

    def check(self, config: Config) -> None:
        """Raise EmoshareError unless the class makes a head that gives finite shares of a small batch."""
        import torch
        from torch import nn

        cls = self.load_target()
        if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
            raise EmoshareError(f"head._target_={self._target_}: must be a class of torch.nn.Module")
        layers = config.backbone.layers if config.backbone.layers != MISSING else 0
        states = hidden_states(config.backbone.layer, layers)
        width = (config.backbone.dim if config.backbone.dim != MISSING else 32) * states
        lengths = torch.tensor([FRAMES, FRAMES - 2, 1])
        with torch.random.fork_rng(devices=[]):
            try:
                head = self.make(width, states, TARGETS)
                shares = head(torch.randn(CLIPS, FRAMES, width), lengths)
            except Exception as error:
                raise crash(error, f"{self._target_} on frames ({CLIPS}, {FRAMES}, {width // states})") from error
        if not isinstance(shares, torch.Tensor) or shares.shape != (CLIPS, TARGETS):
            given = f"the shape {tuple(shares.shape)}" if isinstance(shares, torch.Tensor) else type(shares).__name__
            raise EmoshareError(
                f"{self._target_}: its forward gives {given} for {CLIPS} clips and {TARGETS} targets; it must give "
                f"shares ({CLIPS}, {TARGETS})"
            )
        if not bool(torch.isfinite(shares).all()):
            raise EmoshareError(f"{self._target_}: its forward gives NaN or infinite shares of random frames")
        if not any(parameter.requires_grad for parameter in head.parameters()):
            raise EmoshareError(f"{self._target_}: has no parameters to train")
