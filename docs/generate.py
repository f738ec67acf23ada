"""The pages of the site that are read from the code and its documents, as keys, backbones and verbs.

`write` is called by conf.py before Sphinx looks for pages. The folder docs/reference/ is in no commit.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import tutorials
import yaml

import emoshare
from emoshare.command.cli import USAGE, VERBS
from emoshare.core.config import HOP, RATE, Config
from emoshare.core.kinds import class_of
from emoshare.core.schema import MISSING, Declared, declared_keys, value_text
from emoshare.core.typed import type_in_words
from emoshare.metrics import agreement, distribution, error, label_set, rank, registry

ROOT = Path(__file__).parents[1]
FORMULAS = {
    "scc": rank.spearman, "pcc": rank.pearson, "ccc": agreement.concordance, "avg": registry.average,
    "mae": error.absolute_error, "mse": error.squared_error, "rmse": error.root_squared_error,
    "jsd": distribution.jensen_shannon, "kld": distribution.kullback_leibler, "cosine": distribution.cosine_similarity,
    "macro_f1": label_set.macro_f1, "micro_f1": label_set.micro_f1, "top1": distribution.top_agreement,
}  # fmt: skip


def write(folder: Path) -> None:
    """Write every generated page into a folder; a page that is as it was keeps its time, so that Sphinx skips it."""
    pages = {
        "keys": keys(), "backbones": backbones(), "verbs": verbs(), "python": python_api(), "metrics": metrics(),
        "extras": extras(), "findings": findings(), "examples": examples(),
        "architecture": document("ARCHITECTURE.md"), "changelog": document("CHANGELOG.md"),
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for name in tutorials.NOTEBOOKS:
        if not (folder / f"{name}.md").exists():
            (folder / f"{name}.md").write_text(tutorials.page(name, folder), encoding="utf-8")


def keys() -> str:
    """The keys of each section of the config, as definitions: a table of all that is declared would be too wide."""
    sections: dict[str, str] = {}
    for key in declared_keys(Config).values():
        section = key.name.partition(".")[0] if "." in key.name else "of the run"
        sections[section] = sections.get(section, "") + _definition(key)
    text = "# Config keys\n\nGiven as `key=value`; a group (`backbone=hubert_large`) sets several. A key that no run "
    text += "of a command reads is an error.\n"
    return text + "".join(f"\n## {name}\n\n{body}" for name, body in sections.items())


def _definition(key: Declared) -> str:
    kind = type_in_words(key.type)
    default = "must be given" if key.default == MISSING else f"default `{value_text(key.default)}`"
    allowed = key.key.range_text() or (f"in {key.key.unit}" if key.key.unit else "")
    conditions = [f"`{name}` is {_values(values)}" for name, values in key.key.only.items()]
    conditions += [f"`{name}` is not {_values(values)}" for name, values in key.key.unless.items()]
    facts = [kind, allowed, default, f"read where {' and '.join(conditions)}" if conditions else ""]
    return f"`{key.name}`\n: {escape(key.key.meaning)}\n\n  *{escape('; '.join(filter(None, facts)))}*\n\n"


def _values(values: Iterable[Any]) -> str:
    return " or ".join(f"`{value_text(value)}`" for value in values)


def backbones() -> str:
    """A row for each file of conf/backbone."""
    rows = []
    for path in sorted((ROOT / "conf/backbone").glob("*.yaml")):
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
        cls = class_of("backbone", given)
        options = cls(**given)
        size = f"{options.parameters / 1e6:.0f} M" if options.parameters else "–"
        layers = str(options.layers) if given.get("layers") not in (None, MISSING) else "–"
        source = f"`{options.path}`" if "/" in str(options.path) else options.needs or "–"
        rate = "one a clip" if options.vector else str(RATE // HOP)
        if given.get("type") == "opensmile" and not options.vector:
            rate = "100"
        licence = str(options.licence or options.terms or "that of its parts or checkpoint")
        dim = "read" if given.get("dim") in (None, MISSING) else str(options.dim)
        rows.append((f"`{path.stem}`", size, layers, dim, rate, licence, source))
    header = ("Backbone", "Parameters", "Layers", "Features", "Frames a second", "Licence", "Checkpoint or extra")
    text = "# Backbones\n\n`backbone=NAME`. Any other speech encoder of transformers is `backbone=auto` with "
    return text + f"`backbone.path`; [Backbones and heads](../backbones.md) says which.\n\n{table(header, rows)}"


def verbs() -> str:
    """What `--help` of every verb prints."""
    text = f"# Verbs\n\n```text\n{USAGE}```\n"
    for verb in VERBS:
        text += f"\n## emoshare {verb}\n\n```text\n{_help(verb)}```\n"
    return text


def _help(verb: str) -> str:
    printed, width = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100"  # argparse wraps to it
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            VERBS[verb](["--help"], False)
    finally:
        os.environ.pop("COLUMNS") if width is None else os.environ.update(COLUMNS=width)
    text = printed.getvalue()
    return text.partition("\nkeys (key=value)")[0] + "\n" if "\nkeys (key=value)" in text else text  # they have a page


def python_api() -> str:
    """Every public name of the package, by autodoc."""
    functions, classes = [], []
    for name in emoshare.__all__:
        if name not in ("__version__", "Config"):  # the config's keys have a page
            (classes if inspect.isclass(getattr(emoshare, name)) else functions).append(name)
    directives = [f".. autofunction:: emoshare.{name}\n" for name in functions]
    directives += [f".. autoclass:: emoshare.{name}\n   :members:\n" for name in classes]
    return "# Python\n\n```{eval-rst}\n" + "\n".join(directives) + "```\n"


def metrics() -> str:
    """The metrics, each with its formula and source from its function's docstring."""
    rows = [
        (f"`{name}`", metric.label, "higher" if metric.greater_is_better else "lower",
         "none" if metric.correlation else "as any other")
        for name, metric in registry.OURS.items()
    ]  # fmt: skip
    text = (
        "# Formulas of the metrics\n\nN clips, E targets. Each is computed once in the package: the loss, the tables "
    )
    text += "and the bootstrap use the same function.\n\n"
    text += table(("Name", "In tables", "Better", "Score where labels are constant"), rows)
    for name, function in FORMULAS.items():
        text += f"\n## {registry.OURS[name].label}\n\n```text\n{inspect.getdoc(function)}\n```\n"
    return text


def extras() -> str:
    """The optional dependencies of pyproject.toml, with its comments."""
    section = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = section.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    rows = []
    for block in re.split(r"\n(?=\w+ = \[)", "\n" + section.strip()):
        name = block.strip().partition(" = ")[0]
        if name:
            packages = re.findall(r'"([A-Za-z][\w-]*)[^"]*"', block)
            notes = re.findall(r"#\s*(.*)", block)
            rows.append((f"`{name}`", ", ".join(dict.fromkeys(packages)), "; ".join(notes[:2])))
    text = '# Extras\n\n`pip install ".[onnx,serve]"` in the clone adds what some verbs and keys need.\n\n'
    return text + table(("Extra", "Packages", "Why"), [row for row in rows if row[0] != "`dev`"])


def findings() -> str:
    """The header of every script in findings/."""
    text = "# Findings\n\nSurprises of other projects that the work on emoshare brought up. Each script in `findings/` "
    text += "installs the named version and shows it.\n"
    for path in sorted((ROOT / "findings").glob("*.sh")):
        lines = path.read_text(encoding="utf-8").splitlines()[1:]
        header = " ".join(line.lstrip("# ") for line in lines[: [line[:1] == "#" for line in lines].index(False)])
        subject, _, words = header.partition(": ")
        text += f"\n## {escape(subject)}\n\n{escape(words)}\n\nScript: `findings/{path.name}`\n"
    return text


def examples() -> str:
    """The example folders: what they add, and their module."""
    text = document("examples/README.md")
    for folder in sorted(path for path in (ROOT / "examples").iterdir() if path.is_dir()):
        words = _plain_links((folder / "README.md").read_text(encoding="utf-8"))
        text += "\n" + re.sub(r"^(#+ )", r"#\1", words, flags=re.M).strip() + "\n"
        for module in sorted(folder.glob("*.py")):
            code = module.read_text(encoding="utf-8")
            text += f"\n`examples/{folder.name}/{module.name}`:\n\n```python\n{code}```\n"
    return text


def document(name: str) -> str:
    """A document of the repository as a page; its links to docs/ stay links."""
    return _plain_links((ROOT / name).read_text(encoding="utf-8"))


def _plain_links(text: str) -> str:
    text = re.sub(r"\[[^\]]+\]\(docs/([\w-]+)\.md\)", r"[](../\1.md)", text)
    return re.sub(r"\[([^\]]+)\]\((?!https?:|\.\./)[^)]+\)", r"\1", text)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *([escape(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def escape(text: str) -> str:
    """Text with what Markdown would read as a mark, outside of backticks; a table's bar everywhere."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([*_<\[\]{}])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts).replace("|", r"\|").replace("\n", " ")
