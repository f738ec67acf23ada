"""groups/<partition>.csv of a run: speaker, country, sex … of the clips that it predicted, for the report.

As a finished run gets columns that are configured later, their digests are in the folder and not in results.json.

N clips of a partition.
"""

from __future__ import annotations

import csv
import io
from contextlib import suppress
from pathlib import Path

import numpy as np

from emoshare.core.config import DataConfig
from emoshare.core.errors import EmoshareError
from emoshare.core.files import replacing_folder
from emoshare.core.hashing import check_digests, write_digests
from emoshare.data.groups import cluster_numbers, group_columns, known_cluster
from emoshare.data.partition import Corpus
from emoshare.runs.resolved import ResolvedRun


def write_groups(folder: Path, corpus: Corpus) -> None:
    """Write groups/<partition>.csv for the partitions that a run predicts: the groups of each clip."""
    tables = {name: corpus.groups_of(name) for name in corpus.partitions if name != "train"}
    if not any(tables.values()):
        return
    with replacing_folder(folder / "groups") as unfinished:
        for name, groups in tables.items():
            if groups:
                text = io.StringIO()
                writer = csv.writer(text, lineterminator="\n")
                cells = (column.tolist() for column in groups.values())
                rows = zip(corpus.partitions[name].files, *cells, strict=True)
                writer.writerows([["filename", *groups], *rows])
                (unfinished / f"{name}.csv").write_text(text.getvalue(), encoding="utf-8")
        write_digests(unfinished)


def complete_groups(resolved: ResolvedRun) -> None:
    """Write the groups of a run that was finished before they were configured, or whose files of them are damaged.

    Nothing where its corpus is not at hand.
    """
    folder, config = resolved.run.folder, resolved.config.data
    known: tuple[str, ...] | None = None
    with suppress(EmoshareError):
        known = tuple(table[1]) if (table := read_groups(folder, "devel")) else ()
    at_hand = (Path(config.root).expanduser() / (config.table or config.train)).exists()
    if at_hand and (known is None or not set(group_columns(config)) <= set(known)):
        with suppress(OSError):  # read-only: nothing is lost but these columns
            write_groups(folder, resolved.corpus)


def clusters_of(
    folder: Path, partition: str, files: tuple[str, ...], config: DataConfig
) -> tuple[str | None, np.ndarray | None]:
    """The column whose clips belong together, and the number (N,) of each clip's cluster; None where none is known.

    files: the clips of the run's tables; groups of others count as unknown.
    """
    table = read_groups(folder, partition)
    column = known_cluster(config, table[1]) if table and table[0] == files else None
    return column, cluster_numbers(table[1][column]) if table and column else None


def read_groups(folder: Path, partition: str) -> tuple[tuple[str, ...], dict[str, np.ndarray]] | None:
    """Clips, and column → (N,) text, of a run's groups/<partition>.csv; None where it has none.

    Raises:
        EmoshareError: the file cannot be read, or is not what was written.
    """
    path = folder / "groups" / f"{partition}.csv"
    remedy = f"delete the folder {path.parent}, and start the sweep again"
    check_digests(path.parent, remedy)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = list(csv.reader(file))
        columns = list(zip(*rows, strict=True))
        return columns[0], {name: np.array(cells) for name, cells in zip(header[1:], columns[1:], strict=True)}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise EmoshareError(f"{path}: not readable ({error}); {remedy}") from None
