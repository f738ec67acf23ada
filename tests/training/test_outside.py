"""A loss, an optimizer and a tracker from outside: trained with, resumed, identified, and refused in time."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from emoshare.command.compose import compose_one
from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.core.kinds import Outside
from emoshare.runs.resolved import ResolvedRun
from emoshare.training.ready import check_ready
from emoshare.training.train import train

KINDS = '''
import torch
from torch import nn

def tolerant(predicted, true, margin=0.05):
    return ((predicted - true).abs() - margin).clamp(min=0).mean()

tolerant.least_batch = 3

class Scaled(nn.Module):
    """Its scales are learned with the head."""

    def __init__(self, power=2.0):
        super().__init__()
        self.power, self.scale = power, nn.Parameter(torch.zeros(9))

    def forward(self, predicted, true):
        assert predicted.dtype == true.dtype == torch.float32
        return ((predicted - true).abs() ** self.power * self.scale.exp() - self.scale).mean()

def number(predicted, true):
    return 0.5

def rows(predicted, true):
    return (predicted - true).square().mean(1)

def infinite(predicted, true):
    return (predicted - true).mean() / 0

def detached(predicted, true):
    return (predicted - true).square().mean().detach()

def crashing(predicted, true):
    return predicted @ true

class Stuck(torch.optim.SGD):
    def step(self, closure=None):
        raise RuntimeError("stuck")
'''
NADAM = ["optimizer._target_=torch.optim.NAdam", "optimizer.betas=[0.9,0.99]", "optimizer.momentum_decay=0.01"]


@pytest.fixture
def module(tmp_path, monkeypatch) -> Iterator[Path]:
    """The file of a module on the Python path, in the working directory of the test."""
    folder = tmp_path / "mine"
    folder.mkdir()
    path = folder / "outside_kinds.py"
    path.write_text(KINDS)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "outside_kinds", raising=False)
    yield path
    sys.modules.pop("outside_kinds", None)


@pytest.fixture
def composed(corpus_root, tmp_path):
    def compose(*overrides: str) -> Config:
        return compose_one(
            [
                "data=compare23", f"data.root={corpus_root}", "backbone=logmel", "window.seconds=1", "trainer.epochs=2",
                "trainer.progress=false", "logger=none", f"paths.outputs={tmp_path}/outputs",
                f"paths.cache={tmp_path}/cache", *overrides,
            ]
        )  # fmt: skip

    return compose


@pytest.mark.parametrize(
    "overrides",
    [
        ["loss._target_=outside_kinds.tolerant", "loss.margin=0.1"],
        ["loss._target_=outside_kinds.Scaled", "optimizer.clip=1"],
        ["loss._target_=torch.nn.HuberLoss", "loss.delta=0.2"],
        NADAM,
    ],
    ids=["function", "class", "of PyTorch", "optimizer"],
)
def test_a_resumed_run_is_an_uninterrupted_one(module, composed, overrides, tmp_path) -> None:
    config = composed(*overrides)
    train(config)
    run = ResolvedRun(config).run
    assert run.config().loss == config.loss
    whole, metrics = (run.folder / "predictions/test.csv").read_bytes(), (run.folder / "metrics.csv").read_bytes()
    short = composed(*overrides, f"paths.outputs={tmp_path}/again")
    short.trainer.epochs = 1
    train(short)
    other = ResolvedRun(config := composed(*overrides, f"paths.outputs={tmp_path}/again")).run
    ResolvedRun(short).run.folder.rename(other.folder)  # as if it was killed after its first epoch
    other.results_path.unlink()
    ResolvedRun(config).start()
    train(config)
    assert (other.folder / "predictions/test.csv").read_bytes() == whole
    assert (other.folder / "metrics.csv").read_bytes() == metrics


def test_the_parameters_of_a_loss_are_learned(module, composed) -> None:
    import torch

    config = composed("loss._target_=outside_kinds.Scaled", "loss.power=1")
    train(config)
    weights = torch.load(ResolvedRun(config).run.best, weights_only=True)["state_dict"]
    assert weights["loss.function.scale"].abs().max() > 0


def test_options_and_source_count_for_the_identity(module, composed, monkeypatch) -> None:
    chosen = ["loss._target_=outside_kinds.tolerant"]
    first = ResolvedRun(composed(*chosen)).run.name
    assert ResolvedRun(composed(*chosen, "loss.margin=0.05")).run.name == first  # its default
    names = {first, ResolvedRun(composed()).run.name, ResolvedRun(composed(*chosen, "loss.margin=0.2")).run.name}
    names |= {ResolvedRun(composed(f"optimizer.name={name}")).run.name for name in ("adam", "sgd", "rmsprop")}
    names |= {ResolvedRun(composed(*NADAM[:end])).run.name for end in (1, 2, 3)}
    module.write_text(KINDS.replace("min=0", "min=0.0"))
    sys.modules.pop("outside_kinds")
    names.add(ResolvedRun(composed(*chosen)).run.name)
    assert len(names) == 10
    assert composed(*NADAM).optimizer._source_ is None  # PyTorch's own
    tracker = ["logger._target_=pytorch_lightning.loggers.CSVLogger", "logger.flush_logs_every_n_steps=1"]
    assert ResolvedRun(composed(*tracker)).run.name == ResolvedRun(composed()).run.name  # whatever its options


def test_a_tracker_gets_config_epochs_and_scores(composed) -> None:
    config = composed("logger={_target_: pytorch_lightning.loggers.CSVLogger, name: mine, flush_logs_every_n_steps: 1}")
    results = train(config)
    folder = ResolvedRun(config).run.folder / "mine/version_0"
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["devel/avg"]) for row in rows if row["devel/avg"]] == pytest.approx(
        [float(row["devel/avg"]) for row in csv.DictReader((ResolvedRun(config).run.folder / "metrics.csv").open())]
    )
    assert [row["step"] for row in rows if row["devel/avg"]] == ["0", "1"]  # epochs, where Lightning counts batches
    assert float(rows[-1]["best/devel/avg"]) == pytest.approx(results.score("devel", "avg"))
    assert "epochs: 2" in (folder / "hparams.yaml").read_text()


def test_a_tracker_that_fails_at_the_end_is_a_warning(composed, monkeypatch, caplog) -> None:
    from pytorch_lightning.loggers import CSVLogger

    logged = CSVLogger.log_metrics

    def full(self, metrics, step=None):
        if "best/devel/avg" in metrics:
            raise OSError("no space left")
        logged(self, metrics, step)

    monkeypatch.setattr(CSVLogger, "log_metrics", full)
    config = composed("logger._target_=pytorch_lightning.loggers.CSVLogger")
    train(config)
    assert ResolvedRun(config).run.is_finished()
    assert "results are written, but not logged: no space left" in caplog.text


def test_what_does_not_fit_is_told_at_once(module, composed) -> None:
    with pytest.raises(EmoshareError) as error:
        composed(
            "loss._target_=outside_kinds.tolerant", "loss.margn=1", "optimizer._target_=outside_kinds.Scaled",
            "logger._target_=torch.optim.NAdam", "trainer.epochs=0",
        )  # fmt: skip
    lines = str(error.value).splitlines()
    assert lines[0] == "loss.margn: outside_kinds.tolerant has no such option; did you mean 'margin'?"
    assert lines[1] == "optimizer._target_=outside_kinds.Scaled: must be a class of torch.optim.Optimizer"
    assert lines[2] == "logger._target_=torch.optim.NAdam: must be a class of Lightning's Logger"
    assert lines[3].startswith("trainer.epochs=0: must be at least 1")
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["loss._target_=outside_kindz.a"],
            "kindz.a: no module outside_kindz on the Python path",
        ),
        (["loss._target_=outside_kinds.tolerand"], "did you mean 'tolerant'"),
        (["loss._target_=outside_kinds.tolerant", "data.batch_size=2"], "data.batch_size=2: head and loss need"),
        (["optimizer._target_=torch.optim.NAdam", "optimizer.beta=1"], "optimizer.beta: .*did you mean 'betas'"),
        (["optimizer._target_=torch.optim.Rprop", "optimizer.weight_decay=1"], "Rprop takes none; leave it out"),
        (["optimizer.momentum=0.9"], "is read with optimizer.name=rmsprop or sgd alone"),
        (["logger.project=mine"], "is read with logger.name=wandb alone"),
        (["logger._target_=pytorch_lightning.loggers.CSVLogger", "logger.nme=a"], "logger.nme: .*no such option"),
    ],
)
def test_a_bad_choice_names_key_and_remedy(module, composed, overrides, message) -> None:
    with pytest.raises(EmoshareError, match=message):
        composed(*overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loss._target_=outside_kinds.number"], "gives float; it must give a tensor"),
        (["loss._target_=outside_kinds.rows"], r"gives the shape \(8,\); it must give a scalar"),
        (["loss._target_=outside_kinds.infinite"], "it must give a finite number"),
        (["loss._target_=outside_kinds.detached"], "has no gradient"),
        (["loss._target_=outside_kinds.crashing"], r"on shares \(8, 9\): RuntimeError(.|\n)*outside_kinds.py"),
        (["optimizer._target_=outside_kinds.Stuck"], "Stuck on the parameters of a linear layer: RuntimeError: stuck"),
    ],
)
def test_what_fails_on_a_tiny_batch_never_starts(module, composed, overrides, message, tmp_path) -> None:
    with pytest.raises(EmoshareError, match=message):
        check_ready([ResolvedRun(composed(*overrides))])
    assert not (tmp_path / "outputs").exists()


def test_a_finished_run_is_read_without_what_it_was_trained_by(module, composed) -> None:
    config = composed("loss._target_=outside_kinds.tolerant", "logger._target_=pytorch_lightning.loggers.CSVLogger")
    train(config)
    module.unlink()
    sys.modules.pop("outside_kinds")
    run = ResolvedRun(config).run
    found = run.config()
    assert isinstance(found.loss, Outside)
    assert run.identity() is not None
    import emoshare

    clip = next((Path(config.data.root) / "wav").glob("*.wav"))
    assert len(emoshare.load(run.folder).predict(clip)) == 9
    assert "outside_kinds" not in sys.modules
    assert json.loads(run.results_path.read_text())["config"]["loss"]["_target_"] == "outside_kinds.tolerant"
