"""backbone.type=features: features of a file, which are stored and used as those of any other backbone.

No window applies: a clip has the vector or the frames that the file holds of it. What a file holds is noted under the
cache by the digest of its content, so that it is read as a whole once.

Shapes: N clips, T frames, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from emoshare.backbones.feature_files import FORMATS, files_of, open_features, unusable
from emoshare.core.errors import EmoshareError
from emoshare.core.files import where_writable
from emoshare.core.hashing import files_fingerprint, folder_fingerprint, read_sealed, write_sealed
from emoshare.core.schema import LONGEST_NAME, MISSING
from emoshare.core.text import search_place, several
from emoshare.data.names import Files

VERSION = 2  # of reading: raise it where the same file would give other frames


@dataclass(frozen=True)
class Matching:
    """The assignment of features to clips.

    Attributes:
        numbers: (N,) of the features of each clip.
        notes: what is worth knowing, a line each.
    """

    numbers: list[int]
    notes: list[str]


@dataclass(frozen=True)
class Facts:
    """The facts about a file of features.

    Attributes:
        dim: features of a frame.
        names: (N,) of the clips.
        lengths: (N,) frames of each.
    """

    dim: int
    names: list[str]
    lengths: list[int]

    @property
    def shape(self) -> str:
        """One vector per clip, or frames."""
        return "vector" if max(self.lengths) == 1 else "frames"

    def match(self, files: Sequence[str], path: str) -> Matching:
        """Find the features of clips, by names as label tables may have them.

        Raises:
            EmoshareError: a clip has none, or two, or a name may mean several clips; a line for each.
        """
        known, numbers = Files(files), dict[str, int]()
        surplus, problems = list[str](), list[str]()
        exact_first = sorted(range(len(self.names)), key=lambda number: self.names[number] not in known.files)
        for number in exact_first:
            name = self.names[number]
            fits = known.fitting(name)
            if len(fits) > 1:
                problems.append(f"{path}: {name} may be {several(fits)}; name the folder, too")
            elif not fits:
                surplus.append(name)
            elif fits[0] in numbers:
                other = self.names[numbers[fits[0]]]
                problems.append(f"{path}: {other} and {name} are both features of {fits[0]}; leave one")
            else:
                numbers[fits[0]] = number
        more = f"{several(surplus)} {'are no clips' if len(surplus) > 1 else 'is no clip'} of the corpus"
        if missing := [file for file in dict.fromkeys(files) if file not in numbers]:
            hint = f" ({more})" if surplus else ""
            remedy = "add them under the clips' names, or take these clips out of the label tables"
            problems.append(f"{path}: no features of {several(missing)}{hint}; {remedy}")
        if problems:
            raise EmoshareError("\n".join(problems))
        return Matching([numbers[file] for file in files], [f"{path}: {more}; they are left out"] if surplus else [])


def fingerprint(place: str, cache: Path) -> str:
    """Of the content of a file, or of the arrays in a folder. EmoshareError where it is gone and was never read."""
    path, memory = Path(place).expanduser(), cache / "fingerprints"
    try:
        known = files_fingerprint(path, files_of(path), memory) if path.exists() else folder_fingerprint(path, memory)
    except OSError as error:
        raise EmoshareError(f"backbone.path={place}: cannot be read ({error.strerror}); name {FORMATS}") from None
    if known is None:
        raise EmoshareError(f"backbone.path={place}: no such file or folder{search_place(place)}")
    return known


def read_facts(config: Any, cache: Path) -> Facts:
    """The facts about the file of a config, from the note of it, or read and checked as a whole.

    Raises:
        EmoshareError: it cannot be read, or features of some clips cannot be used; a line for each problem.
    """
    note = cache / "features" / f"{fingerprint(config.path, cache)}-{VERSION}.json"
    if note.is_file():
        return Facts(**read_sealed(note, "delete it and run the command again"))
    facts = check_features(config.path)
    with where_writable():
        write_sealed(note, vars(facts))
    return facts


def check_features(path: str) -> Facts:
    """Read all features. EmoshareError where some cannot be used."""
    file = open_features(path)
    problems: dict[str, list[str]] = {}
    widths: dict[int, list[str]] = {}
    lengths = []
    for number, name in enumerate(file.names):
        try:
            frames = file.frames(number)
        except ValueError as error:
            problems.setdefault(str(error), []).append(name)
            continue
        lengths.append(len(frames))
        widths.setdefault(frames.shape[1], []).append(name)
    lines = list(unusable(problems))
    if len(widths) > 1:
        text = "; ".join(f"{width} of {several(names)}" for width, names in sorted(widths.items())[:3])
        lines.append(f"not the same number of features of every clip ({text}); arrays are (D,) or (frames, D)")
    if lines:
        raise EmoshareError("\n".join(f"{path}: {line}" for line in lines))
    return Facts(next(iter(widths)), file.names, lengths)


def settle(config: Any, cache: Path | None) -> Any:
    """The config with its name, and with what the file holds. EmoshareError as `read_facts`, or for other values."""
    if config.path == MISSING or (cache is None and MISSING not in (config.name, config.dim, config.shape)):
        return config
    facts = check_features(config.path) if cache is None else read_facts(config, cache)
    for key in ("dim", "shape"):
        if getattr(config, key) not in (MISSING, actual := getattr(facts, key)):
            given = f"backbone.{key}={getattr(config, key)}"
            raise EmoshareError(f"{given}: must be {actual}, as in {config.path}; leave it out")
    stem = Path(config.path).expanduser().absolute().stem.lstrip(".")[:LONGEST_NAME]
    name = (stem or "features") if config.name == MISSING else config.name
    return replace(config, name=name, dim=facts.dim, shape=facts.shape)


@dataclass(frozen=True, eq=False)
class Features:
    """The features of some clips.

    Attributes:
        lengths: (N,) frames of each.
        read: row → (T, D) float32.
    """

    lengths: np.ndarray
    read: Callable[[int], np.ndarray]


class FeatureExtractor:
    """An `Extractor` that computes nothing: it has the frames of the clips that a file names."""

    compute = precision = "float32"
    sees_padding = equal_lengths = False
    batch_seconds = 0.0  # nothing goes through it

    def __init__(self, config: Any, device: Any, cache: Path) -> None:
        """Raises EmoshareError as `read_facts`."""
        self.config, self.device, self.cache = config, device, cache
        self.facts = read_facts(config, cache)
        self.width = self.facts.dim
        self.identity: dict[str, Any] = {
            "name": config.name, "path": config.path, "type": config.type, "revision": None, "pretrained": True,
            "class": type(self).__name__, "version": VERSION, "dim": self.width, "layers": 0, "layer": "last",
            "parameters": 0, "stored": "float32", "shape": self.facts.shape, "weights": fingerprint(config.path, cache),
        }  # fmt: skip

    def features(self, names: Sequence[str]) -> Features:
        """Those of clips. EmoshareError where the file has changed, or lacks one of them."""
        path = self.config.path
        numbers = self.facts.match(names, path).numbers
        file = open_features(path)
        if fingerprint(path, self.cache) != self.identity["weights"] or file.names != self.facts.names:
            raise EmoshareError(f"{path}: has changed while the command ran; run it again")

        def read(row: int) -> np.ndarray:
            try:
                return file.frames(numbers[row])
            except ValueError as error:
                raise EmoshareError(f"{path}: {names[row]}: {error}; run the command again") from error

        return Features(np.array(self.facts.lengths, np.int64)[numbers], read)

    def frame_counts(self, samples: np.ndarray) -> np.ndarray:
        """Of clips that are not in the file nothing is known but whether they would have more than one frame."""
        return np.full(len(samples), 1 if self.facts.shape == "vector" else 2)

    def __call__(self, waves: Any, lengths: Any) -> Any:
        """Raises EmoshareError: no features can be made of samples."""
        raise EmoshareError(
            f"{self.config.name}: its features come from a file ({self.config.path}), and are not computed from sound; "
            "give those of these recordings with `emoshare predict --store --features FILE`"
        )

    def reading(self, path: str) -> FeatureExtractor:
        """The same with the features of another file. EmoshareError where it has another number of them."""
        other = FeatureExtractor(replace(self.config, path=path), self.device, self.cache)
        if other.width != self.width:
            raise EmoshareError(f"{path}: {other.width} features, and the run was trained on {self.width}")
        return other
