"""The options that verbs with a trained run share, and what their --out must be."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from emoshare.core.errors import EmoshareError
from emoshare.core.outside import allow

RUN = "outputs/<sweep>/<run>, an exported folder, or the name of one on the hub"


def cache_option(parser: argparse.ArgumentParser) -> None:
    """Add the options for the folder of converted models and for code from outside."""
    parser.add_argument(
        "--cache", type=Path, metavar="FOLDER", help="of frames and facts about backbones (default: paths.cache)"
    )
    allow_option(parser)


def model_options(parser: argparse.ArgumentParser) -> None:
    """The options of every verb that computes with a trained model."""
    parser.add_argument("--device", default="auto", help="auto (default: a GPU where there is one), cpu, cuda, cuda:1")
    cache_option(parser)
    parser.add_argument("--revision", help="of a model on the hub: branch, tag or commit")


def allow_option(parser: argparse.ArgumentParser) -> None:
    """Add the option for the user's modules that a verb may import, where a run's files name them: each at once."""
    parser.add_argument(
        "--allow", action="append", default=[], metavar="MODULE", type=_allow,
        help="a module of yours that a run names and that may be run; may be given several times",
    )  # fmt: skip


def _allow(name: str) -> str:
    allow([name])
    return name


def scale_option(parser: argparse.ArgumentParser) -> None:
    """Add the option for the scale of float samples, for every verb that reads recordings."""
    parser.add_argument(
        "--scale", type=float, metavar="X",
        help="the value that stands for full scale in files of floats, as 32768 for 16-bit (default: 1)",
    )  # fmt: skip


def window_options(parser: argparse.ArgumentParser) -> None:
    """The options of every verb that cuts recordings into windows."""
    parser.add_argument("--windows", type=float, metavar="S", help="seconds of a window (default: as in training)")
    parser.add_argument(
        "--step", type=float, metavar="S", help="a window every S seconds (default: one per file, cut as in training)"
    )
    parser.add_argument("--recursive", action="store_true", help="look into the folders of a folder")
    parser.add_argument(
        "--store", action="store_true", help="frames are taken from the frame store, and kept there (not with --step)"
    )
    scale_option(parser)


def check_store(options: argparse.Namespace) -> bool:
    """Whether --store is given. EmoshareError where it is with --step, or --features without it."""
    if options.store and options.step is not None:
        raise EmoshareError("--store: keeps one window of each file; leave out --step, or --store")
    if getattr(options, "features", None) and not options.store:
        raise EmoshareError("--features: taken into the frame store; add --store")
    return bool(options.store)


def check_sections(words: Sequence[str], sections: Collection[str], verb: str) -> None:
    """Raise EmoshareError for overrides of sections that a verb does not read, which would be silently ignored."""
    keys = {word: word.lstrip("+~").partition("=")[0] for word in words if "=" in word}
    vain = [word for word, key in keys.items() if key.partition(".")[0].partition("@")[0] not in sections]
    if vain:
        read = ", ".join(sections)
        raise EmoshareError("\n".join(f"{word}: {verb} reads {read} alone; leave it out" for word in vain))


def check_out(folder: Path) -> None:
    """Make the folder that is written to. EmoshareError where it cannot be written, before anything is computed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise unwritable(folder, error) from None


def check_file(path: Path, inputs: Iterable[str | Path | None] = ()) -> None:
    """Check a table that is to be written, as `check_out` does a folder.

    A CSV that is no such table, as one of labels, is not replaced, nor is one of the inputs.
    """
    if path.is_dir():
        raise EmoshareError(f"{path}: a folder; name a file with --out")
    if path.is_file():
        from emoshare.inference.shares import INDEX

        begin = ",".join(INDEX).encode()  # of every table of recordings
        with path.open("rb") as file:
            foreign = path.suffix == ".csv" and file.read(len(begin)) not in (begin, b"")
        if foreign or any(name and Path(name).is_file() and path.samefile(name) for name in inputs):
            raise EmoshareError(
                f"{path}: is an input, or holds something that emoshare has not written; name another file"
            )
    check_out(path.parent)


def unwritable(folder: Path, error: OSError) -> EmoshareError:
    return EmoshareError(f"{folder}: cannot be written: {error.strerror}; name another place with --out")
