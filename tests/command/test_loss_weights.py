"""`loss={kl: 1, ccc: 0.5}`: a mix of losses by its weights alone, wherever overrides come in."""

from __future__ import annotations

import pytest
from composed import BASE, config
from hydra.types import RunMode
from omegaconf import open_dict

import emoshare
from emoshare.command.compose import plan, start_hydra, to_config
from emoshare.command.overrides import name_all_weights, parse
from emoshare.core.errors import EmoshareError
from emoshare.runs.resolved import ResolvedRun

SMALL = ("data=demo", "data.clips=60", "backbone=logmel", "window.seconds=1", "trainer.epochs=1", "logger=none")


@pytest.mark.parametrize(
    ("short", "long"),
    [
        (["loss={ccc: 1}"], ["loss=ccc"]),
        (["loss={kl: 1, ccc: 0.5}"], ["loss=kl", "loss.ccc=0.5"]),
        (["loss={kl:1,ccc:0.5}"], ["loss=kl", "loss.ccc=0.5"]),
        (["loss={focal_bce: 1, gamma: 3}"], ["loss=focal_bce", "loss.gamma=3"]),
        (["loss={kl: 1}", "loss.ccc=0.5"], ["loss=kl", "loss.ccc=0.5"]),
        (
            ["experiment=finetune", "loss={ccc: 1}"],
            ["experiment=finetune", "loss=ccc"],
        ),  # its released CCC is left, too
    ],
)
def test_weights_in_braces_are_the_loss_as_its_keys_make_it(short, long) -> None:
    assert config(*short).loss == config(*long).loss
    assert ResolvedRun(config("data=demo", *short)).run.name == ResolvedRun(config("data=demo", *long)).run.name


@pytest.mark.parametrize(
    "swept", ["loss={kl: 1, ccc: 0.5},ccc", "loss={kl:1,ccc:0.5},ccc", "loss=choice({kl: 1, ccc: 0.5},ccc)"]
)
def test_a_sweep_takes_them_among_other_values(swept) -> None:
    first, second = (job.config.loss for job in plan(parse(["-m", "data=demo", swept]), corpus=True).jobs)
    assert first == config("loss=kl", "loss.ccc=0.5").loss
    assert second == config("loss=ccc").loss


def test_python_trains_with_them_and_finds_the_run_again(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    trained = emoshare.train(*SMALL, "loss={kl: 1, ccc: 0.5}")
    again, other = emoshare.sweep(*SMALL, "loss={kl: 1, ccc: 0.5},kl")
    assert again == trained
    assert other.run != trained.run


def test_hydra_itself_composes_the_same_loss() -> None:
    """As for its launchers, its search and --cfg."""
    with start_hydra() as hydra:
        lines = [*BASE, "experiment=finetune", "loss={kl: 1}"]
        cfg = hydra.compose_config(
            "train", [*map(name_all_weights, lines)], run_mode=RunMode.RUN, with_log_configuration=False
        )
        with open_dict(cfg):
            del cfg["hydra"]
    assert to_config(cfg)[0].loss == config("experiment=finetune", "loss=kl").loss
    assert name_all_weights("loss=ccc,{kl: 1}").startswith("loss=ccc,{")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("loss={kll: 1}", "loss.kll: no such key; did you mean 'loss.kl'?"),
        ("loss={kl: 1, cccc: 1}", "loss.cccc: no such key; did you mean 'loss.ccc'?"),
        ("loss={kl: -1}", "loss.kl=-1: must be at least 0"),
        ("loss={kl: much}", "loss.kl=much: must be a number"),
        ("loss={kl: nan}", "loss.kl=nan: must be a finite number"),
        ("loss={kl: 0}", "loss: all weights are 0"),
        ("loss={}", "loss: all weights are 0"),
        ("loss={kl}", "loss={kl}: an override has the form"),
    ],
)
def test_what_is_wrong_with_them_is_named_in_one_line(override, words) -> None:
    with pytest.raises(EmoshareError) as error:
        emoshare.compose("data=demo", override)
    assert words in str(error.value)
    assert len(str(error.value).splitlines()) == 1
