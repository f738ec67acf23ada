"""A key that is given and not read is refused before anything runs; one that some run of a sweep reads is not."""

from __future__ import annotations

import re

import pytest
from hydra._internal.utils import get_args_parser

from emoshare.command.compose import compose_one, plan
from emoshare.command.jobs import Job
from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.core.schema import declared_keys, keys_of, value_at

DATA = "data.root=/corpus"


def jobs(*overrides: str) -> list[Job]:
    return plan(get_args_parser().parse_args(["-m", DATA, *overrides]), corpus=True).jobs


def test_conditions_name_keys_and_values_that_there_are() -> None:
    keys = declared_keys(Config)
    for name, declared in keys.items():
        for other, values in [*declared.key.only.items(), *declared.key.unless.items()]:
            if other == "head.network":  # what the head says of itself
                continue
            choices = keys[other].key.choices
            assert not choices or set(values) <= set(choices), name


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["head=svr", "loss=mse", "optimizer.lr=0.1"], ["loss=mse", "optimizer.lr=0.1"]),
        (["head=svr", "head.hidden=512", "trainer.epochs=3"], ["head.hidden=512", "trainer.epochs=3"]),
        (["head=svr", "train.mixup=0.2", "optimizer=sgd"], ["train.mixup=0.2", "optimizer=sgd"]),
        (["head.grid=[0.1]", "head.select=scc"], ["head.grid=[0.1]", "head.select=scc"]),
        (["head.heads=2", "head.segment_seconds=1"], ["head.heads=2", "head.segment_seconds=1"]),
        (["optimizer.momentum=0.9"], ["optimizer.momentum=0.9: is read with optimizer.name=rmsprop or sgd alone"]),
        (["optimizer.schedule=cosine", "optimizer.factor=0.1"], ["optimizer.factor=0.1"]),
        (["loss=mse", "loss.released=true"], ["loss.released=true: is not read with loss.ccc=0"]),
        (["head.hidden=0", "head.activation=relu"], ["head.activation=relu: is not read with head.hidden=0"]),
        (["backbone.specaugment=true", "backbone.lora=8"], ["backbone.specaugment=true", "backbone.lora=8"]),
        (["optimizer.backbone_lr=1"], ["optimizer.backbone_lr=1"]),
        (["backbone.units=8", "backbone.level=lld"], ["backbone.units=8", "backbone.level=lld"]),
        (["backbone=prosody", "backbone.pretrained=false"], ["backbone.pretrained=false"]),
        (["backbone.cache=false", "extract.precision=float32"], ["extract.precision=float32"]),
        (["data.clips=40"], ["data.clips=40: is read with data.name=demo alone, and here it is compare23"]),
        (["data.split_seed=1"], ["data.split_seed=1: is not read with data.folds=null"]),
        (["experiment=best", "head=svr", "head.pooling=auto", "backbone=wavlm_large", "seed=0"], ["train.average=5"]),
    ],
)
def test_what_the_run_does_not_read_is_refused_all_at_once(overrides: list[str], named: list[str]) -> None:
    with pytest.raises(EmoshareError) as error:
        compose_one([DATA, *overrides])
    lines = str(error.value).splitlines()
    assert all(any(line.startswith(start) for line in lines) for start in named), lines
    assert all(re.search("leave it out, or (change|choose another) ", line) for line in lines)


def test_groups_and_values_at_their_defaults_are_no_request() -> None:
    for system in ("prosody_svr", "opensmile_svr", "audeep_svr", "deepspectrum_svr", "wav2vec2_svr", "tiny_mlp"):
        compose_one([DATA, f"system={system}"])
    compose_one([DATA, "head=svr", "loss=ccc", "optimizer.lr=1e-3"])


@pytest.mark.parametrize("name", ["best", "ablation", "table6", "table6_nine", "grid", "quickstart", "finetune"])
def test_the_experiments_give_nothing_in_vain(name: str) -> None:
    assert jobs(f"experiment={name}")


def test_a_key_that_one_run_of_a_sweep_reads_is_fine_for_the_others() -> None:
    made = jobs("backbone=tiny", "head=mlp,svr", "optimizer.lr=0.1", "head.grid=[0.1]", "loss=mse")
    found = [(job.config.optimizer.lr, job.config.loss.mse, getattr(job.config.head, "grid", None)) for job in made]
    assert found == [(0.1, 1.0, None), (1e-3, 0.0, [0.1])]
    for job in made:  # the command that repeats a run alone is not refused
        alone = compose_one(job.overrides)
        assert all(value_at(alone, name) == value_at(job.config, name) for name in keys_of(job.config))
    with pytest.raises(EmoshareError, match=r"optimizer\.lr=0.2"):
        jobs("head=svr", "optimizer.lr=0.1,0.2")


def test_an_experiment_of_several_systems_may_name_keys_of_one() -> None:
    made = jobs(
        "experiment=best", "backbone=tiny", "backbone.layer=last", "head=mlp,svr", "head.pooling=mean", "seed=0"
    )
    assert [job.config.train.average for job in made] == [5, 1]
    assert [compose_one(job.overrides).train.average for job in made] == [5, 1]


def test_a_search_is_not_made_over_what_nothing_reads() -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    search = ["hydra/sweeper=search"]
    with pytest.raises(EmoshareError, match=r"optimizer\.lr=.*: is read by heads that are trained"):
        jobs(*search, "head=svr", "optimizer.lr=interval(0.1,1)")
    assert jobs(*search, "head=mlp,svr", "head.grid=[0.1]")


def test_a_key_at_the_top_of_the_config_is_refused_as_one_of_a_section() -> None:
    balance = r"balance=sex: is read with sampler=balanced alone, and here it is shuffle"
    with pytest.raises(EmoshareError, match=balance):
        compose_one(["data=demo", "backbone=logmel", "balance=sex"])
    with pytest.raises(EmoshareError, match=r"sampler=balanced: is read by heads that are trained in epochs"):
        compose_one(["data=demo", "backbone=logmel", "head=svr", "sampler=balanced"])
    made = jobs("backbone=tiny", "head=mlp,svr", "sampler=balanced")
    assert [job.config.sampler for job in made] == ["balanced", "shuffle"]


def test_a_job_notes_no_value_that_was_not_typed() -> None:
    made = jobs("backbone=tiny", "head=mlp,svr", "trainer.epochs=5", "train.select=scc", "optimizer=sgd", "loss=mse")
    shared = [DATA, "backbone=tiny"]
    mlp = ["head=mlp", "trainer.epochs=5", "train.select=scc", "optimizer=sgd", "loss=mse"]
    assert [sorted(job.overrides) for job in made] == [sorted([*shared, *mlp]), sorted([*shared, "head=svr"])]
    assert [job.config.trainer.epochs for job in made] == [5, 30]
    made = jobs(
        "experiment=best", "backbone=tiny", "backbone.layer=last", "head=mlp,svr", "head.pooling=mean", "seed=0"
    )
    added = {line for line in made[1].overrides if line not in made[0].overrides}
    assert {"head=svr", "train.average=1"} <= added
