"""Bad values for every key of the schema, through the real parsing of the command line: a line for each mistake."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from composed import config
from hydra._internal.utils import get_args_parser

from emoshare.command.compose import Composer, plan, start_hydra
from emoshare.command.jobs import Job
from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.core.kinds import ROOMS, sibling_keys
from emoshare.core.schema import Declared, declared_keys

GOOD = ["data.root=/corpus", "backbone=logmel"]
KEYS = declared_keys(Config)
GOOD_CONFIG = config("backbone=logmel")
HUGE = "1" + "0" * 30
CHOSEN = {  # section and one of its kind → what else makes it the one
    "backbone.encoder": ["backbone=tiny"], "backbone.concat": ["backbone=concat", "backbone.parts=[prosody,logmel]"],
    "backbone.features": ["backbone=features", "backbone.path=FEATURES"],
}  # fmt: skip


def chosen(name: str) -> list[str]:
    """What makes the config hold a class that has the key of a name."""
    section, _, key = name.partition(".")
    if section not in ROOMS or key in declared_keys(type(getattr(GOOD_CONFIG, section))):
        return []
    owner = next(iter(sibling_keys(section, key)))
    return CHOSEN.get(f"{section}.{owner}", [f"{section}={owner}"])


def jobs(*overrides: str, multirun: bool = False) -> list[Job]:
    return plan(get_args_parser().parse_args([*["-m"] * multirun, *GOOD, *overrides]), corpus=True).jobs


def mistakes(*overrides: str, multirun: bool = False) -> list[str]:
    """The lines of the error that the overrides lead to; none where they are taken."""
    try:
        jobs(*overrides, multirun=multirun)
    except EmoshareError as error:
        return str(error).splitlines()
    return []


@pytest.fixture(scope="module")
def composer() -> Composer:
    """One for many commands: Hydra merges the files once."""
    with start_hydra() as hydra:
        made = Composer(hydra, [], corpus=True)
        made.job(GOOD, {})
    return made


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What another tool has made of a clip."""
    path = tmp_path_factory.mktemp("features") / "features.csv"
    path.write_text("file,a,b\nclip.wav,1,2\n")
    return path


def bad_values(declared: Declared) -> Iterator[str]:
    """What no key of that type and range takes."""
    kind, key = declared.kind, declared.key
    yield "{a: 1}" if kind is not dict else "3"
    if kind is not dict and not declared.optional:
        yield "null"
    if kind is bool:
        yield from ("2", "-1", "maybe", "[true]", "1.5", "''")
    elif kind in (int, float):
        yield from ("word", "''", "[1,2]", "true", "nan", "inf", "-inf")
        yield from (["1.5"] if kind is int else [])
        yield from ["-1"] if max(key.at_least, key.more_than) >= 0 else []
        yield from [HUGE, "1e300"] if math.isfinite(min(key.at_most, key.less_than)) else []
        yield from ["0"] if key.more_than == 0 else []
    elif kind is list:
        yield from ("word", "3", "['']", "[a,'',b]", "[' ']", "[[a]]", "[null]")
    elif kind is str:
        yield from ("''", "' '", "[a,b]", "'a\tb'")
        yield from ["nonsense"] if key.choices or key.words else []
        yield from ["a/b", "../a", "..", "/a", f"{'a' * 300}"] if key.file_name else []
        yield from ["0", "-1", "nan", "inf"] if key.more_than == 0 else []


CASES = [(name, value) for name, declared in KEYS.items() for value in bad_values(declared)]


def test_the_cases_cover_every_key() -> None:
    assert {name for name, _ in CASES} == set(KEYS)
    assert len(CASES) > 400


@pytest.mark.parametrize("name", KEYS)
def test_a_bad_value_is_one_line_with_its_key(name: str, composer: Composer, features: Path) -> None:
    others = [word.replace("FEATURES", str(features)) for word in chosen(name)]
    for value in (value for key, value in CASES if key == name):
        mistaken: dict[str, None] = {}
        composer.job([*GOOD, *others, f"{name}={value}"], mistaken)
        found = list(mistaken)
        assert len(found) == 1, f"{name}={value}: {found}"
        assert found[0].startswith((f"{name}=", f"{name} ", f"{name}: ")), f"{value}: {found}"
        assert "must" in found[0], found


def test_all_mistakes_of_a_command_are_reported_at_once() -> None:
    """Of grammar, of groups, of keys, of types, of ranges, and of rules over several keys."""
    bad = ["head=mpl", "windw.seconds=1", "seed=x", "window.pad=zero", "data.batch_size=1", "=3", "force=2"]
    found = mistakes(*bad)
    assert len(found) == len(bad), found
    for word in ("head=mpl", "windw", "seed=x", "window.pad=zero", "data.batch_size=1", "=3", "force=2"):
        assert sum(line.startswith(word) for line in found) == 1, (word, found)


def test_the_mistakes_of_all_jobs_are_reported_at_once() -> None:
    found = mistakes("window.seconds=0,1,abc", "backbone=tiny,timy", "seed=0,-1", "foo=1,2", multirun=True)
    assert [line.split(":")[0] for line in sorted(found)] == [
        "backbone=timy", "foo", "seed=-1", "window.seconds=0", "window.seconds=abc",
    ]  # fmt: skip


def test_several_options_of_a_group_are_an_error_with_a_remedy() -> None:
    [line] = mistakes("backbone=[logmel,tiny]")
    assert line.startswith("backbone=[logmel,tiny]:")
    assert "-m backbone=logmel,tiny" in line


@pytest.mark.parametrize(
    ("given", "key", "value"),
    [
        ("window.seconds=3", "window.seconds", 3.0), ("optimizer.lr=1e-4", "optimizer.lr", 1e-4),
        ("sweep.name=3", "sweep.name", "3"), ("force=yes", "force", True),
        ("backbone={type: hubert, path: a, layers: 2, layer: 0}", "backbone.layer", "0"),
        ("resume=0", "resume", False), ("data.targets=[1,b]", "data.targets", ["1", "b"]),
        ("cache.max_gb=null", "cache.max_gb", None), ("window={seconds: 2}", "window.seconds", 2.0),
        ("trainer.precision=32", "trainer.precision", "32"), ("data.root=~/corpus", "data.root", "/home/me/corpus"),
        ("+trainer.options.gradient_clip_val=1", "trainer.options", {"gradient_clip_val": 1}),
    ],
)  # fmt: skip
def test_good_values_are_of_their_keys_type(given, key, value, monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    [job] = jobs(given)
    found = job.config
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value
    assert type(found) is type(value)


def test_jobs_are_what_hydra_composes() -> None:
    """Groups are merged once and values set on copies: the configs are those that Hydra makes one by one."""
    from hydra import compose

    from emoshare.command.compose import to_config

    swept = [
        "experiment=quickstart", "system=logmel_mlp,tiny_mlp", "window=native,paper", "window.seconds=1,2",
        "head={hidden: 8}", "data.targets=[a,b],[c]", "loss=mse,mix", "+trainer.options.gradient_clip_val=1",
        "data.seed=3",
    ]  # fmt: skip
    made = jobs(*swept, multirun=True)
    assert len(made) == 32
    with start_hydra():
        for job in made[::5]:  # every value of every key
            assert job.config == to_config(compose("train", job.overrides))[0]
