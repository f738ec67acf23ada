"""The floors of the house: imports go one way, read from the code, with those inside functions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "emoshare"
FLOORS = (
    {"core"},
    {"metrics"},
    {"data", "models"},
    {"backbones", "store", "runs"},
    {"training", "reporting"},
    {"systems"},
    {"bench", "inference"},
    {"command"},
    {"api"},
)
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}


def modules() -> dict[str, Path]:
    """Dotted name → file of every module of the package."""
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


MODULES = modules()


def imported(name: str) -> Iterator[str]:
    """Dotted names of what a module imports anywhere in its code, for type checking, too."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else str(node.module)


IMPORTS = {name: set(imported(name)) - {name} for name in MODULES}


def room(module: str) -> str:
    """`data` for emoshare.data.corpus; empty for the package itself."""
    return ([*module.split("."), ""])[1]


def arrows() -> Iterator[tuple[str, str]]:
    """Importer and imported, of the modules in rooms."""
    for name, targets in IMPORTS.items():
        for target in targets:
            if target.startswith("emoshare.") and room(name) not in ("", "__main__"):
                yield name, target


def test_every_module_has_its_floor() -> None:
    assert {room(name) for name in MODULES} - set(LEVEL) <= {"", "__main__"}


def test_imports_go_down() -> None:
    """From a room to itself or to a floor below it; rooms on one floor do not know each other."""
    wrong = {
        f"{name} -> {target}"
        for name, target in arrows()
        if room(name) != room(target) and LEVEL[room(target)] >= LEVEL[room(name)]
    }
    assert not wrong


def test_there_is_no_circle() -> None:
    """A module does not lead back to itself over any way of imports."""
    reached: dict[str, set[str]] = {}
    for name in MODULES:
        ahead, seen = [t for t in IMPORTS[name] if t in MODULES], set()
        while ahead:
            target = ahead.pop()
            if target not in seen:
                seen.add(target)
                ahead += [t for t in IMPORTS[target] if t in MODULES]
        reached[name] = seen
    assert not sorted(name for name in MODULES if name != "emoshare" and name in reached[name])


@pytest.mark.parametrize("name", [name for name in MODULES if room(name) != "command"])
def test_hydra_is_known_to_the_command_alone(name) -> None:
    assert not {target for target in IMPORTS[name] if target.partition(".")[0] in ("hydra", "omegaconf")}


def test_the_store_is_quick_to_import() -> None:
    """`emoshare cache` and `status` start at once: only extraction needs PyTorch."""
    heavy = {"torch", "transformers", "pytorch_lightning", "torchmetrics"}
    filled = {"emoshare.store.extract", "emoshare.store.tensors"}
    for name in (name for name in MODULES if room(name) == "store" and name not in filled):
        found = {target for target in IMPORTS[name] if target.partition(".")[0] in heavy}
        assert not found, name
        assert not filled & IMPORTS[name], name


@pytest.mark.parametrize("package", sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()))
def test_a_room_says_what_it_is_for(package) -> None:
    doc = ast.get_docstring(ast.parse((PACKAGE / package / "__init__.py").read_text(encoding="utf-8")))
    assert doc, f"emoshare/{package}/__init__.py: no docstring"
    assert f"Floor {LEVEL[package] + 1}" in doc, f"{package}: its docstring must name its floor"


HOMES = {  # group of conf/ → the room or file that its options are for; the others choose among these
    "data": "data", "window": "data/window.py", "backbone": "backbones", "head": "systems/kinds",
    "loss": "models/losses", "optimizer": "models/optimizers", "trainer": "training/trainer.py",
    "logger": "runs/trackers", "hydra": "command/hydra_app.py",
}  # fmt: skip
CHOICES = {"debug", "experiment", "system", "without", "paths"}


def test_every_group_of_configs_has_its_room_or_file() -> None:
    groups = {path.name for path in (PACKAGE.parent / "conf").iterdir() if path.is_dir()}
    assert groups == HOMES.keys() | CHOICES
    assert all((PACKAGE / home).exists() for home in HOMES.values())


QUOTES = {"emoshare.reporting.run_tables"}  # shows the command that made a sweep, as it would be typed


@pytest.mark.parametrize("name", [name for name in MODULES if room(name) not in ("command", "api")])
def test_the_grammar_of_overrides_is_worded_by_the_command_alone(name) -> None:
    """Library errors name a field and its value; `-m`, a plus sign before a key and `add key=` are Hydra's."""
    if name in QUOTES:
        return
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    documentation = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None
        if isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documentation:
            assert not re.search(r"(^|\s)-m\b|(^|\s)\+\w\w+[.=]|\badd [\w.]+=|emoshare train [\w.]+=", node.value), (
                node.value
            )
