"""Every command of the README runs: as it stands, but for the corpus's place and what makes it short."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```", README, re.M | re.S)
LINES = [line.partition("  #")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()]
QUICK = ["trainer.epochs=1", "trainer.progress=false", "logger=none", "data.clips=40"]
SHORT = {  # one stands for all: the others need a hub, or hours
    r"backbone=(\w+,)*\w*(hubert|wavlm)\w*(,\w+)*": "backbone=logmel",
    r"experiment=grid": "experiment=grid backbone=logmel window.seconds=1",
    r"window.seconds=5.5|window.seconds=1,[\d.,]+": "window.seconds=1",
    r"seed=0,1,2": "seed=0,1",
}
ELSEWHERE = ("make ", "wandb ", "WANDB_MODE=online ")  # by CI; by tests/test_logger.py; with an account


def commands() -> list[str]:
    return [line for line in LINES if not line.startswith(ELSEWHERE)]


def test_the_readme_has_commands_and_all_are_known() -> None:
    assert len(commands()) > 12
    assert all(line.startswith("emoshare ") for line in commands()), commands()


def test_every_command_runs(emoshare, corpus_root, tmp_path) -> None:
    """In their order, in one folder, as a reader would."""
    for line in commands():
        for pattern, short in SHORT.items():
            line = re.sub(pattern, short, line)
        if "outputs/quickstart" in line:
            line = line.replace("quickstart", "grid")
        words = shlex.split(line.replace("/data/compare23", str(corpus_root)))[1:]
        if words[0] in ("train", "extract", "bench"):
            words += QUICK + ["bench.repeats=1", "bench.clips=2"] * (words[0] == "bench")
        result = emoshare(*words)
        assert result.status == 0, f"{line}\n{result.err}"


@pytest.mark.parametrize("row", re.findall(r"^\| \|.*\| `(.*?)` \|$|^\| I.*\| `(.*?)` \|$", README, re.M))
def test_every_row_of_the_papers_tables_composes(row) -> None:
    from composed import config

    from emoshare.core.validate import check

    check(config(*shlex.split(row[0] or row[1])))


def test_every_file_of_the_tree_is_there() -> None:
    tree = README.partition("## The house")[2]
    for name in set(re.findall(r"[a-z]+\.py|[a-z]+\.ipynb", tree)):
        root = Path(__file__).parent.parent
        assert list(root.glob(f"emoshare/**/{name}")) + list(root.glob(f"notebooks/{name}")), name


def test_it_names_the_papers_numbers() -> None:
    """Each in its row: by the config that the row names, or the title that it has."""
    paper = yaml.safe_load((Path(__file__).parent.parent / "emoshare/reporting/paper.yaml").read_text(encoding="utf-8"))
    known = {f"backbone={name} window.seconds=6": row for name, row in paper["backbones"].items()}
    known |= {f"window.seconds={seconds:g}": row for seconds, row in paper["windows"]["seconds"].items()}
    rows = re.findall(r"^\| \| \*{0,2}(.*?)\*{0,2} \| \*{0,2}(0\.\d{4})\*{0,2} \| `?(.*?)`? \|$", README, re.M)
    assert len(rows) == 13
    for title, number, config in rows:
        found = known[f"window.seconds={title.removesuffix(' s')}" if config == "the default" else config]
        assert number == f"{found['avg']:.4f}", title
        if title.endswith(" s"):
            assert config in ("the default", f"window.seconds={title.removesuffix(' s')}")
    assert f"test, SCC {paper['test']['mean']:.4f} |" in README
