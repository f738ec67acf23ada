"""Careless command lines: all mistakes in lines that name them, nothing ignored in silence, nothing overwritten."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest
from hydra.errors import MissingConfigException

from emoshare.command.compose import compose_one, plan
from emoshare.command.messages import one_line
from emoshare.command.overrides import parse
from emoshare.core.errors import EmoshareError, together


@pytest.fixture(scope="module")
def trained(tmp_path_factory, small) -> Path:
    from emoshare.command.cli import main

    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", *small, "trainer.epochs=1"]) == 0
    return folder


@pytest.fixture
def run(trained, tmp_path) -> str:
    shutil.copytree(trained / "outputs", tmp_path / "outputs")
    [path] = (tmp_path / "outputs/default").glob("*/results.json")
    return str(path.parent)


@pytest.fixture
def clip(corpus_root) -> str:
    return str(min((corpus_root / "wav").iterdir()))


def test_steps_together_give_their_values_or_all_that_is_wrong() -> None:
    def wrong(text: str) -> None:
        raise EmoshareError(text)

    assert together(lambda: 1, list) == [1, []]
    with pytest.raises(EmoshareError, match=r"^a\nb\nc$"):
        together(lambda: wrong("a"), list, lambda: wrong("b\nc"), lambda: wrong("a"))


@pytest.mark.parametrize("verb", ["predict", "train", "report", "status", "fuse", "serve"])
def test_an_empty_word_is_no_working_directory(emoshare, verb) -> None:
    """As "$CLIPS" is, where the variable is not set."""
    result = emoshare(verb, "some", " ")
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith(f"emoshare: {verb}: an argument is empty")


@pytest.mark.parametrize("verb", ["train", "status", "doctor"])
def test_help_is_a_word_for_the_page_of_help(emoshare, verb) -> None:
    result = emoshare(verb, "help")
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith(f"usage: emoshare {verb}")


def test_all_mistakes_of_a_verb_show_at_once(emoshare, run, clip) -> None:
    options = ["--windows", "0", "--scale=-1", "--store", "--step", "1", "--out", "x.txt"]
    lines = emoshare("predict", run, "nothing", "nowhere", *options).err.splitlines()
    words = ["nothing:", "nowhere:", "--store:", "windows=0:", "scale=-1.0:", "x.txt:"]
    assert [line.split()[1] for line in lines] == words
    options = ["--windows", "nan", "--scale", "nan", "--out", "figures"]
    lines = emoshare("explain", run, clip, *options).err.splitlines()
    assert [line.split()[1] for line in lines] == ["windows=nan:", "scale=nan:"]
    options = ["--windows", "0", "--step", "nan", "--scale", "0", "--store", "--out", "x.txt"]
    lines = emoshare("embed", run, clip, *options).err.splitlines()
    assert [line.split()[1] for line in lines] == ["x.txt:", "windows=0:", "step=nan:", "scale=0.0:", "--store:"]


def test_a_revision_is_of_the_hub(emoshare, run, clip) -> None:
    result = emoshare("predict", run, clip, "--revision", "main")
    assert result.status == 1
    assert f"--revision main: is of a model on the hub, and {run} a folder; leave it out" in result.err


@pytest.mark.parametrize("verb", ["predict", "embed"])
def test_tables_of_others_and_inputs_are_not_replaced(emoshare, run, clip, tmp_path, verb) -> None:
    labels = tmp_path / "devel.csv"
    labels.write_text("filename,Anger\n1.wav,0.5\n")
    result = emoshare(verb, run, clip, "--out", "devel.csv")
    assert result.status == 1
    assert "devel.csv: is an input, or holds something that emoshare has not written; name another" in result.err
    assert labels.read_text() == "filename,Anger\n1.wav,0.5\n"
    (tmp_path / "empty.csv").touch()
    for _ in range(2):  # its own table is written anew
        assert emoshare(verb, run, clip, "--out", "empty.csv").status == 0


def test_features_are_not_replaced_by_their_means(emoshare, small, tmp_path) -> None:
    corpus = small[:2]
    assert emoshare("embed", "backbone=logmel", *corpus, "--out", "f.npz", "--pooling", "frames").status == 0
    before = (tmp_path / "f.npz").read_bytes()
    result = emoshare("embed", "backbone=features", "backbone.path=f.npz", *corpus, "--out", "f.npz")
    assert "f.npz: is an input" in result.err
    assert (tmp_path / "f.npz").read_bytes() == before


def test_keys_that_a_verb_does_not_read_are_refused(emoshare, run, clip) -> None:
    words = ["data=demo", "window.seconds=9", "head=svr"]
    lines = emoshare("evaluate", run, *words).err.splitlines()
    assert lines == [
        f"emoshare: {word}: evaluate reads data, paths, experiment alone; leave it out" for word in words[1:]
    ]
    result = emoshare("embed", run, clip, "window.seconds=9", "--out", "e.npz")
    assert "window.seconds=9: embed with a run reads data, paths, cache alone" in result.err
    result = emoshare("embed", "backbone=logmel", clip, "optimizer=sgd", "window.seconds=1", "--out", "e.npz")
    assert "optimizer=sgd: embed reads " in result.err
    assert "window.seconds" not in result.err


def test_a_fusion_lies_in_no_run(emoshare, run, trained) -> None:
    """A report of the sweep would not find it, and `status` of the run would show it in the run's place."""
    result = emoshare("fuse", run, "nothing", "--out", run, "--weights", "1e308,1e308")
    lines = result.err.splitlines()
    assert "must be finite numbers" in lines[0]
    assert lines[1] == f"emoshare: {run}: the folder of a run; name that of a sweep, or a new one, with --out"
    assert "nothing: no such folder" in lines[2]
    assert "outputs: no finished run" in emoshare("fuse", "outputs", "--out", "fused").err


@pytest.mark.parametrize("action", ["list", "verify", "prune"])
def test_a_folder_that_is_no_cache_is_not_an_empty_one(emoshare, trained, tmp_path, action) -> None:
    (tmp_path / "file").touch()
    cache = trained / "cache"
    for folder in ("file", "nowhere", str(cache / "frames")):
        result = emoshare("cache", action, "--cache", folder)
        assert result.status == 1
        assert f"{folder}; name paths.cache of the runs with --cache" in result.err
    assert emoshare("cache", action).status == 0  # nothing was stored here yet
    if action != "prune":
        assert emoshare("cache", action, "--cache", str(cache), "--max-gb", "1").status == 2


def test_a_recipe_that_cannot_be_read_is_damage(emoshare, trained, tmp_path) -> None:
    shutil.copytree(trained / "cache", tmp_path / "cache")
    assert emoshare("cache", "verify").status == 0
    [recipe] = (tmp_path / "cache/frames").glob("*/recipe.json")
    recipe.write_text("{")
    result = emoshare("cache", "verify")
    assert result.status == 1
    assert "recipe.json: not readable" in result.err
    assert f"delete cache/frames/{recipe.parent.name}" in result.err


def test_a_cache_that_is_a_file_is_a_problem(emoshare, tmp_path) -> None:
    (tmp_path / "file").touch()
    assert "problem: file: a file; name a folder with --cache" in emoshare("doctor", "--cache", "file").out


def test_a_place_that_cannot_be_written_is_said_with_the_options_of_every_verb(emoshare, run, clip, tmp_path) -> None:
    (tmp_path / "file").touch()
    result = emoshare("predict", run, clip, "--store", "--cache", "file")
    assert result.status == 1
    assert "(or --out, --cache) to folders that can be written" in result.err


def mistakes(*arguments: str) -> list[str]:
    with pytest.raises(EmoshareError) as error:
        plan(parse(["data=demo", "data.root=demo", *arguments]), corpus=True)
    return str(error.value).splitlines()


def test_a_sweep_over_nothing_is_a_mistake_beside_others() -> None:
    assert mistakes("-m", "seed=range(3,0)", "trainer.epochs=0") == [
        "seed=range(3,0): names no value; range(0,3) is 0, 1 and 2",
        "trainer.epochs=0: must be at least 1 and at most 1000000",
    ]
    assert mistakes("-m", "backbone=glob(log*)") == [
        "backbone=glob(log*): a glob is not read here; list the options, as backbone=a,b"
    ]


def test_what_is_read_in_vain_is_named_as_it_was_typed() -> None:
    lines = mistakes("backbone=logmel", "head=svr", "loss=mse", "optimizer=sgd", "head.hidden=3")
    assert [line.partition(":")[0] for line in lines] == ["loss=mse", "optimizer=sgd", "head.hidden=3"]
    assert all(line.endswith("leave it out, or choose another head (head=…)") for line in lines)
    assert mistakes("-m", "backbone=logmel", "head=svr", "loss=mse,kl")[0].startswith("loss=kl: is read by heads")


@pytest.mark.parametrize("signed", ["+seed=4", "+backbone=logmel", "++debug=limit", "+data.clips=40"])
def test_a_plus_before_what_there_is_is_to_be_left_out(signed) -> None:
    [line] = mistakes(signed)
    key = signed.strip("+").partition("=")[0]
    assert line.startswith(f"+{key}=")
    assert f"is in the config already; write {key}=" in line


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("seed=1 seed=2", "seed=1: seed=2 comes later, and it alone counts"),
        ("seed=1 seed=3 seed=2", "seed=1 and seed=3: seed=2 comes later, and it alone counts"),
        ("backbone=tiny backbone=logmel", "backbone=tiny: backbone=logmel comes later, and it alone counts"),
        (
            "+trainer.options.fast_dev_run=1 ++trainer.options.fast_dev_run=2",
            "+trainer.options.fast_dev_run=1: ++trainer.options.fast_dev_run=2 comes later, and it alone counts",
        ),
        ("-m seed=0,1 seed=2", "seed=0,1: seed=2 comes later, and it alone counts"),
        ("loss={kl:1} loss={ccc:1}", "loss={kl:1}: loss={ccc:1} comes later, and it alone counts"),
        ("head={hidden:3} head={hidden:4}", "head={hidden:3}: head={hidden:4} comes later, and it alone counts"),
        ("seed=1 seed=1", ""),
        ("head={hidden:3} head={dropout:0.1}", ""),
        ("loss=ccc loss={eps:0.1}", ""),
        ("-m hydra.sweeper.params={seed:0} seed=1", ""),
        ("experiment=best seed=1", ""),
    ],
)
def test_a_key_that_is_given_again_is_told(caplog, typed, line) -> None:
    options = parse(["data=demo", "data.root=demo", "backbone=logmel"][: 2 + ("backbone" not in typed)] + typed.split())
    with contextlib.suppress(EmoshareError):
        plan(options, corpus=True)
    assert [record.message for record in caplog.records] == [line] * bool(line)


def test_a_metric_is_named_once() -> None:
    line = "metrics=[scc,ccc,scc]: scc is named twice"
    assert mistakes("backbone=logmel", "metrics=[scc,ccc,scc]") == [line]


def test_a_project_of_nothing_is_refused(emoshare) -> None:
    result = emoshare("report", "outputs/default", "--project", "mine")
    assert result.status == 2
    assert "--project mine: is of W&B; add --wandb offline or online" in result.err


def test_a_part_of_several_backbones_is_named_once() -> None:
    assert mistakes("backbone=concat", "backbone.parts=[logmel,logmel]") == ["backbone.parts: logmel: is named twice"]
    states = "backbone.parts=[{name: tiny, layer: 1}, {name: tiny, layer: 2}]"
    assert len(compose_one(["data=demo", "backbone=concat", states]).backbone.parts) == 2


@pytest.mark.parametrize(
    ("group", "option", "line"),
    [
        ("hydra/sweeper", "optuna", 'its plugin is not installed; run `pip install "emoshare[optuna]"`'),
        ("hydra/sweeper", "nosuch", "no such option; there are: basic, search"),
        ("backbone", "nosuch", "no such option; there are: basic, search"),
    ],
)
def test_hydras_own_groups_are_named_as_they_are_typed(group, option, line) -> None:
    error = MissingConfigException(f"Could not find '{group}/{option}'\n\nAvailable options:\n\tbasic\n\tsearch", "x")
    assert one_line(error) == f"{group}={option}: {line}"


def test_columns_are_not_looked_for_in_a_folder_that_is_not_named() -> None:
    with pytest.raises(EmoshareError) as error:
        compose_one(["data=csv"])
    assert "???" not in str(error.value)


@pytest.mark.parametrize("head", ["svr", "sklearn"])
def test_bench_measures_heads_that_are_trained_in_epochs(emoshare, head) -> None:
    result = emoshare("bench", f"head={head}", "backbone=logmel")
    assert result.status == 1
    assert f"head={head}: bench measures heads that are trained in epochs; choose head=mlp" in result.err
    result = emoshare("bench", "svr", "head=mlp")
    assert result.err == "emoshare: head=mlp: bench svr measures head=svr; leave it out\n"
