#!/bin/bash
# pytorch-lightning 2.6.6: with a monitor, ModelCheckpoint(save_last=True) leaves last.ckpt at the last epoch that
# improved. It is written only in epochs in which another checkpoint is, that is in those with a better score. A run
# that is killed in epoch 29, and whose best was epoch 1, goes on from epoch 1. Expected over four epochs with the
# scores 3, 2, 1, 0: epoch 3 in last.ckpt. Found: epoch 0; a second ModelCheckpoint without a monitor has epoch 3.
set -e
D=$(mktemp -d); trap 'rm -rf -- "$D"' EXIT; cd "$D"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q pytorch-lightning==2.6.6 numpy==2.4.6
venv/bin/python - <<'P'
import logging, warnings
warnings.filterwarnings("ignore")
import pytorch_lightning as pl, torch
from pytorch_lightning.callbacks import ModelCheckpoint

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)

class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, _):
        return self.layer(batch).mean()

    def validation_step(self, batch, _):
        self.log("score", 3.0 - self.current_epoch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

data = torch.utils.data.DataLoader(torch.zeros(4, 1), batch_size=2)
best = ModelCheckpoint("a", "best", monitor="score", mode="max", save_last=True, save_on_train_epoch_end=True)
each = ModelCheckpoint("b", "last", save_on_train_epoch_end=True, enable_version_counter=False)
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, callbacks=[best, each],
                     enable_progress_bar=False, enable_model_summary=False)
trainer.fit(Module(), data, data)
found = [torch.load(path, weights_only=True)["epoch"] for path in ("a/last.ckpt", "b/last.ckpt")]
print("pytorch-lightning", pl.__version__, "epoch in last.ckpt with save_last=True:", found[0], "by a second one:", found[1])
assert found == [0, 3]
P
