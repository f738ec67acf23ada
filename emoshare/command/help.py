"""The help page of a verb that takes a config: examples, groups, and every key with its unit and allowed values.

All of it comes from the folder `conf/` and the declarations in `core/config.py`; neither Hydra nor a library is loaded.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

from emoshare.core.config import Config
from emoshare.core.schema import MISSING, TABLES_OWN, Declared, declared_keys, value_text
from emoshare.core.typed import type_in_words

WIDTH = 80
ABOUT = {
    "check": "Check a corpus, print its summary, draw its labels and durations.",
    "extract": "Compute the frames of a frozen backbone and store them, ahead of training.",
    "train": "Train a run, or with -m a sweep of runs. What is finished is skipped.",
    "bench": "Measure this machine and estimate what a sweep takes. No corpus is needed.\n"
    "emoshare bench svr [key=value ...]: an SVR's grid against scikit-learn's.\n"
    "emoshare bench report [key=value ...]: a report of many runs, again and anew.",
}
EXAMPLES = {
    "check": (
        ("the challenge's corpus", "data.root=/data/compare23"),
        ("tables of your own", "data=csv data.root=/data/mine data.targets=[Joy,Fear]"),
        ("a generated corpus", "data=demo"),
        ("the figure elsewhere", "data=demo paths.outputs=/tmp/figures"),
        ("the config, nothing done", "--cfg job data=demo"),
    ),
    "extract": (
        ("the default backbone", "data.root=/data/compare23"),
        ("another window", "data.root=/data/compare23 window.seconds=3"),
        ("several", "-m data=demo backbone=tiny,logmel window.seconds=1,5.5"),
        ("of a hidden layer", "data=demo backbone=tiny backbone.layer=2"),
        ("within a budget", "data=demo backbone=tiny cache.max_gb=200"),
    ),
    "train": (
        ("the paper's best system", "data.root=/data/compare23"),
        ("without any hub", "data=demo backbone=logmel window.seconds=1"),
        ("a sweep", "-m data=demo backbone=tiny,logmel seed=0,1,2"),
        ("a prepared sweep", "-m experiment=grid data.root=/data/compare23"),
        ("losses mixed", "data=demo backbone=logmel 'loss={kl: 1, ccc: 0.5}'"),
        ("a folder of your own", "--config-dir mine experiment=wide"),
    ),
    "bench": (
        ("the default config", ""),
        ("another", "backbone=tiny window.seconds=5.5"),
        ("a whole sweep", "-m experiment=grid"),
        ("a smaller GPU", "backbone=xls_r_1b bench.gpu_gb=12"),
        ("fine-tuning, its memory on paper", "experiment=finetune backbone=wavlm_large"),
    ),
}
FLAGS = (
    ("-m", "every combination of values with commas is a run"),
    ("-v, --verbose", "print details"),
    ("--config-dir DIR", "a folder of your own, with experiments as DIR/experiment/NAME.yaml"),
    ("--cfg job", "print the config and do nothing"),
    ("--hydra-help", "Hydra's own flags"),
)


def page(verb: str) -> str:
    """The help page of a verb, at most 80 columns wide."""
    return "\n".join(_lines(verb)) + "\n"


def _lines(verb: str) -> Iterator[str]:
    yield f"usage: emoshare {verb} [-m] [group=option ...] [key=value ...]"
    yield from ("", ABOUT[verb], "", "examples:")
    for title, arguments in EXAMPLES[verb]:
        yield from (f"  # {title}", f"  emoshare {verb} {arguments}".rstrip())
    yield from ("", "flags:")
    for flag, meaning in FLAGS:
        yield from _entry(flag, meaning, 20)
    yield from ("", "groups (group=option; the default has a star):")
    for group, options in _groups().items():
        yield from _entry(group, ", ".join(options), 20)
    if verb == "train":
        yield from ("", "a quick look at whether things work (its runs are in a folder of their own):")
        for path in sorted(conf_folder().glob("debug/*.yaml")):
            yield from _entry(f"debug={path.stem}", path.read_text(encoding="utf-8").splitlines()[1].lstrip("# "), 20)
    yield from ("", "keys (key=value), with their defaults where no group sets another:")
    for key in declared_keys(Config).values():
        default = "" if key.default == MISSING else f"={_default(key)}"
        yield f"  {key.name}{default}"
        yield from textwrap.wrap(_meaning(key), WIDTH - 6, initial_indent=" " * 6, subsequent_indent=" " * 6)


def _entry(name: str, text: str, indent: int) -> list[str]:
    """A name and, from column `indent` on, what it means."""
    first = f"  {name}".ljust(indent - 1) + " "
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=" " * indent)


def _default(key: Declared) -> str:
    text = value_text(key.default)
    return text if len(text) < 40 else "[...]"


def _meaning(key: Declared) -> str:
    """Type or allowed values, the unit, and the meaning."""
    allowed = key.key.range_text()
    optional = ", null" if key.optional and allowed else ""
    kind = "" if key.key.choices or key.key.words else type_in_words(key.type)
    if key.default == {}:
        added = key.name not in TABLES_OWN
        kind = f"a value is added with a plus sign, as +{key.name}.KEY=VALUE" if added else "{KEY: VALUE, ...}"
    return f"{'; '.join(filter(None, (kind, allowed + optional)))}: {key.key.meaning}"


def _groups() -> dict[str, list[str]]:
    """Group → its options, the default with a star."""
    folder = conf_folder()
    defaults = dict(
        line.strip(" -").split(": ", 1)
        for line in (folder / "train.yaml").read_text(encoding="utf-8").splitlines()
        if line.startswith("  - ") and ": " in line
    )
    groups = sorted({path.parent for path in folder.glob("*/*.yaml")} - {folder / "hydra", folder / "paths"})
    groups += [folder / "hydra/launcher", folder / "hydra/sweeper"]
    return {str(group.relative_to(folder)): _options(group, defaults) for group in groups}


def _options(group: Path, defaults: dict[str, str]) -> list[str]:
    names = sorted(path.stem for path in group.glob("*.yaml"))
    return [f"{name}*" if defaults.get(group.name) == name else name for name in names]


def conf_folder() -> Path:
    """The config folder: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside, beside = package / "conf", package.parent / "conf"
    return (inside if inside.is_dir() else beside).resolve()
