"""`emoshare evaluate`: a trained run on another corpus."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from emoshare.command.options import RUN, check_out, check_sections, model_options, scale_option
from emoshare.core.errors import EmoshareError

if TYPE_CHECKING:
    from emoshare.inference.evaluate import Evaluation


def evaluate(arguments: list[str], verbose: bool) -> int:
    parser = argparse.ArgumentParser(
        "emoshare evaluate",
        description="Scores of a trained run on another corpus, of the targets that both have, with 95 % intervals, in "
        "the run's folder evaluations/.",
    )
    parser.add_argument("run", help=RUN)
    parser.add_argument("corpus", nargs="*", metavar="data=…", help="the corpus: data=csv data.root=… data.targets=…")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="to write (default: evaluations/<corpus>-<hash> in the run's)"
    )
    scale_option(parser)
    parser.add_argument(
        "--map", action="append", default=[], metavar="THEIRS=OURS",
        help="a target of the corpus and what the run calls it, as Angry=Anger; may be given several times",
    )  # fmt: skip
    parser.add_argument("--config-dir", metavar="DIR", help="a folder of your own, with corpora as DIR/data/NAME.yaml")
    model_options(parser)
    options = parser.parse_intermixed_args(arguments)  # options may come before data=…
    if not options.corpus:
        example = f"emoshare evaluate {options.run} data=csv data.root=/path/to/corpus data.targets=[Joy,Fear]"
        raise EmoshareError(f"name the corpus, as in {example}")
    from emoshare.command.compose import compose_one
    from emoshare.command.console import quiet, speak
    from emoshare.data.corpus import load
    from emoshare.inference.evaluate import evaluate as evaluate_model
    from emoshare.inference.evaluate import shared_targets
    from emoshare.inference.model import load_model

    speak(verbose)
    if options.out:
        check_out(options.out.absolute().parent)
    check_corpus(options.corpus)
    names = read_pairs(options.map)
    more = ["--config-dir", options.config_dir] if options.config_dir else []
    scale = [] if options.scale is None else [f"data.scale={options.scale}"]
    config = compose_one([*more, *options.corpus, *scale])
    model = load_model(options.run, options.device, options.cache, options.revision)
    shared_targets(config.data.targets, model, names)  # what is wrong with them is said before any clip is read
    evaluation, folder = evaluate_model(model, load(config.data, model.cache), options.out, names)
    quiet()
    print(table(evaluation), end="")
    print(f"results: {folder / 'results.json'}")
    return 0


def check_corpus(words: list[str]) -> None:
    """Raise EmoshareError for words that are no part of a corpus: another run, keys of other sections."""
    lines = [f"{word}: another run or folder; evaluate takes one run, and the corpus as data=…" for word in words]
    if folders := [line for word, line in zip(words, lines, strict=True) if "=" not in word and Path(word).exists()]:
        raise EmoshareError("\n".join(folders))
    check_sections(words, ("data", "paths", "experiment"), "evaluate")


def read_pairs(words: list[str]) -> dict[str, str]:
    """`Angry=Anger` → Angry, Anger. EmoshareError where a word is no such pair, or a name is in two."""
    pairs: dict[str, str] = {}
    for word in words:
        theirs, equals, ours = (part.strip() for part in word.partition("="))
        if not (theirs and equals and ours):
            raise EmoshareError(f"--map {word}: name a target of the corpus and one of the run, as Angry=Anger")
        if pairs.setdefault(theirs, ours) != ours:
            raise EmoshareError(f"--map {word}: {theirs} is {pairs[theirs]} already")
    return pairs


def table(evaluation: Evaluation) -> str:
    """Scores of each partition, mean and targets, for a terminal, and what is to be known of them."""
    from emoshare.core.ranges import unit_lines
    from emoshare.core.text import console_table
    from emoshare.metrics.bootstrap import FEWEST_CLUSTERS
    from emoshare.metrics.error import MAE
    from emoshare.metrics.rank import SCC
    from emoshare.metrics.registry import AVG
    from emoshare.metrics.scores import remark_lines
    from emoshare.models.classes import class_lines

    rows = []
    shown = {name: facts["label"] for name, facts in evaluation.scored_by.items() if name not in (AVG.name, MAE.name)}
    for part, metrics in evaluation.metrics.items():
        clips = evaluation.corpus["clips"][part]
        for name in ("mean", *evaluation.targets):
            cells = [f"{part}, {clips} clips" if name == "mean" else "", name]
            for metric in shown:
                cell = with_interval(metrics[metric].get(name), evaluation.intervals[part][metric].get(name))
                if metric == SCC.name and part in evaluation.classes:
                    cell += f" ≤ {evaluation.classes[part].scc_ceiling[name]:.3f}"
                cells.append(cell)
            rows.append([*cells, f"{metrics[MAE.name][name]:.3f}"])
        for name, stratum in evaluation.strata[part].items():
            cells = [with_interval(stratum.scores[metric], stratum.intervals[metric]) for metric in shown]
            row = [f"{part}, {stratum.clips} clips", f"entropy {name}", *cells, f"{stratum.scores[MAE.name]:.3f}"]
            rows.append(row)
    lines = [console_table(("partition", "target", *shown.values(), "mean error"), rows, left=2).rstrip("\n")]
    lines += remark_lines(evaluation.remarks, evaluation.targets)
    lines += class_lines(evaluation.classes, evaluation.targets)
    lines += unit_lines({f["label"]: f["unit"] for f in evaluation.scored_by.values()}, evaluation.corpus["range"])
    for part, told in evaluation.classes.items():
        counts = [[target, *map(str, row)] for target, row in zip(evaluation.targets, told.confusion, strict=True)]
        lines.append(console_table((f"{part}: clips of", *evaluation.targets), counts).rstrip("\n"))
    drawn = [f"{what} ({part})" for part, what in evaluation.drawn.items()]
    lines.append(f"95 % intervals over {', '.join(drawn)}")
    if any(evaluation.strata.values()) and {*evaluation.drawn.values()} != {"clips"}:
        few = f"if it has fewer than {FEWEST_CLUSTERS} values of data.cluster"
        lines[-1] += f"; of a third by entropy over single clips, {few}"
    return "\n".join(lines) + "\n"


def with_interval(value: float | None, ends: tuple[float, float] | None) -> str:
    """A score and its interval; `–` where there is none."""
    if value is None or ends is None or value != value:
        return "–"
    return f"{value:.3f} [{ends[0]:.3f}, {ends[1]:.3f}]" if ends[0] == ends[0] else f"{value:.3f}"
