"""Few functions take the whole config: what a run comes to is one object, and the rest take the part that they need."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from emoshare.core.kinds import ROOMS

PACKAGE = Path(__file__).parents[2] / "emoshare"
ABOVE = "command/"  # where configs are made
WHOLE = re.compile(r"(?<!\.)\bConfig\b")  # in an annotation; not uvicorn's
KINDS = tuple(f"{room.removeprefix('emoshare.').replace('.', '/')}/" for room in ROOMS.values())
ASKED = ("problems", "check")  # a kind says what is wrong with a config that it is part of
MOST, MOST_MODULES = 68, 28


def takers() -> Iterator[str]:
    """`file: function` of every function below `command/` with a parameter that is a config, or several."""
    for path in sorted(PACKAGE.rglob("*.py")):
        file = str(path.relative_to(PACKAGE))
        if file.startswith(ABOVE):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if file.startswith(KINDS) and node.name in ASKED:
                continue
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            if any(one.annotation and WHOLE.search(ast.unparse(one.annotation)) for one in given):
                yield f"{file}: {node.name}"


def test_few_functions_take_the_whole_config() -> None:
    found = list(takers())
    modules = {line.partition(":")[0] for line in found}
    assert len(found) <= MOST, "\n".join(found)
    assert len(modules) <= MOST_MODULES, "\n".join(sorted(modules))
