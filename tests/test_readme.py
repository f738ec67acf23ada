"""Every command of README and site runs: as it stands, but for the corpus's place and what makes it short."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import checkpoints
import pytest
import yaml

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMPOSED = ("reproducing", "slurm", "corpora", "recipes")  # below; test_interrupt; below
INDEX = (ROOT / "docs/index.md").read_text(encoding="utf-8")
NAMES = [name for name in re.findall(r"^([\w-]+)$", INDEX, re.M) if name not in COMPOSED]  # in the reader's order
PAGES = {"README": README} | {name: (ROOT / f"docs/{name}.md").read_text(encoding="utf-8") for name in NAMES}
ALL = "".join(PAGES.values())
QUICK = ["trainer.epochs=1", "trainer.progress=false", "logger=none"]
SHORT = {  # one stands for all: the others need a hub, or hours
    r"backbone=(\w+,)*\w*(hubert|wavlm)\w*(,\w+)*": "backbone=logmel",
    r"experiment=grid": "experiment=grid backbone=logmel window.seconds=1 seed=0,1",
    r"window.seconds=5.5|window.seconds=1,[\d.,]+": "window.seconds=1",
    r"seed=0,1,2": "seed=0,1",
}
ELSEWHERE = ("make ", "wandb ", "WANDB_MODE=online ", "emoshare serve")  # CI; test_logger; an account; test_serve


def commands(text: str) -> list[str]:
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]
    return [line for line in lines if not line.startswith(ELSEWHERE)]


COMMANDS = {line: page for page, text in reversed(PAGES.items()) for line in commands(text)}  # each on its first page


@pytest.fixture(scope="module")
def folder(corpus_root, tmp_path_factory) -> Path:
    """What a reader has: clips, a checkpoint, and what the commands of earlier pages have left."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "clips").mkdir()
    for clip in sorted((corpus_root / "wav").iterdir())[:3]:
        shutil.copy(clip, folder / "clips")
    shutil.copy(clip, folder / "clip.wav")
    checkpoints.write_mel(folder / "my-whisper", "whisper")
    return folder


def test_commands_are_found_and_known() -> None:
    assert len(commands(README)) >= 4
    assert len(COMMANDS) > 20
    assert all(line.startswith("emoshare ") for line in COMMANDS), COMMANDS


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run(emoshare, folder, corpus_root, monkeypatch, page) -> None:
    monkeypatch.chdir(folder)
    for line in commands(PAGES[page]):
        if COMMANDS[line] == page:
            result = emoshare(*shorten(line, folder, corpus_root))
            assert result.status == 0, f"{line}\n{result.err}"


def shorten(line: str, folder: Path, corpus_root: Path) -> list[str]:
    """The words of a command, on what is there and as little of it as will do."""
    for pattern, short in SHORT.items():
        line = re.sub(pattern, short, line)
    line = line.replace("outputs/quickstart", "outputs/grid")
    if "RUN" in line:
        finished = sorted(path.parent for path in folder.glob("outputs/default/*/results.json"))
        line = line.replace("RUN", str(next(run for run in finished if "measured" not in run.name)))
    line = line.replace("/models/my-whisper", str(folder / "my-whisper"))
    words = shlex.split(line.replace("/data/compare23", str(corpus_root)))[1:]
    if words[0] in ("train", "extract", "bench"):
        generated = "data=demo" in words or "experiment=quickstart" in words
        words += QUICK + ["data.clips=40"] * generated
        words += ["bench.repeats=1", "bench.clips=2"] * (words[0] == "bench")
    return words


@pytest.mark.parametrize("experiment", sorted(set(re.findall(r"`experiment=(\w+)`", ALL))))
def test_every_experiment_that_it_names_composes(experiment) -> None:
    from composed import config

    from emoshare.core.validate import check

    check(config(f"experiment={experiment}"))


DOCUMENT = (Path(__file__).parents[1] / "docs/reproducing.md").read_text(encoding="utf-8")
IN_DOCUMENT = re.findall(r"^ *emoshare (?:train|extract|bench) (.*)$", DOCUMENT, re.M)


@pytest.mark.parametrize("line", IN_DOCUMENT)
def test_every_command_of_the_page_on_reproducing_composes(line) -> None:
    """Of a sweep its first run."""
    from composed import config

    from emoshare.core.validate import check

    words = [word for word in shlex.split(line) if word != "-m"]
    check(config(*(word if "[" in word else word.partition(",")[0] for word in words)))


@pytest.mark.parametrize("name", ["corpora", "recipes"])
def test_the_commands_of_the_pages_on_corpora_compose(name) -> None:
    from composed import config

    from emoshare.core.validate import check

    page = (ROOT / f"docs/{name}.md").read_text(encoding="utf-8").replace("\\\n", " ")
    commands = [line for block in re.findall(r"^```bash\n(.*?)^```", page, re.M | re.S) for line in block.splitlines()]
    assert commands
    for line in commands:
        check(config(*shlex.split(line, comments=True)[2:]))


def test_the_yaml_of_the_page_on_a_corpus_of_ones_own_composes(tmp_path) -> None:
    from emoshare.command.compose import compose_one

    [block] = re.findall(r"^```yaml\n(.*?)^```", PAGES["own-corpus"], re.M | re.S)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/talks.yaml").write_text(block, encoding="utf-8")
    data = compose_one(["--config-dir", str(tmp_path), "data=talks", "backbone=logmel", "window.seconds=1"]).data
    assert (data.name, data.columns["Joy"], data.range) == ("talks", "joy (mean)", [1, 7])


def test_the_page_on_reproducing_says_what_bench_counts() -> None:
    """Its figures on paper, worked out again."""
    from composed import config

    from emoshare.bench.memory import training_memory

    assert len(IN_DOCUMENT) > 10
    for name in ("finetune_upper", "finetune"):
        total = training_memory(config(f"experiment={name}", "data=demo")).total
        assert f"{total / 1e9:.1f} GB" in DOCUMENT
    frames = 1 + (round(2.9 * 16_000) - 400) // 320
    assert f"{frames * 1024 * 2 / 1e3:.0f} kB" in DOCUMENT
    assert f"{3 * frames * 1024 * 2 * 51_881 / 1e9:.1f} GB" in DOCUMENT


def test_the_lines_of_python_run(tmp_path, monkeypatch) -> None:
    """Those that train come first; of another run's folder, theirs is taken."""
    blocks = list(dict.fromkeys(re.findall(r"^```python\n(import emoshare\n.*?)^```", ALL, re.M | re.S)))
    programs = [block for block in blocks if "emoshare.train(" in block]
    assert programs
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    for block in programs:
        names: dict[str, object] = {}
        exec(block.replace('"data=demo"', '"data=demo", "data.clips=40"'), names)
        assert len(names["files"]) == len(names["shares"]) == 8
    [run] = Path("outputs/default").glob("*/results.json")
    shutil.copy(names["clip"], "clip.wav")
    for block in set(blocks) - set(programs):
        exec(re.sub(r"outputs/quickstart/[\w.-]+", str(run.parent), block), names)


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/reproducing.md"])
def test_every_file_that_a_document_names_is_there(document) -> None:
    root = Path(__file__).parents[1]
    text = (root / document).read_text(encoding="utf-8")
    for name in set(re.findall(r"`([a-z_/]+\.py)(?::[^`]*)?`", text)):
        assert (root / name).exists() or list(root.glob(f"emoshare/**/{name}")), name
    for name in set(re.findall(r"`([a-z_]+/)`", text)) - {
        "cache/",
        "outputs/",
        "reference/",
        "figures/",
        "checkpoints/",
    }:
        assert (root / name).is_dir() or (root / "emoshare" / name).is_dir() or name in ("wandb/", "wav/"), name


def test_it_names_the_papers_numbers() -> None:
    paper = yaml.safe_load((Path(__file__).parents[1] / "emoshare/reporting/paper.yaml").read_text(encoding="utf-8"))
    rows = {row[3]: row[2].strip("*") for row in (line.split(" | ") for line in ALL.splitlines()) if len(row) == 4}
    assert rows["`experiment=table3` |"] == f"{paper['backbones']['hubert_large']['avg']:.4f}"
    best = max(paper["windows"]["seconds"].values(), key=lambda row: row["avg"])
    assert best == paper["windows"]["seconds"][5.5]
    assert rows["`experiment=table4`; the best is the default |"] == f"{best['avg']:.4f}"
    assert rows["the default; submit `predictions/test.csv` |"] == f"{paper['test']['mean']:.4f}"
    four = [row["devel"] for name, row in paper["approaches"].items() if "nine" not in name]
    assert rows["`experiment=table6` |"] == f"{min(four):.3f} to {max(four):.3f}"
    assert rows["`experiment=table6_nine` |"] == f"{paper['approaches']['fusion of nine SVRs']['devel']:.3f}"
