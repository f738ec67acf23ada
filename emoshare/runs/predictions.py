"""The tables that every finished run leaves, whatever learned it: predicted shares, the labels beside them, the scores.

Shapes: N clips of a partition, E emotions.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emoshare.core.errors import EmoshareError
from emoshare.core.files import write_text
from emoshare.core.hashing import check_file
from emoshare.data.corpus import Corpus
from emoshare.runs.folder import Run
from emoshare.runs.groups import write_groups
from emoshare.runs.results import REMEDY, Results

Scores = dict[str, dict[str, float]]  # metric → "mean" and each emotion


def write_shares(path: Path, files: tuple[str, ...], columns: dict[str, np.ndarray]) -> None:
    """A table in the submission format: `filename` and one column per name, a row per clip, no index."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["filename", *columns])
    for file, *values in zip(files, *columns.values(), strict=True):
        writer.writerow([file, *(f"{value:.9g}" for value in values)])
    write_text(path, text.getvalue())


def tables_of(folder: Path) -> list[str]:
    """Names of the tables of a run that its results.json answers for."""
    return [
        str(path.relative_to(folder)) for kind in ("predictions", "reference") for path in (folder / kind).glob("*.csv")
    ]


def read_shares(
    folder: Path, name: str, results: Results, columns: Sequence[str] = ()
) -> tuple[tuple[str, ...], np.ndarray]:
    """Clips and numbers (N, C) of a run's table, as `predictions/devel.csv`; by default the columns of the targets.

    Raises:
        EmoshareError: it cannot be read, holds what is no finite number, or is not what the run has written.
    """
    path, targets = folder / name, columns or results.targets
    check_file(path, results.files.get(name), REMEDY)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        shares = np.array([[float(row[target]) for target in targets] for row in rows]).reshape(-1, len(targets))
        files = tuple(row["filename"] for row in rows)
        if not np.isfinite(shares).all():
            raise ValueError("a share is no finite number")
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise EmoshareError(f"{path}: not readable ({error}); train the run again") from None
    return files, shares


def score_and_write(run: Run, corpus: Corpus, predictions: dict[str, np.ndarray]) -> dict[str, Scores]:
    """Write predictions/, reference/ and groups/<partition>.csv, and score what has labels.

    Args:
        run: where the tables go.
        corpus: whose targets the columns are.
        predictions: partition → (N, E) shares in the order of the partition's clips.

    Returns:
        partition → scores over the whole partition.

    Raises:
        EmoshareError: a share is not a finite number. Nothing is written then.
    """
    from emoshare.models.metrics import score_table  # torchmetrics and scipy take a second to import

    for name, shares in predictions.items():
        _check(name, corpus.partitions[name].files, shares, corpus.targets)
    scores: dict[str, Scores] = {}
    for name, shares in predictions.items():
        partition = corpus.partitions[name]
        predicted = dict(zip(corpus.targets, shares.T, strict=True))
        write_shares(run.folder / "predictions" / f"{name}.csv", partition.files, predicted)
        if partition.shares is not None:
            scores[name] = score_table(shares, partition.shares, corpus.targets)
            true = dict(zip(corpus.targets, partition.shares.T, strict=True))
            reference = run.folder / "reference" / f"{name}.csv"
            write_shares(reference, partition.files, {**true, "seconds": partition.seconds})
    write_groups(run, corpus)
    return scores


def _check(name: str, files: tuple[str, ...], shares: np.ndarray, targets: tuple[str, ...]) -> None:
    assert shares.shape == (len(files), len(targets)), f"{name}: {shares.shape} shares of {len(files)} clips"
    bad = np.flatnonzero(~np.isfinite(shares).all(1))
    if len(bad):
        raise EmoshareError(
            f"{name}: {len(bad)} of {len(files)} clips have predictions that are NaN or infinite, the first "
            f"{files[bad[0]]}; lower optimizer.lr, or look at the clip's frames"
        )
