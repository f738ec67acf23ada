"""`emoshare explain`: what each stretch of a recording adds to each share, as a figure and as JSON."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from emoshare.command.options import RUN, check_out, model_options, scale_option, unwritable

if TYPE_CHECKING:
    from emoshare.inference.explanation import Explanation

TEXT = (
    "What each stretch of a recording adds to each share, as a figure and as JSON. By occlusion: each stretch is "
    "silenced and the whole model run again. By integrated gradients and the attention of the head: of a run with one "
    "head of PyTorch; for those of a fusion, explain its members."
)


def explain(arguments: list[str], verbose: bool) -> int:
    options = parser().parse_args(arguments)
    folder: Path = options.out or Path("explanations") / Path(options.run).resolve().name
    check_out(folder)
    from emoshare.command.console import quiet, speak
    from emoshare.inference.model import load_model

    speak(verbose)
    model = load_model(options.run, options.device, options.cache, options.revision)
    explanation = model.explain(
        options.clip,
        start=options.start,
        windows=options.windows,
        stretch=options.stretch,
        scale=options.scale,
    )
    quiet()
    name = free_name(folder, name_of(options), explanation)
    try:
        explanation.write(folder / f"{name}.json")
        explanation.figure(folder / f"{name}.png")
    except OSError as error:
        raise unwritable(folder, error) from None
    print(summary(explanation), end="")
    print(f"figure: {folder / name}.png\ndata: {folder / name}.json")
    return 0


def name_of(options: argparse.Namespace) -> str:
    """The name of an explanation's files: the recording, and the options that are not the default."""
    from emoshare.inference.explanation import STRETCH

    name: str = options.clip.stem
    if options.start is not None:
        name += f"-{options.start:.9g}s"
    if options.windows is not None:
        name += f"-windows{options.windows:.9g}s"
    if options.stretch != STRETCH:
        name += f"-stretch{options.stretch:.9g}s"
    return name


def free_name(folder: Path, name: str, explanation: Explanation) -> str:
    """The name; with a hash behind it where the folder has that name for another recording or run."""
    from emoshare.core.hashing import digest

    path = folder / f"{name}.json"
    ours = [explanation.run, str(Path(explanation.file).resolve())]
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        theirs = [content["run"], str(Path(content["file"]).resolve())]
    except FileNotFoundError:
        return name
    except (OSError, ValueError, KeyError, TypeError):  # no explanation
        theirs = []
    return name if theirs == ours else f"{name}-{digest(ours, 8)}"


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser("emoshare explain", description=TEXT)
    made.add_argument("run", help=RUN)
    made.add_argument("clip", type=Path, help="a recording: WAV, FLAC, OGG, MP3 or AIFF")
    made.add_argument("--out", type=Path, metavar="FOLDER", help="to write to (default: explanations/<run>)")
    made.add_argument("--windows", type=float, metavar="S", help="seconds of the window (default: as in training)")
    made.add_argument("--start", type=float, metavar="S", help="second at which it begins (default: as in training)")
    made.add_argument(
        "--stretch",
        type=float,
        metavar="S",
        default=0.25,
        help="seconds silenced at once, every half of it (default: 0.25)",
    )
    scale_option(made)
    model_options(made)
    return made


def summary(explanation: Explanation) -> str:
    """The shares with the stretch that changes each most, as a table for the terminal."""
    from emoshare.core.text import console_table, printable

    rows = []
    for share, (target, start, end, adds) in sorted(
        zip(explanation.shares.tolist(), explanation.strongest(), strict=True), key=lambda row: -row[0]
    ):
        error = explanation.devel_error.get(target)
        rows.append((
            printable(target), f"{share:.3f}", "" if error is None else f"± {error:.3f}",
            f"{start:.2f} to {end:.2f} s", f"{adds:+.3f}".replace("-", "−"),
        ))  # fmt: skip
    window = f"window: {explanation.start:.2f} to {explanation.end:.2f} s"
    if explanation.end - explanation.start < explanation.seconds - 0.005:
        window += f" of {explanation.seconds:.2f} s; --start explains another"
    return f"{window}\n" + console_table(("", "share", "devel error", "strongest stretch", "adds"), rows)
