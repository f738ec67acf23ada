"""Every error that a user will meet, through the real command line: one clear line, a status, nothing half-written."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from conftest import Result
from processes import Command

import emoshare.command.cli as cli
from emoshare.command.compose import compose_one, plan
from emoshare.command.help import EXAMPLES, page
from emoshare.command.overrides import parse
from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.core.hashing import write_sealed
from emoshare.core.schema import declared_keys
from emoshare.training.checkpoints import CheckpointFile

ROOT = Path(__file__).parents[2]


def overrides(root: Path) -> list[str]:
    return [
        "data=compare23", f"data.root={root}", "backbone=logmel", "window.seconds=1", "trainer.epochs=2",
        "trainer.progress=false", "logger=none",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def finished(corpus_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with outputs/ and cache/ of one finished run; read only."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.main(["train", *overrides(corpus_root)]) == 0
    return folder


@pytest.fixture
def ready(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """tmp_path with a finished run, which stays as it is; and no temporary file stays anywhere."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    before = contents(tmp_path)
    (tmp_path / "system").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "system"))
    yield tmp_path
    assert before.items() <= contents(tmp_path).items()
    assert not list((tmp_path / "system").iterdir())
    hidden = [p for p in tmp_path.rglob(".*") if p.is_file() and p.parent.name != ".locks"]
    assert not hidden, "temporary files were left behind"


def contents(folder: Path) -> dict[str, bytes]:
    """Every result under outputs/, byte by byte."""
    files = (p for p in (folder / "outputs").rglob("*") if p.is_file() and ".locks" not in p.parts)
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def run_folder(folder: Path) -> Path:
    """Of the one finished run."""
    [path] = folder.glob("outputs/default/*/results.json")
    return path.parent


def check_one_line(run: Result, *words: str) -> None:
    """The error is one line with all the words in it, and nothing else was printed to stderr."""
    assert run.status not in (0, None)
    assert run.err.startswith("emoshare: "), run.err
    assert run.err.count("\n") == 1, run.err
    assert "Traceback" not in run.out + run.err
    for word in words:
        assert word in run.err, run.err


def check_one_result(folder: Path) -> None:
    """No run but the one that was there has results."""
    assert len(list(folder.rglob("results.json"))) == 1


# What the user adds to a good command line, and what the one line must hold: the culprit and the remedy.
MISTAKES: dict[str, tuple[list[str], list[str]]] = {
    "wrong root": (["data.root=/no/where"], ["data.root", "/no/where"]),
    "unknown key": (["foo=1"], ["foo: no such key"]),
    "near key": (["window.second=1"], ["window.second:", "did you mean 'window.seconds'"]),
    "near section": (["windw.seconds=1"], ["windw.seconds:", "did you mean 'window'"]),
    "near group": (["windw=native"], ["windw:", "did you mean 'window'"]),
    "near option": (["window=natve"], ["window=natve", "did you mean 'native'"]),
    "near option of many": (["backbone=wavlm_larg"], ["'wavlm_large'? `emoshare train --help` lists all\n"]),
    "option like no other": (["loss=huber"], ["loss=huber: no such option; there are: bce, ccc"]),
    "key as a flag": (["--epochs", "3"], ["--epochs: no such flag; keys are written trainer.epochs=3", "--help"]),
    "key as a flag with its value": (["--lr=0.1"], ["--lr=0.1: no such flag; keys are written optimizer.lr=0.1"]),
    "value with brackets": (["data.columns={Joy: joy (mean)}"], ["\"data.columns={Joy: 'joy (mean)'}\""]),
    "weights that the shell has expanded": (["loss=kl:1"], ["loss=kl:1: no such", "'loss={kl: 1, ccc: 0.5}'"]),
    "losses with a plus": (["loss=kl+ccc"], ["loss=kl+ccc: no such", "quotes, as 'loss={kl: 1, ccc: 0.5}'"]),
    "losses with a comma": (["loss=kl,ccc"], ["loss=kl,ccc: several", "quotes, as 'loss={kl: 1, ccc: 0.5}'"]),
    "losses as a list": (["loss=[kl,ccc]"], ["loss=[kl,ccc]: one option", "quotes, as 'loss={kl: 1, ccc: 0.5}'"]),
    "weights that the shell has split": (["loss={kl:"], ["the shell has split it", "'loss={kl: 1, ccc: 0.5}'"]),
    "metrics without those of Avg": (["metrics=[scc,jsd]"], ["train.select=avg", "; add train.select=scc"]),
    "far option": (["window=zzz"], ["window=zzz", "there are: native, paper"]),
    "no option": (["window="], ["window=", "native, paper"]),
    "a value for a group": (["window=5.5"], ["window=5.5", "native, paper"]),
    "near experiment": (["experiment=tabel3"], ["experiment=tabel3", "did you mean 'table3'"]),
    "added key": (["+foo=1"], ["foo: no such key"]),
    "added key in a section": (["+window.foo=1"], ["window.foo: no such key"]),
    "no key": (["=3"], ["=3", "key=value"]),
    "no value": (["window.seconds"], ["window.seconds", "key=value"]),
    "two values": (["window=native=3"], ["window=native=3", "key=value"]),
    "open quote": (["data.root='a"], ["data.root='a", "key=value"]),
    "empty value": (["window.seconds="], ["window.seconds=", "a number"]),
    "word for a number": (["window.seconds=abc"], ["window.seconds=abc", "a number"]),
    "list for a number": (["window.seconds=[1,2]"], ["window.seconds=[1,2]", "a number"]),
    "null for a number": (["window.seconds=null"], ["window.seconds=null", "a number"]),
    "fraction for an int": (["seed=1.5"], ["seed=1.5", "a whole number"]),
    "word for a switch": (["resume=maybe"], ["resume=maybe", "true or false"]),
    "word for a list": (["data.targets=Joy"], ["data.targets=Joy", "a list"]),
    "number for a group of keys": (["trainer.options=3"], ["trainer.options=3", "keys and values"]),
    "wrong value in braces": (["window={seconds:abc}"], ["window.seconds", "a number"]),
    "deleted key": (["~window.seconds"], ["~window.seconds"]),
    "sweep without -m": (["window.seconds=1,2"], ["window.seconds=1,2", "-m"]),
    "sweep by choice without -m": (["seed=choice(1,2)"], ["seed=choice(1,2)", "-m"]),
    "window 0": (["window.seconds=0"], ["window.seconds=0", "0.025"]),
    "window negative": (["window.seconds=-1"], ["window.seconds=-1", "0.025"]),
    "window too short": (["window.seconds=0.02"], ["window.seconds=0.02", "400 samples"]),
    "window nan": (["window.seconds=nan"], ["window.seconds=nan", "0.025"]),
    "seed too large": (["seed=99999999999999999999"], ["seed=99999999999999999999", "4294967295"]),
    "no batch": (["data.batch_size=99"], ["data.batch_size=99", "28 clips"]),
    "root unset": (["data.root=???"], ["data.root is not set"]),
    "csv without targets": (["data=csv"], ["data.targets"]),
    "unknown precision": (["trainer.precision=17"], ["trainer.precision=17", "bf16-mixed"]),
    "half precision on a CPU": (["trainer.accelerator=cpu", "trainer.precision=16-true"], ["16-true", "bf16-mixed"]),
    "unknown accelerator": (["trainer.accelerator=cuda"], ["trainer.accelerator=cuda", "gpu"]),
    "Lightning's options without plus": (["trainer.options.a=1"], ["+trainer.options.a="]),
    "no such option of Lightning's": (["+trainer.options.profilr=1"], ["profilr:", "did you mean 'profiler'"]),
    "an option that is ours": (["+trainer.options.max_epochs=1"], ["trainer.options.max_epochs:"]),
    "unknown logger": (["logger.name=wandbb"], ["logger.name=wandbb", "did you mean 'wandb'"]),
    "unknown logger's group": (["logger=wandbb"], ["logger=wandbb", "did you mean 'wandb'"]),
    "unknown W&B mode": (["logger=wandb", "logger.mode=onlin"], ["logger.mode=onlin", "did you mean 'online'"]),
    "layer out of range": (["backbone=tiny", "backbone.layer=9"], ["backbone.layer=9", "3"]),
    "uncached": (
        ["backbone=hubert_base", "backbone.path=nobody/nothing"],
        ["backbone=hubert_base", "nobody/nothing", "hf download nobody/nothing", "backbone.path="],
    ),
    "no checkpoint": (["backbone=hubert_base", "backbone.path=cache"], ["backbone.path=cache", "config.json"]),
    "no such folder": (["backbone=hubert_base", "backbone.path=./none"], ["backbone.path=./none", "no such folder"]),
    "no use for a checkpoint": (["backbone=logmel", "backbone.path=tiny"], ["backbone.path=tiny", "logmel"]),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_on_the_command_line(emoshare, ready, corpus_root, name) -> None:
    more, words = MISTAKES[name]
    check_one_line(emoshare("train", *overrides(corpus_root), *more), *words)
    check_one_result(ready)


@pytest.mark.parametrize("swept", ["seed=0,x", "window.seconds=1,0", "backbone=tiny,timy", "foo=1,2", "=3"])
def test_a_mistake_in_a_sweep_shows_before_anything_is_computed(emoshare, ready, corpus_root, swept) -> None:
    check_one_line(emoshare("train", "-m", *overrides(corpus_root), "sweep.name=new", swept), swept.split("=")[0])
    assert not (ready / "outputs/new").exists()


def test_a_sweep_that_cannot_be_written(emoshare, ready, corpus_root) -> None:
    (ready / "file").touch()
    run = emoshare("train", "-m", *overrides(corpus_root), "paths.outputs=file/folder")
    check_one_line(run, "file/folder", "set paths.outputs")


def test_an_extraction_that_fails_leaves_the_others_to_be_done(emoshare, ready, corpus_root) -> None:
    run = emoshare("extract", "-m", *overrides(corpus_root)[:2], "window.seconds=1", "backbone=hubert_base,logmel")
    assert run.status == 1
    assert run.err.endswith("\n")
    assert "emoshare: backbone=hubert_base: facebook/hubert-base-ls960" in run.err
    assert "logmel, 1 s: there already" in run.out + run.err or "logmel 1 s: there already" in run.out + run.err


def test_every_one_of_several_mistakes_begins_with_the_programs_name(emoshare, ready, corpus_root) -> None:
    run = emoshare("train", *overrides(corpus_root), "optimizer.lr=inf", "head.hidden=-1", "seed=a")
    lines = run.err.splitlines()
    assert run.status == 1
    assert [line.split("=")[0] for line in sorted(lines)] == [
        f"emoshare: {key}" for key in ("head.hidden", "optimizer.lr", "seed")
    ]


@pytest.mark.parametrize("verb", ["trian", "foo", "hlep"])
def test_an_unknown_verb(emoshare, verb) -> None:
    words = {"trian": "did you mean 'train'", "foo": "emoshare --help", "hlep": "did you mean 'help'"}
    check_one_line(emoshare(verb), verb, words[verb])


# What is wrong with the corpus, and what the report must hold.
def no_table(root: Path) -> None:
    (root / "lab/devel.csv").unlink()


def no_wav(root: Path) -> None:
    next((root / "wav").iterdir()).unlink()


def cut_wav(root: Path) -> None:
    wav = min((root / "wav").iterdir())
    data = wav.read_bytes()
    wav.unlink()  # a link to the session's corpus
    wav.write_bytes(data[: len(data) // 2])


def text_wav(root: Path) -> None:
    wav = min((root / "wav").iterdir())
    wav.unlink()
    wav.write_text("These are not the samples that you are looking for.")


def equal_labels(root: Path) -> None:
    header, *rows = (root / "lab/devel.csv").read_text().splitlines()
    rows = [",".join([row.split(",")[0], *["0.5"] * (len(header.split(",")) - 1)]) for row in rows]
    (root / "lab/devel.csv").write_text("\n".join([header, *rows]) + "\n")


def one_clip(root: Path) -> None:
    lines = (root / "lab/devel.csv").read_text().splitlines()
    (root / "lab/devel.csv").write_text("\n".join(lines[:2]) + "\n")


CORPORA: dict[Callable[[Path], None], list[str]] = {
    no_table: ["lab/devel.csv", "cannot be read"],
    no_wav: ["1 × missing wav", ".wav: no such file"],
    cut_wav: ["1 × bad wav", ".wav: truncated"],
    text_wav: ["1 × bad wav", ".wav: not a sound file"],
    equal_labels: ["labels all equal", "lab/devel.csv: all labels of every target are equal"],
    one_clip: ["partition", "lab/devel.csv: one clip alone"],
}


@pytest.mark.parametrize("verb", ["check", "train"])
@pytest.mark.parametrize("spoil", CORPORA, ids=lambda spoil: spoil.__name__)
def test_a_corpus_that_cannot_be_used(emoshare, ready, corpus_root, spoil, verb) -> None:
    """The report has counts first and then lines, each with the table and the line in it."""
    root = ready / "corpus"
    shutil.copytree(corpus_root / "lab", root / "lab")
    shutil.copytree(corpus_root / "wav", root / "wav", copy_function=os.symlink)
    spoil(root)
    run = emoshare(verb, *overrides(root))
    assert run.status == 1
    first, second, *_ = run.err.splitlines()
    assert first.startswith(f"emoshare: corpus compare23 in {root}: errors: ")
    assert re.match(r"  \d+ × ", second)
    assert run.err.count("emoshare: ") == 1
    assert all(word in run.err for word in CORPORA[spoil]), run.err
    assert "Traceback" not in run.out + run.err
    check_one_result(ready)


@pytest.mark.parametrize("key", ["paths.outputs", "paths.cache"])
@pytest.mark.parametrize("place", ["below a file", "/proc/none", "a file"])
def test_a_folder_that_cannot_be_written(emoshare, ready, corpus_root, key, place) -> None:
    """Under a file and in /proc nobody can write, root included."""
    (ready / "file").touch()
    folder = {"below a file": "file/folder", "a file": "file"}.get(place, place)
    check_one_line(emoshare("train", *overrides(corpus_root), "seed=1", f"{key}={folder}"), folder, "set paths.", key)
    check_one_result(ready)


def test_no_permission(emoshare, ready, corpus_root, monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "there")

    monkeypatch.setattr(os, "replace", refuse)
    check_one_line(emoshare("train", *overrides(corpus_root), "seed=1"), "Permission denied", "paths.outputs")
    check_one_result(ready)


@contextmanager
def disk(room: int) -> Iterator[None]:
    """Files can grow to so many bytes: what does not fit fails as on a full disk, wherever it is written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(("room", "file"), [(0, "config.yaml"), (20_000, ".ckpt")])
def test_a_disk_that_fills_up(emoshare, ready, corpus_root, room, file) -> None:
    """Nothing half-written is left, and with room again the same command ends well."""
    command = ["train", *overrides(corpus_root), "seed=1"]
    with disk(room):
        run = emoshare(*command)
    check_one_line(run, "too large", "free some space", "paths.outputs")
    assert file in run.err or "failure.json" in run.err
    check_one_result(ready)
    assert not list(ready.rglob("last.ckpt"))[1:]
    assert emoshare(*command).status == 0
    assert len(list(ready.rglob("results.json"))) == 2


def test_a_disk_that_fills_up_with_frames(emoshare, ready, corpus_root) -> None:
    command = ["train", *overrides(corpus_root), "window.seconds=1.5"]
    with disk(100_000):
        run = emoshare(*command)
    check_one_line(run, "cache/frames/", "paths.cache", "emoshare cache prune")
    check_one_result(ready)
    assert emoshare(*command).status == 0


def test_no_space_left_on_device(emoshare, ready, corpus_root, monkeypatch) -> None:
    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def flush(self) -> None:
            """Nothing was written."""

    def opened(self: CheckpointFile, file: object) -> None:
        self.file, self.error = Full(), None  # type: ignore[assignment]

    monkeypatch.setattr(CheckpointFile, "__init__", opened)
    run = emoshare("train", *overrides(corpus_root), "seed=1")
    check_one_line(run, "last.ckpt" if "last" in run.err else "best.ckpt", "No space left on device", "free some space")
    check_one_result(ready)


@pytest.mark.parametrize("name", ["gpu", "mps"])
def test_an_accelerator_that_is_not_there(emoshare, ready, corpus_root, monkeypatch, name) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    run = emoshare("train", *overrides(corpus_root), "seed=1", f"trainer.accelerator={name}")
    check_one_line(run, f"trainer.accelerator={name}", "use trainer.accelerator=auto or cpu")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has 1 GiB free."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_out_of_memory_names_the_knobs(emoshare, ready, corpus_root, monkeypatch, error) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("emoshare.models.module.EmotionShareModule.training_step", fail)
    run = emoshare("train", *overrides(corpus_root), "seed=1", "backbone.cache=false", "data.workers=0")
    check_one_line(run, "out of memory", "data.batch_size", "window.seconds", "backbone.cache=true")
    check_one_result(ready)
    [failure] = ready.rglob("failure.json")
    record = json.loads(failure.read_text())
    assert record["error"] in run.err
    assert "Traceback" in record["traceback"]
    assert record["command"].startswith("emoshare train data=compare23 ")


def test_wandb_online_without_a_key(emoshare, ready, corpus_root, monkeypatch) -> None:
    """Before anything expensive: no frames are extracted for a run that cannot be logged."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(ready / "none"))
    stored = set((ready / "cache/frames").rglob("*"))
    more = ["logger=wandb", "logger.mode=online", "window.seconds=2"]
    check_one_line(emoshare("train", *overrides(corpus_root), *more), "W&B online", "wandb login", "WANDB_API_KEY")
    assert set((ready / "cache/frames").rglob("*")) == stored


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "\0\0\0"])
def test_corrupt_results_are_named_and_not_believed(emoshare, finished, corpus_root, tmp_path, text) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    path = run_folder(tmp_path) / "results.json"
    path.write_text(text)
    check_one_line(emoshare("train", *overrides(corpus_root)), str(path.relative_to(tmp_path)), "force=true")
    assert path.read_text() == text


def test_force_mends_corrupt_results(emoshare, finished, corpus_root, tmp_path) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    path = run_folder(tmp_path) / "results.json"
    good = json.loads(path.read_text())["metrics"]
    path.write_text("{")
    assert emoshare("train", *overrides(corpus_root), "force=true").status == 0
    assert json.loads(path.read_text())["metrics"] == good


@pytest.mark.parametrize("flags", [[], ["-m"]])
def test_results_of_another_corpus_are_not_believed(emoshare, finished, corpus_root, tmp_path, flags) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    path = run_folder(tmp_path) / "results.json"
    results = json.loads(path.read_text())
    fingerprint = results["corpus"]["fingerprint"]
    write_sealed(path, results | {"corpus": {"fingerprint": "another"}})
    run = emoshare("train", *flags, *overrides(corpus_root))
    assert run.status == 1
    assert "force=true" in run.err
    results["corpus"]["fingerprint"] = fingerprint
    path.write_text(json.dumps(results))
    run = emoshare("train", *flags, *overrides(corpus_root))
    assert run.status == 0, "as it was, it is believed again"
    assert not (path.parent / "failure.json").exists()


@pytest.mark.parametrize("checkpoint", ["last", "best"])
def test_a_corrupt_checkpoint_is_named(emoshare, finished, corpus_root, tmp_path, checkpoint) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    folder = run_folder(tmp_path)
    good = (folder / "predictions/devel.csv").read_bytes()
    (folder / "results.json").unlink()
    path = folder / "checkpoints" / f"{checkpoint}.ckpt"
    path.write_bytes(path.read_bytes()[:1000])
    check_one_line(emoshare("train", *overrides(corpus_root)), str(path.relative_to(tmp_path)), "resume=false")
    assert not (folder / "results.json").exists()
    assert emoshare("train", *overrides(corpus_root), "resume=false").status == 0
    assert (folder / "predictions/devel.csv").read_bytes() == good


# In a process of its own: what a shell sees.


def shell(*command: str, folder: Path) -> Result:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return Result(run.returncode, run.stdout, run.stderr)


@pytest.mark.parametrize("program", [[sys.executable, "-m", "emoshare"], [sysconfig.get_path("scripts") + "/emoshare"]])
def test_the_shell_sees_status_and_one_line(tmp_path, program) -> None:
    run = shell(*program, "train", "data=demo", "window.secs=1", folder=tmp_path)
    assert run.status == 1
    check_one_line(run, "window.secs", "did you mean 'window.seconds'")
    assert run.out == ""
    assert not list(tmp_path.iterdir())


def test_help_imports_nothing_heavy(tmp_path) -> None:
    run = shell(sys.executable, "-X", "importtime", "-m", "emoshare", "--help", folder=tmp_path)
    assert run.status == 0
    assert "train" in run.out
    assert max(map(len, run.out.splitlines())) <= 80
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in run.err.splitlines()}
    assert "argparse" in imported
    assert not imported & {"torch", "hydra", "omegaconf", "numpy", "transformers", "pytorch_lightning", "wandb", "yaml"}


@pytest.mark.parametrize("verb", cli.WITH_CONFIG)
def test_a_verbs_help_needs_no_library(tmp_path, verb) -> None:
    run = shell(sys.executable, "-X", "importtime", "-m", "emoshare", verb, "--help", folder=tmp_path)
    assert run.status == 0
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in run.err.splitlines()}
    assert not imported & {"torch", "hydra", "omegaconf", "numpy", "transformers", "pytorch_lightning", "wandb", "yaml"}


@pytest.mark.parametrize("verb", cli.WITH_CONFIG)
def test_a_verbs_help_has_examples_groups_and_every_key(verb) -> None:
    text = page(verb)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith(f"  emoshare {verb}") for line in lines) >= 5
    for name, declared in declared_keys(Config).items():
        assert any(line == f"  {name}" or line.startswith(f"  {name}=") for line in lines), name
        assert declared.key.meaning, name
    flat = " ".join(text.split())
    assert "at least 0.025 and at most 3600 s" in flat
    assert "attention, mean, max" in flat


@pytest.mark.parametrize("verb", cli.WITH_CONFIG)
def test_the_examples_of_the_help_can_be_composed(verb, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine/experiment").mkdir(parents=True)
    (tmp_path / "mine/experiment/wide.yaml").write_text("# @package _global_\ndata:\n  root: /data\n")
    for _, arguments in EXAMPLES[verb]:
        assert plan(parse(shlex.split(arguments)), corpus=verb != "bench").jobs


def test_the_shell_can_complete(tmp_path) -> None:
    """What `eval "$(emoshare -sc install=bash)"` installs, and what it then asks for."""
    run = shell(sys.executable, "-m", "emoshare", "-sc", "install=bash", folder=tmp_path)
    assert run.status == 0, run.err
    assert "hydra_bash_completion emoshare" in run.out


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("emoshare tr", {"train"}), ("emoshare train backbone=hub", {"backbone=hubert_base", "backbone=hubert_large"}),
        ("emoshare train window.se", {"window.seconds="}), ("emoshare status x", set()),
    ],
)  # fmt: skip
def test_what_is_offered_for_a_line(emoshare, monkeypatch, typed, offered) -> None:
    monkeypatch.setenv("COMP_LINE", typed)
    run = emoshare("-sc", "query=bash")
    assert run.status == 0, run.err
    assert set(run.out.split()) == offered


@pytest.mark.parametrize("place", ["before", "after"])
def test_verbose_is_taken_before_and_after_the_verb(emoshare, monkeypatch, place) -> None:
    seen = []
    monkeypatch.setitem(cli.VERBS, "status", lambda arguments, verbose: seen.append((arguments, verbose)) or 0)
    assert emoshare(*(["-v", "status", "x"] if place == "before" else ["status", "x", "--verbose"])).status == 0
    assert emoshare("status", "x").status == 0
    assert seen == [(["x"], True), (["x"], False)]


def test_a_finished_sweep_needs_no_training_library(finished, corpus_root, tmp_path) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    command = ["train", "-m", *overrides(corpus_root), "seed=0"]
    run = shell(sys.executable, "-X", "importtime", "-m", "emoshare", *command, folder=tmp_path)
    assert run.status == 0, run.err
    assert "1 done" in run.out
    assert "skipped" not in run.out  # the count says it
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in run.err.splitlines()}
    assert not imported & {"torch", "transformers", "pytorch_lightning", "torchmetrics", "wandb", "matplotlib", "scipy"}


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_helps(emoshare, tmp_path, verb, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    run = emoshare(verb, "--help")
    assert max(map(len, run.out.splitlines())) <= 80
    assert run.status == 0
    assert run.err == ""
    assert f"emoshare {verb}" in run.out
    if verb in ("check", "extract", "train", "bench"):
        assert "hubert_large" in run.out  # a group's option
        assert "data.batch_size=8" in run.out  # a key
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_cleanly_and_goes_on(emoshare, small, tmp_path, stop) -> None:
    """Ctrl-C, or a cluster's notice: one line, a status, no results; the same command goes on where it stopped."""
    command = ["train", *small, "trainer.epochs=40"]
    process = Command(tmp_path, *command)
    while not (last := list(tmp_path.rglob("last.ckpt"))):
        assert process.poll() is None, "ended before it could be interrupted"
        time.sleep(0.01)
    process.send_signal(stop)
    out, err = process.communicate(timeout=60)
    check_one_line(Result(process.returncode, out, err), "interrupted; the same command goes on from here")
    assert not list(tmp_path.rglob("results.json"))
    state = torch.load(last[0], weights_only=True)
    assert 0 <= state["epoch"] < 39
    state["callbacks"]["History"]["rows"][0]["lr"] = 123.0  # a mark that only a continued run carries on
    torch.save(state, last[0])
    assert emoshare(*command).status == 0
    rows = list(csv.DictReader((last[0].parents[1] / "metrics.csv").open()))
    assert len(rows) == 40
    assert rows[0]["lr"] == "123.0"


YAMLS = {  # a user's file → what is said of it
    "columns: {file: clip,\n  Joy: Joy [1-7]}": ":2: expected ',' or '}', but got '['; quote a name with brackets",
    "columns:\n\tfile: clip": ":2: found character '\\t' that cannot start any token; indent by spaces, not by tabs",
    "columns:\n  Joy: [1-7] Joy": ":2: expected <block end>, but found '<scalar>'; quote the whole value, as in ",
    "name: a: b": ":1: mapping values are not allowed here; quote a text with a colon",
    "name: a\ncolumns: {file: clip\ntargets: [a]": ":2: expected ',' or '}', but got ':'; close its brackets",
    "name: a\nname: b": ":2: found duplicate key name; leave one of them out",
    "name: a\ntargets: [Wärme]": ":2: is not UTF-8; save the file as UTF-8",
    "name: @a": ":1: found character '@' that cannot start any token; quote the value",
}


@pytest.mark.parametrize("text", YAMLS)
def test_a_mistake_in_a_file_of_ones_own_is_told_with_file_and_line(tmp_path, monkeypatch, text) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine/data").mkdir(parents=True)
    (tmp_path / "mine/data/talks.yaml").write_text(text, encoding="latin-1")
    with pytest.raises(EmoshareError) as error:
        compose_one(["--config-dir", "mine", "data=talks"])
    assert str(error.value).startswith(f"mine/data/talks.yaml{YAMLS[text]}")
    assert str(error.value).count("\n") == 0


@pytest.mark.parametrize(
    ("folder", "told"),
    [([], "takes --config-dir FOLDER (which holds data/talks.yaml)"), (["mine/data"], "name --config-dir mine")],
)
def test_a_corpus_of_ones_own_that_is_not_found_names_the_folder_alone(tmp_path, monkeypatch, folder, told) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine/data").mkdir(parents=True)
    (tmp_path / "mine/data/talks.yaml").write_text("name: talks")
    with pytest.raises(EmoshareError) as error:
        compose_one([*(f"--config-dir={name}" for name in folder), "data=talks"])
    assert str(error.value).endswith(told)
    assert str(error.value).count("\n") == 0


def test_flags_may_stand_between_and_after_overrides(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine/experiment").mkdir(parents=True)
    (tmp_path / "mine/experiment/wide.yaml").write_text("# @package _global_\nseed: 7\n")
    asked = plan(parse(["data=demo", "-m", "seed=0,1", "--config-dir", "mine", "backbone=tiny"]), corpus=True)
    assert [job.config.seed for job in asked.jobs] == [0, 1]
    assert asked.config_dir == "mine"
    assert compose_one(["data=demo", "--config-dir", "mine", "backbone=tiny", "experiment=wide"]).seed == 7
    arguments = ["data=demo", "--config-dir", "mine", "backbone=tiny", "--cfg", "job", "experiment=wide"]
    run = shell(sys.executable, "-m", "emoshare", "train", *arguments, folder=tmp_path)
    assert "\nseed: 7\n" in run.out, run.err
