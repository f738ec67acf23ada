"""The LightningModule: a frozen backbone (or none, where frames come from a store) and a head.

Shapes: B clips, N samples, T frames, D features, E emotions.
"""

from __future__ import annotations

import logging
from typing import Any, NotRequired, TypedDict

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torchmetrics.utilities import dim_zero_cat

from emoshare.backbones.base import Backbone
from emoshare.core.config import OptimizerConfig
from emoshare.core.errors import EmoshareError
from emoshare.models.head import Head
from emoshare.models.loss import ShareLoss
from emoshare.models.metrics import PartitionMetric, share_metrics

log = logging.getLogger("emoshare")


class Batch(TypedDict):
    """Windows (`waves` and samples in `lengths`) or stored frames (`frames` and frames in `lengths`)."""

    clip: Tensor  # (B,) position in the partition
    lengths: Tensor  # (B,)
    waves: NotRequired[Tensor]  # (B, N)
    frames: NotRequired[Tensor]  # (B, T, width)
    shares: NotRequired[Tensor]  # (B, E), absent where labels are hidden


OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], tuple[str, ...]]] = {
    "adamw": (torch.optim.AdamW, ()),
    "adam": (torch.optim.Adam, ()),
    "sgd": (torch.optim.SGD, ("momentum",)),
    "rmsprop": (torch.optim.RMSprop, ("momentum",)),
}


class EmotionShareModule(pl.LightningModule):
    """Trains the head with the loss, scores devel after every epoch, keeps the backbone out of checkpoints."""

    def __init__(
        self,
        head: Head,
        loss: ShareLoss,
        optimizer: OptimizerConfig,
        targets: tuple[str, ...],
        backbone: Backbone | None = None,
        seed: int = 0,
        origin: dict[str, Any] | None = None,
    ) -> None:
        """origin: what a checkpoint must have been made from to be resumed, JSON-able."""
        super().__init__()
        self.origin = origin
        self.head, self.loss, self.backbone = head, loss, backbone
        self.optimizer_config, self.targets, self.seed = optimizer, targets, seed
        self.devel = share_metrics()
        self.losses: list[Tensor] = []  # of the epoch's batches

    @property
    def frozen(self) -> bool:
        return self.backbone is None or not any(p.requires_grad for p in self.backbone.parameters())

    def forward(self, batch: Batch) -> Tensor:
        """A batch of windows or frames → (B, E) shares."""
        if "frames" in batch:
            return self.head(batch["frames"], batch["lengths"])
        return self.head(*self.frames(batch["waves"], batch["lengths"]))

    def frames(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Windows (B, N) and samples of speech (B,) → frames (B, T, width) and frames that count (B,).

        A model that padding would change, mask or not (group norm), sees clips of one length at a time.
        """
        assert self.backbone is not None
        if not self.backbone.equal_lengths:
            return self.backbone(waves, lengths)
        clips: list[Tensor] = [waves] * len(waves)
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero().squeeze(1)  # (b,)
            frames, _ = self.backbone(waves[rows, :length], lengths[rows])  # (b, t, width)
            for row, clip in zip(rows.tolist(), frames, strict=True):
                clips[row] = clip
        counts = torch.tensor([len(clip) for clip in clips], device=waves.device)
        return pad_sequence(clips, batch_first=True), counts

    def training_step(self, batch: Batch, _: int) -> Tensor:
        loss = self.loss(self(batch), batch["shares"])
        self.losses.append(loss.detach())  # self.log in every step takes as long as the head itself
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        self.devel.update(self(batch), batch["shares"])

    def predict_step(self, batch: Batch, _: int) -> tuple[Tensor, Tensor]:
        """(B,) positions in the partition and (B, E) shares."""
        return batch["clip"], self(batch).float()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Every epoch has a random state of its own, so that a resumed run draws what an uninterrupted one does. It is
        # set here and not at the epoch's start, as loaders draw in between, and not the same in both cases.
        if batch_idx == 0:
            torch.manual_seed(self.seed + 1_000_003 * (self.current_epoch + 1))

    def on_validation_epoch_end(self) -> None:
        self.log("train/loss", torch.stack(self.losses).mean())  # batches are equally large
        self.losses.clear()
        collected = self.devel["scc"]  # CCC depends on the batch: of devel, the loss is that of the whole partition
        assert isinstance(collected, PartitionMetric)
        self.log("devel/loss", self.loss(dim_zero_cat(collected.predicted), dim_zero_cat(collected.true)))
        scores = self.devel.compute()  # name → (E,)
        self.devel.reset()
        for name, values in scores.items():
            self.log(f"devel/{name}", values.mean().float(), prog_bar=name == "avg")
            self.log_dict({f"{name}/{t}": v.float() for t, v in zip(self.targets, values, strict=True)})
        scheduler = self.lr_schedulers()
        assert isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
        scheduler.step(scores["avg"].mean().item())
        constant = [t for t, v in zip(self.targets, scores["scc"], strict=True) if v.isnan()]
        if constant:
            log.warning("constant predictions on devel, no correlation: %s", ", ".join(constant))

    def configure_optimizers(self) -> Any:
        config = self.optimizer_config
        groups: list[dict[str, Any]] = [{"params": list(self.head.parameters())}]
        if not self.frozen:
            assert isinstance(self.backbone, nn.Module)
            trained = [p for p in self.backbone.parameters() if p.requires_grad]
            groups.append({"params": trained, "lr": config.backbone_lr})
        cls, extra = OPTIMIZERS[config.name]
        options: dict[str, Any] = {key: getattr(config, key) for key in extra}
        clips = self._trainer is not None and self.trainer.gradient_clip_val  # which Lightning refuses with a fused one
        if self.device.type == "cpu" and config.name != "rmsprop" and not clips:  # rmsprop has no such kernel
            options["fused"] = True  # otherwise PyTorch loops over the parameters there
        optimizer = cls(groups, lr=config.lr, weight_decay=config.weight_decay, **options)  # type: ignore[call-arg]
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, mode="max", factor=config.factor, patience=config.patience
        )
        scheduler = {"scheduler": plateau, "monitor": "devel/avg", "strict": False}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Nothing: Lightning calls it after the epoch's checkpoint is written, and a resumed run would lack the step.

        on_validation_epoch_end takes it before.
        """

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the head alone, and which backbone and corpus it belongs to."""
        checkpoint["origin"] = self.origin
        if self.frozen:
            weights = checkpoint["state_dict"]
            checkpoint["state_dict"] = {k: v for k, v in weights.items() if not k.startswith("backbone.")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Fill in the frozen backbone as it was loaded, so that loading stays strict for the head.

        Raises EmoshareError where the checkpoint belongs to another backbone or corpus.
        """
        if checkpoint.get("origin") != self.origin:
            raise EmoshareError(
                "the run was begun with other weights of the backbone or another state of the corpus; "
                "force=true trains it anew"
            )
        if self.backbone is not None and self.frozen:
            own = {f"backbone.{k}": v for k, v in self.backbone.state_dict().items()}
            checkpoint["state_dict"].update(own)
