"""Lightning as emoshare uses it: one process on one device, whatever a cluster says. Imports Lightning.

Lightning reads the variables of SLURM, torchrun, LSF and MPI by itself. It then expects other processes, keeps loggers
of all but the first silent, and under SLURM writes checkpoints of its own, which every later fit and predict restores.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments import ClusterEnvironment
from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning.callbacks import Callback

from emoshare.core.interrupt import REQUEST, deferring_stop, handling_ctrl_c, handling_stop_signals

log = logging.getLogger("emoshare")
rank_zero_only.rank = 0  # type: ignore[attr-defined]  # Lightning takes it from RANK, LOCAL_RANK or SLURM_PROCID when it is imported


class OneProcess(ClusterEnvironment):
    """No cluster: the first process of one, on this machine."""

    creates_processes_externally = True  # there are none to be created
    main_address, main_port = "127.0.0.1", 0

    @staticmethod
    def detect() -> bool:
        return True

    def world_size(self) -> int:
        return 1

    def set_world_size(self, size: int) -> None:
        """It is always one."""

    def global_rank(self) -> int:
        return 0

    def set_global_rank(self, rank: int) -> None:
        """It is always 0."""

    def local_rank(self) -> int:
        return 0

    def node_rank(self) -> int:
        return 0


def new_trainer(
    device: torch.device, epochs: int, folder: Path, callbacks: Sequence[Callback], plugins: Sequence[Any] = (),
    **options: Any,
) -> pl.Trainer:  # fmt: skip
    """Lightning's trainer for one device in this process; nothing of it depends on the environment.

    folder: of the run. options: of Lightning's Trainer.
    """
    ours = {
        "max_epochs": epochs,
        "accelerator": device.type,
        "devices": [device.index or 0] if device.type == "cuda" else 1,
        "callbacks": list(callbacks),
        "plugins": [OneProcess(), *plugins],
        "default_root_dir": folder / "lightning",  # is never made: under SLURM checkpoints would be looked for there
        "enable_progress_bar": False,  # emoshare draws one bar for the whole sweep
        "enable_model_summary": False,
    }
    # All arguments are given, as Lightning takes those that are not from variables like PL_TRAINER_MAX_TIME.
    defaults = {name: argument.default for name, argument in inspect.signature(pl.Trainer).parameters.items()}
    trainer = pl.Trainer(**(defaults | ours | options))
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]  # ours stay
    return trainer


class Interrupt(Callback):
    """Ends training at its next batch after a Ctrl-C that had no effect, and after its epoch at a request to stop.

    Python drops what is raised in a finalizer. An epoch's checkpoint is written when the next one starts.
    """

    pressed = said = False

    def handle(self, *_: Any) -> None:
        """Handle SIGINT as Python does."""
        self.pressed = True
        raise KeyboardInterrupt

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if REQUEST.made:
            log.info("stopped after epoch %d of %d, as requested", trainer.current_epoch, trainer.max_epochs)
            raise KeyboardInterrupt

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        if REQUEST.made and not self.said:
            self.said = True
            log.info(
                "asked to stop: that will be after epoch %d; Ctrl-C or a second SIGTERM stops at once",
                trainer.current_epoch + 1,
            )


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """A block that trains: Ctrl-C is KeyboardInterrupt, as everywhere else; SIGTERM and SIGUSR1 wait for the epoch.

    Lightning makes Ctrl-C SystemExit, and ignores the next one.
    """
    interrupt = Interrupt()
    with handling_stop_signals(), deferring_stop(), handling_ctrl_c(interrupt.handle):
        try:
            yield interrupt
        except SystemExit as leave:
            raise KeyboardInterrupt from leave
        except Exception as error:
            if interrupt.pressed:  # PyTorch makes an error of its own of a Ctrl-C while it writes a checkpoint
                raise KeyboardInterrupt from error
            raise
