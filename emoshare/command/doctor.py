"""`emoshare doctor`: what this installation and this machine are, and what is wrong with them."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from emoshare.core.cores import usable_cores
from emoshare.core.text import console_table
from emoshare.core.version import __version__, version_of

GB = 1e9
SECONDS = 3  # that the hub may take to answer
Facts = Iterator[tuple[str, str]]


def doctor(arguments: list[str], verbose: bool) -> int:
    """Print the facts by section, then a line with its remedy for each problem. Status 1 where there is one."""
    parser = argparse.ArgumentParser(
        "emoshare doctor",
        description="Print versions, device, extras, hub, W&B and caches, for a report of a fault.",
    )
    parser.add_argument("--cache", type=Path, default=Path("cache"), help="paths.cache of the runs (default: cache)")
    cache = parser.parse_args(arguments).cache
    problems: list[str] = []  # filled as the facts are printed
    sections = {
        "installation": installation(), "machine": machine(problems), "libraries": libraries(problems),
        "extras": extras(), "services": services(problems), "disk": disk(cache, problems),
    }  # fmt: skip
    for name, facts in sections.items():
        sys.stdout.write(console_table([name, ""], facts, left=2) + "\n")
    for problem in problems:
        sys.stdout.write(f"problem: {problem}\n")
    sys.stdout.write("" if problems else "no problem found\n")
    return int(bool(problems))


def installation() -> Facts:
    yield "emoshare", f"{__version__} in {Path(__file__).parents[1]}"
    yield "Python", f"{platform.python_version()} in {sys.prefix}"
    yield "system", platform.platform()


def machine(problems: list[str]) -> Facts:
    """Processor, memory, device, and the precision that `extract.compute=auto` takes."""
    import psutil

    memory = psutil.virtual_memory()
    yield "cores", f"{usable_cores()} of {os.cpu_count()}"
    yield "memory", f"{memory.available / GB:.1f} of {memory.total / GB:.1f} GB free"
    try:
        import torch

        from emoshare.core.config import TrainerConfig
        from emoshare.core.hardware import choose_device, resolve_dtype
        from emoshare.core.products import processor
    except Exception as error:  # a broken PyTorch raises whatever it likes
        problems.append(f"PyTorch cannot be imported ({type(error).__name__}: {error}); install it again")
        return
    yield "processor", processor()
    for number in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(number)
        yield f"GPU {number}", f"{gpu.name}, {gpu.total_memory / GB:.0f} GB, CUDA {torch.version.cuda}"
    device = choose_device(TrainerConfig())
    yield "device", f"{device} (trainer.accelerator=auto)"
    yield "precision", f"{str(resolve_dtype('auto', device)).removeprefix('torch.')} (extract.compute=auto)"


def libraries(problems: list[str]) -> Facts:
    """The version of each library that emoshare needs; one that is missing or too old is a problem."""
    for requirement in requirements():
        if not requirement.marker or requirement.marker.evaluate({"extra": ""}):
            version = version_of(requirement.name)
            if version is None or not requirement.specifier.contains(version, prereleases=True):
                state = "is not installed" if version is None else f"is {version}"
                problems.append(
                    f'{requirement.name} {state}; run `pip install "{requirement.name}{requirement.specifier}"`'
                )
            yield requirement.name, version or "missing"


def extras() -> Facts:
    """Whether each extra is there, and what it lacks."""
    names = importlib.metadata.metadata("emoshare").get_all("Provides-Extra") or []
    for extra in names:
        needed = [r for r in requirements() if r.marker and r.marker.evaluate({"extra": extra})]
        missing = [r.name for r in needed if version_of(r.name) is None]
        old = [r.name for r in needed if r.name not in missing and not r.specifier.contains(version_of(r.name) or "")]
        lacking = ", ".join([*missing, *(f"a newer {name}" for name in old)])
        yield extra, f'lacks {lacking}: pip install "emoshare[{extra}]"' if lacking else "there"


def requirements() -> list[Any]:
    """The declared dependencies of emoshare, as packaging.requirements.Requirement."""
    from packaging.requirements import Requirement

    return [Requirement(text) for text in importlib.metadata.requires("emoshare") or []]


def services(problems: list[str]) -> Facts:
    """Whether the model hub answers, and what W&B would do."""
    from emoshare.core.errors import EmoshareError
    from emoshare.runs.trackers.wandb import wandb_key, wandb_mode

    yield "model hub", hub()
    try:
        mode = wandb_mode(None)
    except EmoshareError as error:
        problems.append(str(error))
        mode = "not usable"
    yield "W&B", f"{mode}, {'a key is there' if wandb_key() else 'no key'}"


def hub() -> str:
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return f"{constants.ENDPOINT} is not asked (HF_HUB_OFFLINE)"
    try:
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=SECONDS).close()
    except HTTPError:  # an answer, too
        pass
    except OSError as error:
        reason = getattr(error, "reason", error)
        return f"cannot be reached ({reason}): set backbone.path to a local folder"
    return f"{constants.ENDPOINT} answers"


def disk(cache: Path, problems: list[str]) -> Facts:
    """The size of the caches, and the free space."""
    from huggingface_hub import constants

    from emoshare.store.cache import stores

    frames = stores(cache)
    free = shutil.disk_usage(Path.cwd()).free
    if cache.exists() and not cache.is_dir():
        problems.append(f"{cache}: a file; name a folder with --cache, and with paths.cache of the runs")
    yield "frame stores", f"{sum(store.bytes for store in frames) / GB:.1f} GB of {len(frames)} in {cache.resolve()}"
    yield "checkpoints", f"{size(Path(constants.HF_HUB_CACHE)) / GB:.1f} GB in {constants.HF_HUB_CACHE}"
    yield "free", f"{free / GB:.1f} GB in {Path.cwd()}"
    if free < GB:
        problems.append(f"{Path.cwd()}: {free / GB:.1f} GB are free; make room, or work in another folder")


def size(folder: Path) -> int:
    """Bytes of the files below a folder; a link counts nothing, as what it names lies there, too."""
    files = (Path(root, name) for root, _, names in os.walk(folder) for name in names)
    return sum(path.lstat().st_size for path in files if not path.is_symlink())
