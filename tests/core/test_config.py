"""Every file of conf/ composes into the typed schema, and impossible values are named."""

import pytest
import yaml
from composed import CONF, config

from emoshare.core.errors import EmoshareError
from emoshare.core.schema import MISSING
from emoshare.core.validate import check

OPTIONS = sorted(
    f"{path.parent.name}={path.stem}"
    for path in CONF.glob("*/*.yaml")
    if path.parent.name not in ("hydra", "experiment")
)
GIVEN = {  # what an option leaves to the user, or to the checkpoint
    "data=csv": ["data.targets=[a]"],
    "data=audformat": ["data.targets=[a]"],
    "data=table": ["data.table=a.csv", "data.targets=[a]"],
    "backbone=auto": ["backbone.path=a", "backbone.name=a", "backbone.dim=1", "backbone.layers=1"],
    "backbone=emotion2vec": ["backbone.path=a", "backbone.name=a", "backbone.dim=1", "backbone.layers=1"],
    "backbone=features": ["backbone.path=a", "backbone.name=a", "backbone.dim=1", "backbone.shape=vector"],
    "backbone=concat": ["backbone.name=a", "backbone.dim=1", "backbone.parts=[{name: a, dim: 1},{name: b, dim: 1}]"],
}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_fills_the_schema(option: str) -> None:
    check(config(option, *GIVEN.get(option, [])))


def test_finetuning_switches_on_all_that_the_released_code_does() -> None:
    found, plain = config("experiment=finetune"), config()
    assert (found.backbone.frozen, found.backbone.specaugment, found.backbone.layerdrop) == (False, True, "checkpoint")
    assert (found.optimizer.backbone_lr, found.window.crop, found.train.select) == (1e-5, "random", "ccc")
    assert (found.loss.ccc, found.loss.mse, found.loss.mae, found.loss.released) == (1, 0, 0, True)
    assert not any((plain.backbone.specaugment, plain.backbone.layerdrop, plain.loss.released))
    assert config("experiment=finetune", "loss=mae").loss.mae == 1  # the command line has the last word
    assert config("experiment=finetune", "train.select=avg").train.select == "avg"


@pytest.mark.parametrize("experiment", sorted(path.stem for path in CONF.glob("experiment/*.yaml")))
def test_every_experiment_is_a_small_delta(experiment: str) -> None:
    check(config(f"experiment={experiment}"))
    lines = (CONF / "experiment" / f"{experiment}.yaml").read_text().splitlines()
    assert len([line for line in lines if line.strip() and not line.startswith("#")]) <= 20


def test_the_default_is_the_papers_best_system() -> None:
    c = config()
    assert (c.backbone.path, c.window.seconds, c.window.pad) == ("facebook/hubert-large-ll60k", 5.5, "zeros")
    assert (c.optimizer.name, c.optimizer.lr, c.optimizer.weight_decay) == ("adamw", 1e-3, 1e-3)
    assert (c.head.pooling, c.head.hidden, c.head.activation) == ("attention", 256, "gelu")
    assert (c.data.batch_size, c.trainer.epochs, c.loss.ccc) == (8, 30, 1.0)
    assert c.backbone.frozen


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("window.seconds=0", ["window.seconds=0", "0.025"]),
        ("window.seconds=-1", ["window.seconds=-1", "0.025"]),
        ("window.seconds=0.02", ["window.seconds=0.02", "400 samples"]),
        ("window.seconds=nan", ["window.seconds=nan"]),
        ("window.pad=zero", ["window.pad=zero", "did you mean 'zeros'"]),
        ("optimizer.name=adamv", ["did you mean 'adam"]),
        ("loss.ccc=0", ["loss"]),
        ("data.targets=[]", ["data.targets"]),
        ("data.batch_size=0", ["data.batch_size=0"]),
        ("data.batch_size=1", ["data.batch_size=1", "2 or more"]),
        ("head.dropout=1.5", ["head.dropout=1.5", "less than 1"]),
        ("optimizer.factor=1", ["optimizer.factor=1", "less than 1"]),
        ("optimizer.patience=-1", ["optimizer.patience=-1", "at least 0"]),
        ("data.targets=[mean]", ["data.targets", "mean"]),
        ("backbone.layer=lost", ["backbone.layer=lost"]),
        ("trainer.epochs=0", ["trainer.epochs=0"]),
        ("seed=-1", ["seed=-1"]),
        ("window.seconds=inf", ["window.seconds=inf"]),
        ("extract.max_batch_seconds=many", ["extract.max_batch_seconds=many"]),
    ],
)
def test_impossible_values_are_named(override: str, words: list[str]) -> None:
    with pytest.raises(EmoshareError) as error:
        check(config(override))
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


def test_backbone_files_hold_what_differs_from_the_schema() -> None:
    """What they leave out has the default of the schema, where its meaning stands."""
    for path in (CONF / "backbone").glob("*.yaml"):
        section = config(f"backbone={path.stem}").backbone
        assert section.name == (MISSING if path.stem in ("auto", "concat", "emotion2vec", "features") else path.stem)
        keys = set(yaml.safe_load(path.read_text()))
        others = {key: declared.default for key, declared in section.own_keys().items() if key not in keys}
        assert {key: getattr(section, key) for key in others} == others, path.name


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("head.pooling=attention", "head.pooling=attention: must be one of auto, mean"),
        ("head.grid=[]", r"head.grid=\[\]: must hold at least one value"),
        ("head.grid=[0.1,0]", r"head.grid=\[0.1,0\]: each must be a finite number, more than 0"),
        ("head.grid=[0.1,0.1]", "head.grid=.*: must hold at least one value, each once"),
        ("head.scalers=[robust]", "head.scalers=.*: must be one of standard, minmax"),
        ("head.losses=[mse]", "head.losses=.*: must be one of epsilon_insensitive, squared_epsilon_insensitive"),
    ],
)
def test_what_an_svr_cannot_be(override: str, message: str) -> None:
    check(config("head=svr"))
    with pytest.raises(EmoshareError, match=message):
        check(config("head=svr", override))


def test_what_concerns_the_mlp_alone_does_not_stop_an_svr() -> None:
    check(config("head=svr", "data.batch_size=1"))
    with pytest.raises(EmoshareError, match=r"head\.pooling=functionals: must be one of attention, mean"):
        check(config("head.pooling=functionals"))
