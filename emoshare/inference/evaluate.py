"""A trained model on another corpus: predictions and scores with intervals of the targets that both have, in files.

Shapes: N clips, E targets, B resamples.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from emoshare.core.errors import EmoshareError
from emoshare.core.files import check_replaceable, replacing_folder, write_json
from emoshare.core.text import near
from emoshare.core.version import __version__
from emoshare.data.audio import read
from emoshare.data.partition import Corpus
from emoshare.inference.embed import batches
from emoshare.inference.learned import unseen
from emoshare.inference.model import Model
from emoshare.inference.part import Part
from emoshare.metrics.bootstrap import drawn_units
from emoshare.metrics.error import MAE
from emoshare.metrics.metric import Metric
from emoshare.metrics.strata import StratumScores, score_strata
from emoshare.models.classes import ClassScores, class_intervals
from emoshare.runs.folder import Run
from emoshare.runs.predictions import Scores, describe_scores, score_and_write
from emoshare.runs.resampled import Predictions, Resampling
from emoshare.store.clips import Clips
from emoshare.store.extract import frames_of

log = logging.getLogger("emoshare")

FORMAT = 2  # of an evaluation's results.json
LOOP = 64  # clips that a backbone outside the store predicts at once


@dataclass(frozen=True)
class Evaluation:
    """The scores of a model on a corpus.

    Attributes:
        run: the model's name.
        corpus: name, fingerprint, clips by partition and range of the labels, in which its tables are.
        targets: names of the shares.
        metrics: partition → metric of the run, and mae → "mean" and each target.
        intervals: partition → metric → "mean" and each target → 95 % interval by the bootstrap.
        scored_by: metric → its label and direction, in the order of tables.
        drawn: partition → what the bootstrap draws: "clips", or "clips, drawn by <column>".
        remarks: on the scores, as `metrics/scores.py: remarks` has them.
        strata: partition → clips by the entropy of their labels, their number and mean scores with intervals.
        classes: partition → accuracy and UAR of one-hot labels, with `intervals`.
        versions: of emoshare.
        finished: ISO 8601, UTC.
    """

    run: str
    corpus: dict[str, Any]
    targets: list[str]
    metrics: dict[str, Scores]
    intervals: dict[str, dict[str, dict[str, tuple[float, float]]]]
    drawn: dict[str, str]
    remarks: dict[str, dict[str, list[str]]]
    classes: dict[str, ClassScores]
    versions: dict[str, str]
    finished: str
    scored_by: dict[str, dict[str, Any]]
    strata: dict[str, dict[str, StratumScores]] = field(default_factory=dict)
    format: int = FORMAT


def evaluate(
    model: Model, corpus: Corpus, out: Path | None = None, names: Mapping[str, str] | None = None
) -> tuple[Evaluation, Path]:
    """Predict the clips of a corpus and score those that have labels.

    Of the corpus that the model was trained on, the clips that it has learned from are left out, in whatever partition.

    Args:
        model: that predicts.
        corpus: with at least one target of the model; those that one of both lacks are left out.
        out: the folder to write; by default `evaluations/<corpus>-<8 hex>` in the model's own.
        names: target of the corpus → the model's, where they are called otherwise.

    Returns:
        The evaluation and its folder, which holds results.json, predictions/ and reference/.

    Raises:
        EmoshareError: no target is shared, there are no labels, or a clip cannot be used.
    """
    folder = out or model.folder / "evaluations" / f"{corpus.name}-{corpus.fingerprint[:8]}"
    check_replaceable(folder, ("results.json", "predictions", "reference", "groups", "resampled"), "an evaluation")
    scored = match_targets(corpus, model, names or {})
    shares = predict_corpus(model, corpus, scored)[:, [model.targets.index(target) for target in scored.targets]]
    corpus = scored
    parts = {name: shares[part.rows] for name, part in corpus.partitions.items()}
    with replacing_folder(folder) as temporary:
        used = [*(metric for metric in model.results.scoring_metrics if metric.computable and metric is not MAE), MAE]
        scores = score_and_write(Run(temporary), corpus, parts, used)
        if (folder / "resampled").is_dir():  # of an earlier evaluation: they count where it predicted the same
            shutil.copytree(folder / "resampled", temporary / "resampled")
        evaluation = describe(model.results.run, corpus, parts, scores, used, temporary)
        write_json(temporary / "results.json", asdict(evaluation))
    return evaluation, folder


def describe(
    run: str, corpus: Corpus, parts: Mapping[str, np.ndarray], metrics: dict[str, Scores], used: Sequence[Metric],
    folder: Path,
) -> Evaluation:  # fmt: skip
    """The evaluation of predictions, with intervals.

    Args:
        run: name of the model.
        corpus: that was predicted.
        parts: partition → (N, E) shares.
        metrics: scores of the partitions that have labels.
        used: the metrics of these.
        folder: that the predictions were written into.
    """
    intervals, drawn, strata = {}, {}, {}
    remarks, classes = describe_scores(corpus, dict(parts))
    for name in metrics:
        true = corpus.partitions[name].shares
        assert true is not None
        clusters = corpus.clusters_of(name)
        (resampled,) = Resampling(true, clusters, used).scores([Predictions.of(folder, name, parts[name])])
        intervals[name] = resampled.intervals(used, corpus.targets)
        drawn[name] = drawn_units(clusters, corpus.cluster)
        strata[name] = score_strata(true, parts[name], clusters, used)
        if name in classes:
            classes[name] = replace(classes[name], intervals=class_intervals(true, parts[name], clusters))
    clips = {name: len(part.files) for name, part in corpus.partitions.items()}
    return Evaluation(
        run=run,
        corpus={"name": corpus.name, "fingerprint": corpus.fingerprint, "clips": clips, "range": list(corpus.range)},
        targets=list(corpus.targets),
        metrics=metrics,
        intervals=intervals,
        drawn=drawn,
        remarks=remarks,
        classes=classes,
        versions={"emoshare": __version__},
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        scored_by={metric.name: metric.facts for metric in used},
        strata=strata,
    )


def match_targets(corpus: Corpus, model: Model, names: Mapping[str, str]) -> Corpus:
    """The corpus with the shared targets in the model's order, without what the model was trained on."""
    places = shared_targets(corpus.targets, model, names)
    left = [f"{target} of {whose}" for whose, targets, here in (
        (model.results.run, model.targets, list(places)),
        (corpus.name, corpus.targets, [corpus.targets[place] for place in places.values()]),
    ) for target in targets if target not in here]  # fmt: skip
    if left:
        log.warning("not scored, as the other one has no such target: %s", ", ".join(left))
    columns = list(places.values())
    remaining, removed = unseen(corpus, model.bundle)
    partitions = {
        name: replace(
            part,
            shares=None if part.shares is None else part.shares[:, columns],
            votes=part.votes if len(columns) == len(corpus.targets) else None,
        )
        for name, part in remaining.partitions.items()
    }
    if all(part.shares is None for part in partitions.values()):
        seen = f" but those that the model has learned from ({' and '.join(removed)})" if removed else ""
        raise EmoshareError(f"{corpus.root}: has no labels to score against{seen}; `emoshare predict` needs none")
    for name in removed.keys() & partitions.keys():
        log.warning("%s: %d clips left out, as the model has learned from them", name, removed[name])
    return replace(corpus, targets=tuple(places), partitions=partitions)


def shared_targets(theirs: Sequence[str], model: Model, names: Mapping[str, str]) -> dict[str, int]:
    """Each target that the model shares with a corpus, in the model's order, and its place in the corpus's.

    Args:
        theirs: the corpus's targets.
        model: with its own.
        names: pairs of one target of each, in either order.

    Raises:
        EmoshareError: no target is shared, or a pair is not one of theirs and one of the model's.
    """
    named, problems = list(theirs), []
    for pair in names.items():
        of_corpus, of_model = pair if pair[0] in theirs and pair[1] in model.targets else pair[::-1]
        if of_corpus in theirs and of_model in model.targets:
            named[theirs.index(of_corpus)] = of_model
        else:
            strange = [name for name in pair if name not in (*theirs, *model.targets)] or pair
            hints = "".join(near(name, [*theirs, *model.targets]) for name in strange)
            problems.append(f"--map {'='.join(pair)}: not a target of the corpus and one of the model{hints}")
    problems += [f"--map: two targets of the corpus for {name}" for name in model.targets if named.count(name) > 1]
    places = {target: named.index(target) for target in model.targets if target in named}
    if not places and not problems:
        alike = next(((t, close[0]) for t in model.targets if (close := get_close_matches(t, theirs, 1, 0.5))), None)
        hint = f", as --map {alike[1]}={alike[0]}" if alike else ""
        problems = [f"the corpus and the model share no target; name pairs of them{hint}"]
    if problems:
        lists = f"the corpus has {', '.join(theirs)}; {model.results.run} predicts {', '.join(model.targets)}"
        raise EmoshareError("\n".join([*problems, lists]))
    return places


def predict_corpus(model: Model, corpus: Corpus, scored: Corpus) -> np.ndarray:
    """(N, E) float32 in corpus-wide order; rows of partitions that are not scored may be NaN."""
    total: np.ndarray | float = 0.0
    for part, weight in model.parts:
        shares = np.full((len(corpus.files), len(model.targets)), np.nan)
        for rows, values in part_shares(part, corpus, scored, model):
            shares[rows] = values
        total = total + weight * shares
    return np.asarray(total, np.float32)


def part_shares(part: Part, corpus: Corpus, scored: Corpus, model: Model) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows (B,) in corpus-wide order and shares (B, E), by frames of the store where it can hold them."""
    if part.rounded is not None and part.window.crop != "random":
        label = f"{part.config.backbone.name} {part.window.seconds:g} s"
        store = frames_of(Clips.of_corpus(corpus, part.window), part.extractor, model.cache, label)
        for rows, frames, counts in batches(store):
            yield rows, part.learned.score(frames.to(model.device).float(), counts.to(model.device))
        return
    for partition in scored.partitions.values():
        for start in range(0, len(partition.files), LOOP):
            files = partition.files[start : start + LOOP]
            waves = [part.window.cut(read(corpus.path(file), scale=corpus.scale)) for file in files]
            yield partition.rows[start : start + LOOP], part.predict(waves)
