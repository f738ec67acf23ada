"""Words that texts and names avoid, checked by `make lint`: a line for each place, `file:line: what to change`.

A function is called by a verb or the noun of what it returns; a property that is true or false may be a participle.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

TEXTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/*.md", "conf/**/*.yaml", "emoshare/**/*.py")
PHRASES = (
    r"\b(?:comes? to|came to|asked for|h[eo]lds? (?:\w+ ){0,4}against|so many|likewise|"
    r"stand(?:s|ing)?(?! (?:for|out)\b))\b"
)
PHRASE = re.compile(PHRASES.replace(" ", r"(?:\s|#)+"), re.IGNORECASE)  # it may go on in the next line of a comment
QUESTION = re.compile(r"(?:What|How|Why|Which)\b")  # a docstring begins with a sentence that has a subject
PARTICIPLE = re.compile(
    r"(?!(?:embed|exceed|feed|need|seed|shed|speed)$)\w+ed|bound|bought|brought|broken|built|caught|chosen|done|drawn|"
    r"driven|found|given|gone|grown|heard|held|hidden|kept|known|laid|left|lost|made|met|paid|said|seen|sent|shown|sold|"
    r"spent|stuck|taken|taught|thought|thrown|told|torn|understood|won|worn|written|unread"
)
VERB = re.compile(
    "allow|any|check|count|embed|find|has|is|open|predict|read|report|reset|skip|split|tell|train|verify|write"
)
LINK = re.compile("as|at|by|for|from|in|of|on|to|with")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def is_participle(function: Function) -> bool:
    """Whether a function is called `stored`, `metrics_named` or `learned_from`; not `check_allowed`, nor a flag."""
    first, *rest = function.name.strip("_").split("_")
    word = first if not rest or (len(rest) == 1 and LINK.fullmatch(rest[0])) else rest[-1]
    properties = [name for name in map(ast.unparse, function.decorator_list) if name.endswith("property")]
    flag = properties and ast.unparse(function.returns or function) == "bool"
    return bool(PARTICIPLE.fullmatch(word)) and not flag and not (rest and VERB.fullmatch(first))


def code_problems(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and problem of names and docstrings in a module."""
    for node in ast.walk(tree):
        if isinstance(node, Function) and is_participle(node):
            yield node.lineno, f"{node.name}: call the function by a verb, or by the noun of what it returns"
        if isinstance(node, Function | ast.ClassDef | ast.Module) and QUESTION.match(ast.get_docstring(node) or ""):
            yield node.body[0].lineno, "the docstring begins with a question word: write a sentence with a subject"


def problems(path: Path) -> Iterator[str]:
    """A line for each problem in a file."""
    text = path.read_text(encoding="utf-8")
    lines = [(text.count("\n", 0, match.start()) + 1, f"avoid '{match[0]}'") for match in PHRASE.finditer(text)]
    lines += code_problems(ast.parse(text)) if path.suffix == ".py" else ()
    return (f"{path}:{line}: {' '.join(problem.split())}" for line, problem in sorted(lines))


if __name__ == "__main__":
    paths = sorted(path for pattern in TEXTS for path in Path().glob(pattern))
    sys.exit("\n".join(line for path in paths for line in problems(path)) or 0)
