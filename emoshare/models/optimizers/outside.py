"""An optimizer of PyTorch's or of the user's own: a class of torch.optim.Optimizer, made as `Own(groups, **options)`.

It gets `optimizer.lr` and, where it takes it, `optimizer.weight_decay`; schedule, warm-up and clipping are as for ours.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from emoshare.core.bases import OptimizerOptions
from emoshare.core.errors import EmoshareError
from emoshare.core.kinds import Outside
from emoshare.core.outside import complete, crash, extends, is_library, source_hash

if TYPE_CHECKING:
    from emoshare.core.config import Config

SHARED = ("lr", "weight_decay")  # keys of every optimizer that its class gets


@dataclass
class Options(Outside, OptimizerOptions):
    """Its dotted name and its options."""

    def settle(self, prefix: str) -> None:
        """Import it, and check its options; defaults stay with the class, as kernels (`foreach`) change no number."""
        optimizer = self.load_target()
        if not extends(optimizer, "torch.optim.optimizer.Optimizer"):
            raise EmoshareError(f"{self._target_}: must be a class of torch.optim.Optimizer")
        complete(optimizer, self.options, 1, prefix, self._target_, SHARED)
        self._source_ = None if is_library(optimizer) else source_hash(optimizer)

    def problems(self, config: Config) -> Iterator[str]:
        default = next(f.default for f in fields(self) if f.name == "weight_decay")
        if self.weight_decay != default and "weight_decay" not in self.arguments():
            yield f"optimizer.weight_decay: {self._target_} takes none; leave it out"

    def arguments(self) -> dict[str, Any]:
        parameters = inspect.signature(self.load_target()).parameters
        every = any(p.kind == p.VAR_KEYWORD for p in parameters.values())
        shared = {name: getattr(self, name) for name in SHARED if every or name in parameters}
        return shared | self.options

    def make(self, groups: Sequence[Any], fused: bool = False) -> Any:
        return self.load_target()(groups, **self.arguments())

    def check(self, config: Config) -> None:
        """Raise EmoshareError unless it can be made and takes a step."""
        import torch

        with torch.random.fork_rng(devices=[]):
            layer = torch.nn.Linear(3, 2)
            try:
                made = self.make([{"params": list(layer.parameters())}])

                def closure() -> torch.Tensor:  # as Lightning has it
                    made.zero_grad()
                    loss = layer(torch.ones(4, 3)).square().mean()
                    loss.backward()
                    return loss

                made.step(closure)
            except Exception as error:
                raise crash(error, f"{self._target_} on the parameters of a linear layer") from error
