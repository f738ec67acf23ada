"""`emoshare predict`: shares of files and folders, printed or written as a table."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from emoshare.command.console import fail
from emoshare.command.options import RUN, check_file, check_store, model_options, window_options
from emoshare.core.errors import together

if TYPE_CHECKING:
    from emoshare.inference.model import Model
    from emoshare.inference.predict import Predicted

SHOWN = 20  # bad files that are named; all are counted


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options of the verb."""
    parser = argparse.ArgumentParser(
        "emoshare predict",
        description="How much of each emotion recordings carry, by a trained run: shares in the range of its labels; "
        "those of an SVR or a linear output may lie beyond. The same command goes on where one that writes to "
        "--out was stopped.",
    )
    parser.add_argument("run", help=RUN)
    parser.add_argument("paths", type=Path, nargs="+", metavar="path", help="a file, or a folder of files")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="a .csv, .parquet or, of one file, .TextGrid (default: print)"
    )
    parser.add_argument(
        "--intervals", action="store_true", help="calibrated shares with the intervals that the run fitted on devel"
    )
    parser.add_argument(
        "--features",
        type=Path,
        metavar="FILE",
        help="of these recordings, for a run on backbone=features; with --store",
    )
    window_options(parser)
    model_options(parser)
    return parser.parse_intermixed_args(arguments)


def predict(arguments: list[str], verbose: bool) -> int:
    """Exit status 1 where a file could not be used."""
    options = parse(arguments)
    from emoshare.command.console import quiet, speak
    from emoshare.inference.intervals import intervals_of
    from emoshare.inference.model import load_model
    from emoshare.inference.predict import predict_files, predict_to
    from emoshare.inference.recording import check_scale, check_windows, files_of
    from emoshare.inference.shares import check_single

    speak(verbose)
    skipped: list[Path] = []
    files, stored, *_ = together(
        partial(files_of, options.paths, options.recursive, skipped),
        partial(check_store, options),
        partial(check_windows, options.windows, options.step),
        partial(check_scale, options.scale),
        partial(check_table, options.out, [*options.paths, options.features]),
    )
    if options.out:
        check_single(options.out, len(files))
    model = load_model(options.run, options.device, options.cache, options.revision)
    if options.intervals:
        intervals_of(model.results)
    if stored:
        predicted = predict_by_store(model, files, options)
    elif options.out:
        how = options.windows, options.step, options.intervals, options.scale
        predicted = predict_to(model, files, options.out, *how)
    else:
        predicted = predict_files(model, files, options.windows, options.step, scale=options.scale)
    quiet()
    if options.out:
        print(summary(predicted, options.out))
    elif len(predicted.table):
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        text = intervals_text(predicted, model) if options.intervals else shares_text(predicted, model, width)
        sys.stdout.write(text)
    tell_range(model)
    for line in predicted.reading.warnings:
        print(line, file=sys.stderr)
    if options.step is None:
        report_unseen(predicted.longer)
    return report_failed(predicted.failures, len(set(predicted.table.files)), skipped)


def check_table(out: Path | None, inputs: Sequence[Path | None]) -> None:
    """Check the file that the table is written to, before anything is computed."""
    if out is not None:
        from emoshare.inference.shares import check_suffix

        check_suffix(out)
        check_file(out, inputs)


def predict_by_store(model: Model, files: Sequence[Path], options: argparse.Namespace) -> Predicted:
    """Predict with frames from the frame store, and write the table where --out says."""
    from emoshare.inference.intervals import with_intervals
    from emoshare.inference.stored import predict_stored, with_features

    if options.features:
        model = with_features(model, options.features)
    predicted = predict_stored(model, files, options.windows, options.scale)
    if options.out:
        table = with_intervals(predicted.table, model.results) if options.intervals else predicted.table
        table.write(options.out)
    return predicted


def tell_range(model: Model) -> None:
    """Print that a model's shares can leave the range of its labels, where they can."""
    if not model.bundle.bounded:
        low, high = model.results.range
        print(f"the shares of this run may lie outside {low:g} to {high:g}")


def shares_text(predicted: Predicted, model: Model, width: int | None = None) -> str:
    """A table with a row for each window, and the error on devel below.

    width: columns of a terminal; where there are too few for that, each target gets a line.
    """
    from emoshare.core.text import console_table, printable

    table = predicted.table
    rows = [
        [printable(row["file"]), f"{row['start']:.2f}", f"{row['end']:.2f}", *(f"{row[t]:.3f}" for t in table.targets)]
        for row in table.rows()
    ]
    if model.devel_error:
        rows.append(["mean error on devel", "", "", *(f"±{model.devel_error[t]:.3f}" for t in table.targets)])
    text = console_table(table.columns, rows)
    if width is None or max(map(len, text.splitlines())) <= width:
        return text
    return upright_text(predicted, model)


def upright_text(predicted: Predicted, model: Model) -> str:
    """The same with a line for each target, below the name of the recording and the seconds of the window."""
    from emoshare.core.text import console_table, printable

    text, errors = "", model.devel_error
    for row in predicted.table.rows():
        rows = [
            [target, f"{row[target]:.3f}", *([f"±{errors[target]:.3f}"] if errors else [])] for target in model.targets
        ]
        text += f"{printable(row['file'])}, {row['start']:.2f} to {row['end']:.2f} s\n"
        text += console_table(["target", "share", *(["mean error on devel"] if errors else [])], rows)
    return text


def intervals_text(predicted: Predicted, model: Model) -> str:
    """A line per recording, window and target for a terminal: its calibrated share with the interval."""
    from emoshare.core.text import console_table, printable
    from emoshare.inference.intervals import intervals_of, with_intervals

    rows = [
        (printable(row["file"]), f"{row['start']:.2f}", f"{row['end']:.2f}", target,
         f"{row[f'{target}_calibrated']:.2f} [{row[f'{target}_low']:.2f}, {row[f'{target}_high']:.2f}]")
        for row in with_intervals(predicted.table, model.results).rows()
        for target in model.targets
    ]  # fmt: skip
    level = 100 * intervals_of(model.results).level
    note = f"calibrated shares; an interval holds the true share of {level:g} % of clips like those of devel\n"
    return console_table(("file", "start", "end", "target", "share"), rows) + note


def summary(predicted: Predicted, out: Path) -> str:
    files, reading = len(set(predicted.table.files)), predicted.reading
    speed = f", {reading.seconds / 3600:.2f} h of audio at {reading.speed:.1f} × real time" if reading.seconds else ""
    rows = f", {len(predicted.table)} windows" if len(predicted.table) > files else ""
    return f"{out}: {files} file{'s' * (files != 1)}{rows}{speed}"


def report_unseen(longer: dict[str, tuple[float, float, float]]) -> None:
    """Say on stderr of which recordings the shares are those of a part."""
    from emoshare.core.text import printable

    if not longer:
        return
    name, (start, end, seconds) = max(longer.items(), key=lambda item: item[1][2])
    part = f"its first {end:.3g} s" if start == 0 else f"{start:.3g} to {end:.3g} s"
    whole = f"{seconds:.3g} s" if seconds < 60 else f"{int(seconds // 60)}:{int(seconds % 60):02} minutes"
    others = f"; {len(longer)} recordings are longer than the window" if len(longer) > 1 else ""
    remedy = f"--step {end - start:.3g} for the rest"
    print(f"{printable(name)}: shares of {part} of {whole}{others}; {remedy}", file=sys.stderr)


def report_failed(failed: dict[str, str], good: int, skipped: Sequence[Path] = ()) -> int:
    """Name on stderr the files that could not be used, and what folders hold that is not read; the exit status."""
    if skipped:
        from emoshare.inference.recording import skipped_warnings

        print(*skipped_warnings(skipped), sep="\n", file=sys.stderr)
    if not failed:
        return 0
    lines = list(failed.values())
    more = f"\n… and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    counted = f"{len(lines)} of {len(lines) + good} files could not be used; the table is without them"
    return fail("\n".join(lines[:SHOWN]) + f"{more}\n{counted}")
