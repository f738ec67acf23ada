"""Hashes of the label tables of a corpus, and of the choice of rows and columns in them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from emoshare.core.config import DataConfig
from emoshare.core.files import read_bytes
from emoshare.data.derived import FILES
from emoshare.data.groups import cluster_column
from emoshare.data.names import list_files
from emoshare.data.tables import table_paths

VERSION = 5  # of the check: raise it when it finds or hashes something else


def tables_hash(config: DataConfig, root: Path) -> str:
    """sha256 of the label tables' bytes, whatever is wrong with them."""
    combined = hashlib.sha256(repr((VERSION, cluster_column(config), config.unknown)).encode())
    combined.update(repr(layout_of(config)).encode())
    beside = [config.metadata] if config.metadata else []
    partitions = [config.table] if config.table else [config.train, config.devel, config.test, config.unmasked]
    for name in (*partitions, *beside):
        try:
            contents = [table_state(path) for path in table_paths(root, name)] if name else None
        except (OSError, ValueError):  # the check of the corpus says what is wrong
            contents = None
        combined.update(repr((name, contents)).encode())
    if config.table == FILES:
        combined.update(repr(sorted(list_files(root / config.wav))).encode())
    return combined.hexdigest()


def table_state(path: Path) -> Any:
    """The state of a table: its bytes, or for one that may hold sound its size and time."""
    if path.suffix.lower() == ".parquet":
        status = path.stat()
        return status.st_size, status.st_mtime_ns
    tables = sorted(path.parent.glob("db.*")) if path.name == "db.yaml" else []
    return read_bytes(path), [table_state(table) for table in tables if table != path]


def layout_of(config: DataConfig) -> list[Any]:
    """The config's choice of rows, columns and labels in tables, where it is not the default."""
    layout = [config.table, config.columns, config.splits] if config.table or config.columns else []
    layout += list(filter(None, [config.classes, config.pattern, config.rows]))
    return [*layout, *([config.range] if config.range != [0, 1] else []), *filter("none".__ne__, [config.normalize])]
