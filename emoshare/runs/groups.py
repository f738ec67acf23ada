"""groups/<partition>.csv of a run: speaker, country, sex … of the clips that it predicted, for the report.

N clips of a partition.
"""

from __future__ import annotations

import csv
import io
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emoshare.core.config import Config, DataConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.files import write_text
from emoshare.data.corpus import Corpus, load
from emoshare.data.groups import cluster_numbers, known_cluster, wanted_columns

if TYPE_CHECKING:
    from emoshare.runs.folder import Run


def write_groups(run: Run, corpus: Corpus) -> None:
    """Write groups/<partition>.csv of what is predicted: the groups of each clip, for the report."""
    for name, partition in corpus.partitions.items():
        groups = corpus.groups_of(name)
        if groups and name != "train":
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            rows = zip(partition.files, *(cells.tolist() for cells in groups.values()), strict=True)
            writer.writerows([["filename", *groups], *rows])
            write_text(run.folder / "groups" / f"{name}.csv", text.getvalue())


def complete_groups(run: Run, config: Config) -> None:
    """Write the groups of a run that was finished before they were asked for, if its corpus is at hand."""
    wanted, known = wanted_columns(config.data), read_groups(run.folder, "devel")
    there = (Path(config.data.root).expanduser() / config.data.train).exists()
    if there and not set(wanted) <= set(known[1] if known else ()):
        with suppress(OSError):  # read-only: nothing is lost but these columns
            write_groups(run, load(config.data, Path(config.paths.cache)))


def clusters_of(
    folder: Path, partition: str, files: tuple[str, ...], config: DataConfig
) -> tuple[str | None, np.ndarray | None]:
    """The column whose clips belong together, and the number (N,) of each clip's cluster; None where none is known.

    files: the clips of the run's tables; groups of others count as unknown.
    """
    found = read_groups(folder, partition)
    column = known_cluster(config, found[1]) if found and found[0] == files else None
    return column, cluster_numbers(found[1][column]) if found and column else None


def read_groups(folder: Path, partition: str) -> tuple[tuple[str, ...], dict[str, np.ndarray]] | None:
    """Clips, and column → (N,) text, of a run's groups/<partition>.csv; None where it has none.

    Raises:
        EmoshareError: the file cannot be read.
    """
    path = folder / "groups" / f"{partition}.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = list(csv.reader(file))
        columns = list(zip(*rows, strict=True))
        return columns[0], {name: np.array(cells) for name, cells in zip(header[1:], columns[1:], strict=True)}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise EmoshareError(f"{path}: not readable ({error}); remove it, and start the sweep again") from None
