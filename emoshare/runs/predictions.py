"""The tables of every finished run, whatever its system: predicted shares, the labels beside them, the scores.

Shapes: N clips of a partition, E emotions.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emoshare.core.errors import EmoshareError
from emoshare.core.files import write_text
from emoshare.core.hashing import check_file
from emoshare.core.ranges import to_range, to_unit
from emoshare.data.partition import Corpus
from emoshare.metrics.metric import Metric, score_table
from emoshare.metrics.registry import STANDARD
from emoshare.metrics.scores import remark_lines, remarks
from emoshare.models.classes import ClassScores, describe_classes, is_one_hot
from emoshare.runs.groups import write_groups
from emoshare.runs.results import REMEDY, Results

if TYPE_CHECKING:
    from emoshare.runs.folder import Run

log = logging.getLogger("emoshare")
VOTES = "votes"  # column of reference/<partition>.csv: of how many votes a clip's shares are
Scores = dict[str, dict[str, float]]  # metric → "mean" and each emotion


def write_shares(path: Path, files: tuple[str, ...], columns: dict[str, np.ndarray]) -> None:
    """Write a table in the submission format: `filename` and one column per name, a row per clip, no index."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["filename", *columns])
    for file, *values in zip(files, *columns.values(), strict=True):
        writer.writerow([file, *(f"{float(str(value)):.9g}" for value in values)])  # of float32 no digits of rounding
    write_text(path, text.getvalue())


def tables_of(folder: Path) -> list[str]:
    """Names of the tables of a run whose checksums are in its results.json."""
    kinds = ("predictions/*.csv", "reference/*.csv", "metrics.csv")
    return [str(path.relative_to(folder)) for kind in kinds for path in folder.glob(kind)]


def read_shares(path: Path, columns: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Read clips and numbers (N, C) of some columns of a table in the submission format.

    Raises:
        EmoshareError: it cannot be read, or holds a value that is no finite number.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        shares = np.array([[float(row[column]) for column in columns] for row in rows]).reshape(-1, len(columns))
        files = tuple(row["filename"] for row in rows)
        if not np.isfinite(shares).all():
            raise ValueError("a share is no finite number")
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise EmoshareError(f"{path}: not readable ({error}); train the run again") from None
    return files, shares


def verified_shares(
    folder: Path, name: str, results: Results, columns: Sequence[str] = ()
) -> tuple[tuple[str, ...], np.ndarray]:
    """Read shares as `read_shares`, of a run's table such as `predictions/devel.csv`; by default those of the targets.

    What the table has in the range of the corpus's labels comes back from 0 to 1.

    Raises:
        EmoshareError: as `read_shares`, or the table is not as the run has written it.
    """
    check_file(folder / name, results.files.get(name), REMEDY)
    files, values = read_shares(folder / name, columns or results.targets)
    scaled = [column in results.targets for column in columns or results.targets]
    return files, np.where(scaled, to_unit(values, results.range), values)


def score_and_write(
    run: Run, corpus: Corpus, predictions: dict[str, np.ndarray], metrics: Sequence[Metric] = STANDARD
) -> dict[str, Scores]:
    """Write predictions/, reference/ and groups/<partition>.csv, and score what has labels.

    Args:
        run: where the tables go.
        corpus: whose targets the columns are.
        predictions: partition → (N, E) shares from 0 to 1 in the order of the partition's clips.
        metrics: that they are scored by.

    Returns:
        partition → scores over the whole partition.

    Raises:
        EmoshareError: a share is not a finite number. Nothing is written then.
    """
    for name, shares in predictions.items():
        _check(name, corpus.partitions[name].files, shares, corpus.targets)
    scores: dict[str, Scores] = {}
    for name, shares in predictions.items():
        partition = corpus.partitions[name]
        predicted = in_range(corpus, shares)
        write_shares(run.folder / "predictions" / f"{name}.csv", partition.files, predicted)
        if partition.shares is not None:
            scores[name] = score_table(metrics, partition.shares, shares, corpus.targets)
            true = {name: labels.astype(np.float32) for name, labels in in_range(corpus, partition.shares).items()}
            reference = run.folder / "reference" / f"{name}.csv"
            votes = {} if partition.votes is None else {VOTES: partition.votes}
            write_shares(reference, partition.files, {**true, "seconds": partition.seconds, **votes})
    write_groups(run.folder, corpus)
    constant = remarks(predictions, labels_of(corpus, predictions), corpus.targets)["constant"]
    for line in remark_lines({"constant": constant}, corpus.targets):
        log.warning("%s", line)
    return scores


def in_range(corpus: Corpus, shares: np.ndarray) -> dict[str, np.ndarray]:
    """Target → its shares (N, E) in the range of the corpus's labels, as tables have them."""
    return dict(zip(corpus.targets, to_range(shares.astype(np.float64), corpus.range).T, strict=True))


def labels_of(corpus: Corpus, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Partition → labels (N, E), of the partitions that have some."""
    return {name: shares for name in names if (shares := corpus.partitions[name].shares) is not None}


def describe_scores(
    corpus: Corpus, predictions: dict[str, np.ndarray]
) -> tuple[dict[str, dict[str, list[str]]], dict[str, ClassScores]]:
    """`remarks` and `classes` of results.json: remarks on the scores, and the scores of one-hot labels."""
    true = labels_of(corpus, predictions)
    classes = {
        name: describe_classes(shares, predictions[name], corpus.targets)
        for name, shares in true.items()
        if is_one_hot(shares)
    }
    return remarks(predictions, true, corpus.targets), classes


def _check(name: str, files: tuple[str, ...], shares: np.ndarray, targets: tuple[str, ...]) -> None:
    assert shares.shape == (len(files), len(targets)), f"{name}: {shares.shape} shares of {len(files)} clips"
    bad = np.flatnonzero(~np.isfinite(shares).all(1))
    if len(bad):
        raise EmoshareError(
            f"{name}: {len(bad)} of {len(files)} clips have predictions that are NaN or infinite, the first "
            f"{files[bad[0]]}; lower optimizer.lr, or look at the clip's frames"
        )
