"""`emoshare evaluate`: a trained run on another corpus with the same targets."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from emoshare.command.options import RUN, check_out, model_options

if TYPE_CHECKING:
    from emoshare.inference.evaluate import Evaluation


def evaluate(arguments: list[str], verbose: bool) -> int:
    parser = argparse.ArgumentParser(
        "emoshare evaluate",
        description="Scores of a trained run on another corpus with the same targets, with 95 % intervals, in the "
        "run's folder evaluations/.",
    )
    parser.add_argument("run", help=RUN)
    parser.add_argument("corpus", nargs="+", metavar="data=…", help="the corpus: data=csv data.root=… data.targets=…")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="to write (default: evaluations/<corpus>-<hash> in the run's)"
    )
    model_options(parser)
    options = parser.parse_args(arguments)
    from emoshare.command.compose import compose_one
    from emoshare.command.console import quiet, speak
    from emoshare.data.corpus import load
    from emoshare.inference.evaluate import evaluate as evaluate_model
    from emoshare.inference.model import load_model

    speak(verbose)
    if options.out:
        check_out(options.out.absolute().parent)
    config = compose_one(options.corpus)
    model = load_model(options.run, options.device, options.cache, options.revision)
    evaluation, folder = evaluate_model(model, load(config.data, model.cache), options.out)
    quiet()
    print(table(evaluation), end="")
    print(f"results: {folder / 'results.json'}")
    return 0


def table(evaluation: Evaluation) -> str:
    """Scores of each partition, mean and targets, for a terminal, and what is to be known of them."""
    from emoshare.core.text import console_table
    from emoshare.models.classes import class_lines
    from emoshare.models.scores import remark_lines

    rows = []
    for part, metrics in evaluation.metrics.items():
        clips = evaluation.corpus["clips"][part]
        for name in ("mean", *evaluation.targets):
            cells = [f"{part}, {clips} clips" if name == "mean" else "", name]
            for metric in ("scc", "ccc"):
                cells.append(with_interval(metrics[metric][name], evaluation.intervals[part][metric][name]))
            if part in evaluation.classes:
                cells[2] += f" ≤ {evaluation.classes[part]['scc_ceiling'][name]:.3f}"
            rows.append([*cells, f"{metrics['mae'][name]:.3f}"])
    lines = [console_table(("partition", "target", "SCC", "CCC", "mean error"), rows, left=2).rstrip("\n")]
    lines += remark_lines(evaluation.remarks, evaluation.targets)
    lines += class_lines(evaluation.classes, evaluation.targets)
    for part, told in evaluation.classes.items():
        counts = [[target, *map(str, row)] for target, row in zip(evaluation.targets, told["confusion"], strict=True)]
        lines.append(console_table((f"{part}: clips of", *evaluation.targets), counts).rstrip("\n"))
    drawn = [f"{what} ({part})" for part, what in evaluation.drawn.items()]
    return "\n".join([*lines, f"95 % intervals over {', '.join(drawn)}"]) + "\n"


def with_interval(value: float, ends: tuple[float, float]) -> str:
    """A score and its interval; `–` where there is none."""
    if value != value:
        return "–"
    return f"{value:.3f} [{ends[0]:.3f}, {ends[1]:.3f}]" if ends[0] == ends[0] else f"{value:.3f}"
