"""Kinds are asked and not named: few strings in the code name one of a kind, outside of its own file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from emoshare.core.kinds import ROOMS, classes
from emoshare.metrics.registry import OURS

PACKAGE = Path(__file__).parents[2] / "emoshare"
OWN_FILES = {f"{room.replace('.', '/')}/" for room in ROOMS.values()} | {"emoshare/metrics/"}
ORDINARY = {"none", "mean", "mix", "features"}  # words that name one of a kind, and say other things, too
MOST = 17


def names() -> set[str]:
    """What ours are called, of every kind."""
    return ({name for section in ROOMS for name in classes(section)} | {*OURS}) - ORDINARY


def naming_strings() -> Iterator[str]:
    """`file:line: name` of every string constant that names one of a kind outside of its own file."""
    wanted = names()
    for path in sorted(PACKAGE.rglob("*.py")):
        file = str(path.relative_to(PACKAGE.parent))
        if file.startswith(tuple(OWN_FILES)):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and node.value in wanted and node.value != path.stem:
                yield f"{file}:{node.lineno}: {node.value}"


def test_few_strings_name_one_of_a_kind() -> None:
    found = list(naming_strings())
    assert len(found) <= MOST, "\n".join(found)


def test_the_literal_scc_stands_in_few_files() -> None:
    found = [path for path in PACKAGE.rglob("*.py") if '"scc"' in path.read_text(encoding="utf-8")]
    assert len(found) <= 4, found
