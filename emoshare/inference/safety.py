"""An exported folder may come from a stranger: what is in it is data, and is checked before use.

Nothing of it is run anyway: JSON, safetensors, and classes that are named in emoshare, never in the folder. These
checks give one clear error in place of a later one, and keep the folder from naming files outside of itself.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from emoshare.backbones.checkpoint import HUB_NAME
from emoshare.core.config import Config
from emoshare.core.errors import EmoshareError
from emoshare.core.kinds import is_outside
from emoshare.runs.results import Results

REMEDY = "do not use it, or export the run again"
LARGEST_CONFIG = 16 * 2**20  # bytes; an honest config.json has some thousand


def check_folder(folder: Path, config: str) -> None:
    """Raise EmoshareError where a file of the folder lies outside of it, or is no regular file, or config is huge.

    A folder in the hub's cache may link to the files that the cache keeps for it.
    """
    inside = folder.resolve()
    allowed = [inside, inside.parent.parent / "blobs"] if inside.parent.name == "snapshots" else [inside]
    for at, folders, files in os.walk(folder):
        for path in (Path(at, name) for name in (*folders, *files)):
            target = path.resolve()
            if path.is_symlink() and not any(target.is_relative_to(place) for place in allowed):
                raise EmoshareError(f"{path}: links to a file outside of the exported folder; {REMEDY}")
            if path.is_symlink() and target.is_dir():  # a member that is the fusion itself would have no end
                raise EmoshareError(f"{path}: a link in place of a folder; {REMEDY}")
            if not target.is_dir() and not target.is_file():
                raise EmoshareError(f"{path}: not a regular file; {REMEDY}")
    if (folder / config).stat().st_size > LARGEST_CONFIG:
        raise EmoshareError(f"{folder / config}: more than {LARGEST_CONFIG / 2**20:.0f} MB; {REMEDY}")


def check_place(path: Path, config: Config) -> None:
    """Raise EmoshareError, a line for each, where a config names what an exported one does not."""
    refuse(path, backbone_problems(config))


def check_results(path: Path, config: Config, results: Results) -> None:
    """Raise EmoshareError, a line for each, where results are not those of a run of the config."""
    refuse(path, result_problems(config, results))


def check_errors(path: Path, errors: Any) -> None:
    """Raise EmoshareError where the errors on devel are no numbers by name."""
    if not isinstance(errors, dict) or not all(value is None or number(value) for value in errors.values()):
        refuse(path, ["devel_error: must be a number for each target"])


def refuse(path: Path, problems: Iterable[str]) -> None:
    """Raise EmoshareError with a line for each problem, if there is any."""
    if lines := [f"{path}: {problem}; {REMEDY}" for problem in problems]:
        raise EmoshareError("\n".join(lines))


def backbone_problems(config: Config) -> Iterator[str]:
    """The problems of the backbone's place: a folder of this machine is none that an export names."""
    name = config.backbone.path
    if is_outside(config.backbone) and config.backbone.place != "backbone":
        yield f"backbone._weights_={config.backbone.place}: must be the folder backbone beside this file"
    if config.backbone.parts is not None:
        yield "backbone.parts: must be empty, as no run on several backbones is exported"
    if not HUB_NAME.fullmatch(name):
        yield f"backbone.path={name}: must be a hub name, a built-in backbone, or the folder backbone beside this file"


def result_problems(config: Config, results: Results) -> Iterator[str]:
    """The impossible values in the results, of all that loading a model reads."""
    if Path(results.run).name != results.run or results.run.startswith(".") or not results.run:
        yield f"results.run={results.run}: must be a file name"
    targets = results.targets
    if not targets or len(set(targets)) < len(targets):
        yield "results.targets: must be names, each once"
    elif targets != config.data.targets:
        yield "results.targets: must be those of config.data.targets"
    if results.resolved.stored not in (None, "float16", "bfloat16", "float32"):
        yield "results.resolved.stored: must be float16, bfloat16 or float32"
    if not all(set(names) <= set(targets) for kind in results.remarks.values() for names in kind.values()):
        yield "results.remarks: must name targets by partition"
    if not results.is_fusion and results.system != config.head.system:
        yield f"results.system={results.system}: must be the head of its config, {config.head.system}"
    if results.is_fusion:
        if abs(sum(member.weight for member in results.members)) < 1e-9:
            yield "results.members: there must be some, and the sum of their weights must not be 0"
    elif not all(0 <= size <= 1_000_000 for size in (results.backbone.dim, results.backbone.layers)):
        yield "results.backbone: dim and layers must be sizes"


def number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
