"""Files of features that another tool has made: a vector or frames per clip, by file name.

Shapes: R rows of a table, N clips, T frames, D features.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emoshare.core.errors import EmoshareError, brief
from emoshare.core.files import check_regular
from emoshare.core.text import search_place, several
from emoshare.data.records import need
from emoshare.data.tables import find_columns, find_separator, plain

if TYPE_CHECKING:
    from pandas import DataFrame

NAMES = ("file", "filename", "name")  # of the column with the clips
TIMES = ("start", "end", "frametime", "frameindex")  # columns after it that are no features
ROWS = re.compile(r"index|unnamed: 0|__index_level_\d+__")  # nor are numbers of rows, as pandas writes them
VALUES = ("features", "embeddings")  # of the array beside `files` in an .npz file
ARRAYS = (".npy", ".npz")  # of a clip each, in a folder
FORMATS = "an .npz, .csv or .parquet file, or a folder of .npy and .npz files"
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


@dataclass(frozen=True, eq=False)
class FeatureFile:
    """The content of a file or a folder.

    Attributes:
        names: (N,) of the clips, as the file has them.
        array: number of a clip → its features as they are, (D,) or (T, D) where they can be used.
    """

    names: list[str]
    array: Callable[[int], np.ndarray]

    def frames(self, number: int) -> np.ndarray:
        """Of a clip: (T, D) float32. ValueError says why they cannot be used."""
        array = self.array(number)
        if array.dtype.kind not in "fiub":
            raise ValueError(f"no numbers ({array.dtype})")
        if array.ndim not in (1, 2) or not array.size:
            raise ValueError(f"neither a vector (D,) nor frames (T, D), but {array.shape}")
        with np.errstate(over="ignore"):
            frames = np.atleast_2d(array).astype(np.float32)
        if not np.isfinite(frames).all():
            raise ValueError("NaN or infinite in single precision")
        return frames


def open_features(place: str) -> FeatureFile:
    """The features in a file or a folder. EmoshareError where there are none that can be read."""
    path = Path(place).expanduser()
    endings = {".npz": read_npz, ".csv": read_csv, ".tsv": read_csv, ".parquet": read_parquet}
    read = read_folder if path.is_dir() else endings.get(path.suffix.lower())
    if not path.exists():
        raise EmoshareError(f"backbone.path={place}: no such file or folder; name {FORMATS}{search_place(place)}")
    if read is None:
        raise EmoshareError(f"backbone.path={place}: features are read from {FORMATS}")
    try:
        features = read(path)
    except UNREADABLE as error:
        raise EmoshareError(f"{path}: cannot be read as features ({brief(error)}); name {FORMATS}") from error
    if not features.names:
        raise EmoshareError(f"{path}: holds no features; name {FORMATS}")
    return features


def files_of(path: Path) -> list[Path]:
    """The files that the features are read from: the path itself, or the arrays in a folder and its folders."""
    if not path.is_dir():
        return [path]
    paths = []
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        arrays = (name for name in names if name.endswith(ARRAYS) and not name.startswith("."))
        paths += [f"{folder}/{name}" for name in arrays]
    return list(map(Path, sorted(paths)))  # as paths they take ten times as long to sort


def read_folder(path: Path) -> FeatureFile:
    """A file for each clip, called as the clip."""
    files = files_of(path)
    names = [file.relative_to(path).with_suffix("").as_posix() for file in files]
    return FeatureFile(names, lambda number: read_array(files[number]))


def read_array(path: Path) -> np.ndarray:
    """The one array of a file. ValueError where it cannot be read, or holds several."""
    try:
        array = np.load(path, allow_pickle=False)
        if isinstance(array, np.ndarray):
            return array
        with array:
            if len(array.files) != 1:
                raise ValueError(f"{len(array.files)} arrays in one file")
            return array[array.files[0]]
    except UNREADABLE as error:
        raise ValueError(f"cannot be read ({brief(error)})") from None


def read_npz(path: Path) -> FeatureFile:
    """An array per clip, called as the clip; or the names in `files` and all features in an array beside it."""
    check_regular(path)
    arrays = np.load(path, allow_pickle=False)
    values = [name for name in VALUES if name in arrays.files]
    if "files" not in arrays.files or not values:
        names = list(arrays.files)
        return FeatureFile(names, lambda number: arrays[names[number]])
    files, features = arrays["files"].astype(str).tolist(), arrays[values[0]]
    if len(files) != len(features):
        raise ValueError(f"{len(files)} files, and {len(features)} rows in {values[0]}")
    return group_rows(files, features) if features.ndim == 2 else FeatureFile(files, features.__getitem__)


def read_csv(path: Path) -> FeatureFile:
    """A row per clip or frame: openSMILE's, audformat's, `emoshare embed`'s, or any with a column of file names."""
    import pandas

    check_regular(path)
    with path.open(encoding="utf-8-sig") as lines:
        separator = find_separator(next((line for line in lines if line.strip()), ""))
    read = partial(
        pandas.read_csv, path, sep=separator, encoding="utf-8-sig", skipinitialspace=True, low_memory=False,
        float_precision="round_trip",
    )  # fmt: skip
    at = name_column(read(nrows=0).columns)
    return read_table(read(converters={at: str}))  # 007 and NA are names


def read_parquet(path: Path) -> FeatureFile:
    """As `read_csv`; the features may also be one column of lists."""
    need("pyarrow", path)
    import pyarrow
    from pyarrow import parquet

    check_regular(path)
    try:
        return read_table(parquet.read_table(path).to_pandas(ignore_metadata=True))
    except pyarrow.ArrowException as error:
        raise ValueError(brief(error)) from None


def name_column(columns: Iterable[Any]) -> int:
    """The index of the column with the names of the clips. ValueError where there is no such column."""
    header = [str(name) for name in columns]
    places = [place for name in NAMES for place in find_columns(header, name)]
    if not places:
        raise ValueError(f"no column {', '.join(NAMES[:-1])} or {NAMES[-1]}")
    return places[0]


def read_table(table: DataFrame) -> FeatureFile:
    """A table with a column of file names. ValueError where it has none, or other columns than numbers."""
    header, at = [str(name) for name in table.columns], name_column(table.columns)
    names = [str(name).strip().strip("\"'") for name in table.iloc[:, at]]
    kept = [place for place, title in enumerate(header) if place != at and not ROWS.fullmatch(plain(title))]
    while kept and plain(header[kept[0]]) in TIMES:
        del kept[0]
    if not kept:
        raise ValueError("no column of features")
    features = table.iloc[:, kept]
    if len(kept) == 1 and features.iloc[:, 0].map(np.ndim).gt(0).all():
        cells = [np.atleast_2d(np.stack(cell) if cell.dtype == object else cell) for cell in features.iloc[:, 0]]
        return group_rows(names, cells)
    if wrong := [header[place] for place in kept if table.dtypes.iloc[place].kind not in "fiub"]:
        raise ValueError(f"column '{wrong[0]}' holds other things than numbers")
    return group_rows(names, features.to_numpy())


def group_rows(names: list[str], rows: Any) -> FeatureFile:
    """A row (D,), or rows (T, D), for each name; those of one name are the frames of a clip, in their order."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    groups = list(places.values())
    if isinstance(rows, np.ndarray):
        return FeatureFile(list(places), lambda number: rows[groups[number]])
    return FeatureFile(list(places), lambda number: np.concatenate([rows[place] for place in groups[number]]))


def unusable(problems: dict[str, list[str]]) -> Iterator[str]:
    """A line for each problem → the clips that have it."""
    remedy = "compute them again, or take these clips out of the file and of the label tables"
    for problem, names in problems.items():
        yield f"{problem}: the features of {several(names)}; {remedy}"
