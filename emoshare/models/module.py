"""The LightningModule: a frozen backbone (or none, where frames come from a store) and a head.

Shapes: B clips, N samples, T frames, D features, E emotions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, NotRequired, Protocol, TypedDict

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.optim.lr_scheduler import ReduceLROnPlateau

from emoshare.core.bases import OptimizerOptions
from emoshare.core.config import TrainConfig
from emoshare.core.errors import EmoshareError
from emoshare.metrics.metric import Metric, mean_scores, score_all
from emoshare.metrics.registry import STANDARD
from emoshare.metrics.scores import remarks
from emoshare.models.augment import mask_frames, mix
from emoshare.models.head import Head
from emoshare.models.optimizer import make_optimizer, make_scheduler, set_rates, share_of_rate
from emoshare.models.predictions import Predictions

log = logging.getLogger("emoshare")
HALF = (torch.float16, torch.bfloat16)
REMEDY = "lower optimizer.lr, or look at the labels and frames"


class Batch(TypedDict):
    """Windows (`waves` and samples in `lengths`) or stored frames (`frames` and frames in `lengths`)."""

    clip: Tensor  # (B,) position in the partition
    lengths: Tensor  # (B,)
    waves: NotRequired[Tensor]  # (B, N)
    frames: NotRequired[Tensor]  # (B, T, width)
    shares: NotRequired[Tensor]  # (B, E), absent where labels are hidden


class FrameEncoder(Protocol):
    """A backbone in the training loop, an nn.Module."""

    equal_lengths: bool  # whether clips of several lengths in one batch would change its frames

    def __call__(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Windows (B, N) and samples of speech (B,) → frames (B, T, width) and frames that count (B,)."""

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def state_dict(self) -> dict[str, Any]: ...


class EmotionShareModule(pl.LightningModule):
    """Trains the head with the loss, scores devel after every epoch, keeps the backbone out of checkpoints."""

    def __init__(
        self,
        head: Head,
        loss: nn.Module,
        optimizer: OptimizerOptions,
        targets: tuple[str, ...],
        backbone: FrameEncoder | None = None,
        seed: int = 0,
        origin: dict[str, Any] | None = None,
        train: TrainConfig | None = None,
        epochs: int = 1,
        rates: Sequence[float] | None = None,
        metrics: Sequence[Metric] = STANDARD,
    ) -> None:
        """The head, loss and optimizer, with the backbone if it is in the loop.

        Args:
            origin: what a checkpoint must have been made from to be resumed, JSON-able.
            epochs: of the learning rates' schedule.
            rates: of training without devel: the learning rate of each epoch, as a share of the config's.
            metrics: that devel is scored by, that of `train.select` among them.
        """
        super().__init__()
        self.origin = origin
        self.head, self.loss, self.backbone = head, loss, backbone
        self.optimizer_config, self.targets, self.seed, self.rates = optimizer, targets, seed, rates
        self.train_config, self.epochs = train or TrainConfig(), epochs
        self.metrics = metrics
        self.select = next(metric for metric in metrics if metric.name == self.train_config.select)
        self.devel = Predictions()  # of the epoch
        self.losses: list[Tensor] = []  # of the epoch's batches

    @property
    def frozen(self) -> bool:
        return self.backbone is None or not any(p.requires_grad for p in self.backbone.parameters())

    def forward(self, batch: Batch) -> Tensor:
        """A batch of windows or frames → (B, E) shares."""
        return self.head(*self.frames_of(batch))

    def predict_shares(self, batch: Batch) -> Tensor:
        """Shares (B, E) as of `forward`, with the head in float32 at least, whatever precision training runs in.

        bfloat16 has 256 values between 0.5 and 1: rounded to them, different clips get equal shares and equal ranks.
        """
        frames, lengths = self.frames_of(batch)
        with torch.autocast(frames.device.type, enabled=False):
            if frames.dtype in HALF:
                frames = frames.float()
            weights = {k: w.float() if w.dtype in HALF else w for k, w in self.head.state_dict().items()}
            return torch.func.functional_call(self.head, weights, (frames, lengths))

    def frames_of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Frames (B, T, width) of a batch, stored or computed, and frames that count (B,)."""
        if "frames" in batch:
            return batch["frames"], batch["lengths"]
        return self.frames(batch["waves"], batch["lengths"])

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
        loss = self.loss(*self.predicted_and_true(batch))
        self.losses.append(loss.detach())  # self.log in every step takes as long as the head itself
        return loss

    def predicted_and_true(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """A batch in training → predicted shares and those to be predicted, (B, E) each."""
        (frames, lengths), shares = self.frames_of(batch), batch["shares"]
        if self.train_config.frame_mask:
            frames, lengths = mask_frames(frames, lengths, self.train_config.frame_mask)
        if not self.train_config.mixup:
            return self.head(frames, lengths), shares
        mixed, shares = mix(self.head.pool_frames(frames, lengths), shares, self.train_config.mixup)
        return self.head.classify(mixed), shares

    def validation_step(self, batch: Batch, _: int) -> None:
        self.devel.update(self.predict_shares(batch).detach(), batch["shares"].detach())

    def predict_step(self, batch: Batch, _: int) -> tuple[Tensor, Tensor]:
        """(B,) positions in the partition and (B, E) shares."""
        return batch["clip"], self.predict_shares(batch).float()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Every epoch has a random state of its own, so that a resumed run draws what an uninterrupted one does. It is
        # set here and not at the epoch's start, as loaders draw in between, and not the same in both cases.
        if batch_idx == 0:
            torch.manual_seed(self.seed + 1_000_003 * (self.current_epoch + 1))
        steps = int(self.trainer.num_training_batches)
        share = share_of_rate(self.optimizer_config, self.current_epoch * steps + batch_idx, steps, self.epochs)
        if share is None and self.rates is not None:
            share = self.rates[self.current_epoch]
        if share is not None:
            set_rates(self.trainer.optimizers[0], share)

    def on_validation_epoch_start(self) -> None:
        if self.losses:  # else validation without training
            self.check_losses()

    def on_train_epoch_end(self) -> None:
        if self.losses:  # training without validation
            self.check_losses()
            self.losses.clear()

    def check_losses(self) -> None:
        """Raise EmoshareError where a loss of the epoch is no number: the run cannot recover.

        Once per epoch, as asking in every step would make the GPU wait.
        """
        bad = (~torch.stack(self.losses).isfinite()).nonzero().flatten().tolist()
        if bad:
            loss, epoch = self.losses[bad[0]].item(), self.current_epoch + 1
            raise EmoshareError(f"the loss became {loss} in epoch {epoch}, step {bad[0] + 1}; {REMEDY}")

    def on_validation_epoch_end(self) -> None:
        if self.losses:
            self.log("train/loss", torch.stack(self.losses).mean())  # batches are equally large
            self.losses.clear()
        predicted, true = self.devel.compute()  # (N, E)
        self.devel.reset()
        loss = self.loss(predicted, true)  # CCC depends on the batch: of devel, the loss is that of the whole partition
        if not loss.isfinite():
            raise EmoshareError(f"devel loss became {loss.item()} after epoch {self.current_epoch + 1}; {REMEDY}")
        self.log("devel/loss", loss)
        shares, labels = (part.cpu().double().numpy() for part in (predicted, true))  # Apple's GPUs have no float64
        constant = remarks({"devel": shares}, {"devel": labels}, self.targets)["constant"].get("devel")
        scores = score_all(self.metrics, labels, shares)  # name → (E,)
        means, overall = mean_scores(scores), {metric.name for metric in self.metrics if metric.overall}
        for name, values in scores.items():
            self.log(f"devel/{name}", means[name], prog_bar=name == self.select.name)
            if name in overall:
                continue
            self.log_dict({f"emotions/{name}/{t}": float(v) for t, v in zip(self.targets, values, strict=True)})
        scheduler = self.lr_schedulers()
        warm = self.current_epoch + 1 <= self.optimizer_config.warmup  # its scores say nothing of the full rate
        if isinstance(scheduler, ReduceLROnPlateau) and not warm:  # None before training
            scheduler.step(means[self.select.name])
        if constant:
            log.warning("constant predictions on devel, scored 0: %s", ", ".join(constant))

    def configure_optimizers(self) -> Any:
        trained = None if self.frozen else self.backbone
        assert trained is None or isinstance(trained, nn.Module)
        clips = self._trainer is not None and bool(self.trainer.gradient_clip_val)
        learning = nn.ModuleList([self.head, self.loss])  # a loss from outside may have parameters
        optimizer = make_optimizer(self.optimizer_config, learning, trained, self.device, clips)
        scheduler = make_scheduler(self.optimizer_config, optimizer, self.select.mode)
        if scheduler is None or self.rates is not None:
            return optimizer
        plan = {"scheduler": scheduler, "monitor": f"devel/{self.select.name}", "strict": False}
        return {"optimizer": optimizer, "lr_scheduler": plan}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Nothing: Lightning calls it after the epoch's checkpoint is written, and a resumed run would lack the step.

        on_validation_epoch_end takes it before.
        """

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the head alone, and what it belongs to."""
        checkpoint["origin"] = self.origin
        if self.frozen:
            weights = checkpoint["state_dict"]
            checkpoint["state_dict"] = {k: v for k, v in weights.items() if not k.startswith("backbone.")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Fill in the frozen backbone as it was loaded, so that loading stays strict for the head.

        Raises EmoshareError where the checkpoint belongs to another backbone, corpus, precision or kind of device.
        """
        if self.origin is not None:
            self.check_origin(checkpoint.get("origin") or {}, self.origin)
        if self.backbone is not None and self.frozen:
            weights = {f"backbone.{k}": v for k, v in self.backbone.state_dict().items()}
            checkpoint["state_dict"].update(weights)

    @staticmethod
    def check_origin(stored: dict[str, Any], expected: dict[str, Any]) -> None:
        """Raise EmoshareError that names what differs between a checkpoint's origin and the run's."""
        words = {"backbone": "other weights of the backbone", "corpus": "another state of the corpus"}
        for key in expected:
            if stored.get(key) != expected[key]:
                was = words.get(key) or f"{key} {stored.get(key)}, and would go on with {expected[key]}"
                raise EmoshareError(f"the run was begun with {was}; force=true trains it again from its start")
