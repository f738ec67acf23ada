"""examples/: each from a folder outside the checkout, against an installed wheel, as its README says.

Its commands train and predict; then the run is resumed, scored on another corpus, reported and exported.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from wheel import ROOT, installed, start

EXAMPLES = ROOT / "examples"
NAMES = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
NOT_EXPORTED = ("text_features",)  # nothing here computes what its run reads
LONGEST = {"README.md": 16, ".py": 30, ".yaml": 12}  # lines of a file
PROGRAM = (
    f"""
import sys
sys.path.append({str(ROOT / "tests")!r})
import drawing
sys.path.pop()
"""
    + """
import glob, json, os, pathlib, runpy, sys, traceback
from emoshare.command.cli import main
from emoshare.command.verbs import load_libraries

def do(*words):
    words = [found for word in words for found in (sorted(glob.glob(word)) if word.startswith("outputs/") else [word])]
    if words[0] == "python":
        sys.argv = words[1:]
        runpy.run_path(words[1], run_name="__main__")
    elif status := main(words[1:]):
        sys.exit(f"{words} ends with {status}")

def run(folder, commands, more):
    os.chdir(folder)
    sys.path[0] = folder
    for command in commands:
        do(*command)
    [results] = pathlib.Path("outputs/default").glob("*/results.json")
    tables = sorted(results.parent.glob("predictions/*.csv"))
    before = [table.read_bytes() for table in tables]
    results.unlink()
    [training] = [command for command in commands if "train" in command[:2]]
    do(*training)
    assert [table.read_bytes() for table in tables] == before, "a resumed run predicts something else"
    for command in more:
        do(*command)

load_libraries()
dots = drawing.dots()  # figures have tests of their own
dots.__enter__()
for line in sys.stdin:
    folder, *commands = json.loads(line)
    if process := os.fork():
        print(os.waitpid(process, 0)[1], flush=True)
        continue
    said = os.open(f"{folder}/said.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(said, 1)
    os.dup2(said, 2)
    run(folder, *commands)
    break
"""
)


class Program:
    """The program in an installed environment: it has imported the libraries, and each example is a fork of it."""

    def __init__(self, environment: Path) -> None:
        self.process = start(environment, environment, "python", "-c", PROGRAM)

    def run(self, folder: Path, *commands: list[list[str]]) -> str:
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps([str(folder), *commands]), file=self.process.stdin, flush=True)
        status = self.process.stdout.readline()
        said = (folder / "said.txt").read_text()
        assert status == "0\n", said
        return said


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    made = Program(installed(tmp_path_factory.mktemp("wheel")))
    with made.process:
        yield made


def commands_of(name: str) -> list[list[str]]:
    """The commands in an example's README."""
    blocks = re.findall(r"```bash\n(.*?)```", (EXAMPLES / name / "README.md").read_text(encoding="utf-8"), re.S)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("name", NAMES)
def test_an_example_runs_from_a_folder_of_its_own(name: str, program: Program, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / name, tmp_path / name)
    commands = commands_of(name)
    allow = [f"--allow={name}"] if any("--allow" in command for command in commands) else []
    corpus = [word for word in commands[-2] if word.startswith("data")]
    more = [
        ["emoshare", "evaluate", "outputs/default/*-*", "--config-dir=conf", *corpus, *allow],
        ["emoshare", "report", "outputs/default/"],
        ["emoshare", "status", "outputs/default/"],
    ]
    if exported := name not in NOT_EXPORTED:
        more.append(["emoshare", "export", "outputs/default/*-*", "--to", "hub", "exported", *allow])
    said = program.run(tmp_path / name, commands, more)
    assert "report: " in said
    assert (tmp_path / name / "outputs/default/report/index.html").exists()
    assert (tmp_path / name / "exported/README.md").exists() == exported


@pytest.mark.parametrize("path", [p for p in sorted(EXAMPLES.rglob("*")) if p.is_file()], ids=str)
def test_an_example_is_short(path: Path) -> None:
    if "__pycache__" in path.parts or path.parent == EXAMPLES:
        return
    longest = LONGEST.get(path.name) or LONGEST[path.suffix]
    assert len(path.read_text(encoding="utf-8").splitlines()) <= longest


def test_a_stranger_has_to_allow_what_a_run_names(emoshare, small, tmp_path, monkeypatch) -> None:
    """One line, and nothing is imported."""
    shutil.copytree(EXAMPLES / "own_head", tmp_path / "own_head")
    monkeypatch.syspath_prepend(str(tmp_path / "own_head"))
    conf = ["--config-dir", str(tmp_path / "own_head/conf")]
    assert emoshare("train", *small, *conf, "head=gru", "head.units=4").status == 0
    [folder] = tmp_path.glob("outputs/default/*GruHead*")
    sys.modules.pop("own_head")
    clip = next(Path(small[1].partition("=")[2]).glob("wav/*.wav"))
    refused = emoshare("predict", str(folder), str(clip))
    assert refused.status == 1
    assert refused.err.count("\n") == 1
    assert "--allow own_head" in refused.err
    assert "own_head" not in sys.modules
    assert emoshare("predict", str(folder), str(clip), "--allow", "own_head").status == 0
