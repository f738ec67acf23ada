"""`emoshare evaluate`: a trained run on another corpus with the same targets."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from emoshare.command.options import RUN, check_out, model_options, scale_option

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
    scale_option(parser)
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
    scale = [] if options.scale is None else [f"data.scale={options.scale}"]
    config = compose_one([*options.corpus, *scale])
    model = load_model(options.run, options.device, options.cache, options.revision)
    evaluation, folder = evaluate_model(model, load(config.data, model.cache), options.out)
    quiet()
    print(table(evaluation), end="")
    print(f"results: {folder / 'results.json'}")
    return 0


def table(evaluation: Evaluation) -> str:
    """Scores of each partition, mean and targets, for a terminal."""
    from emoshare.core.text import console_table

    rows = []
    for part, metrics in evaluation.metrics.items():
        clips = evaluation.corpus["clips"][part]
        for name in ("mean", *evaluation.targets):
            cells = [f"{part}, {clips} clips" if name == "mean" else "", name]
            for metric in ("scc", "ccc"):
                low, high = evaluation.intervals[part][metric][name]
                cells.append(f"{metrics[metric][name]:.3f} [{low:.3f}, {high:.3f}]")
            rows.append([*cells, f"{metrics['mae'][name]:.3f}"])
    return console_table(("partition", "target", "SCC", "CCC", "mean error"), rows, left=2)
