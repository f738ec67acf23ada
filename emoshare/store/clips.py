"""The input of an extraction: windows of a corpus's clips or of sound files. Shapes: N clips."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from emoshare.core.errors import EmoshareError
from emoshare.core.variants import Variant
from emoshare.data import audio
from emoshare.data.augment import augment, digest, length
from emoshare.data.partition import Corpus
from emoshare.data.window import Window, sample_count
from emoshare.store.recipe import KEY_BYTES, sample_key


@dataclass(frozen=True)
class Clips:
    """Sound files, and the window of each whose frames are wanted, whatever the backbone. A row is a clip's place."""

    name: str  # for people: of the corpus
    paths: Sequence[Path]
    digests: Sequence[bytes]  # sha256 of the files' bytes
    seconds: Sequence[float]
    window: Window
    variants: Sequence[Variant | None] = ()  # what is done to each before the window is cut; empty for nothing
    scale: float | None = None  # of files of floats, as for `audio.read`
    files: Sequence[str] = ()  # names in the corpus; empty: there is none, and the paths stand for them

    @property
    def names(self) -> list[str]:
        """Names of the clips in a file of features."""
        return list(self.files or map(str, self.paths))

    @classmethod
    def of_corpus(cls, corpus: Corpus, window: Window, further: Sequence[tuple[int, Variant]] = ()) -> Clips:
        """All clips, in corpus-wide order. Nothing is read.

        further: rows of clips with a variant of each, which follow them.
        """
        rows = [*range(len(corpus.files)), *(row for row, _ in further)]
        variants = [*[None] * len(corpus.files), *(variant for _, variant in further)]
        paths = [corpus.path(corpus.files[row]) for row in rows]
        digests, seconds = [corpus.digests[row] for row in rows], corpus.seconds[rows].tolist()
        files = [corpus.files[row] for row in rows]
        return cls(corpus.name, paths, digests, seconds, window, variants, corpus.scale, files)


class Windows:
    """The samples of clips that one backbone sees.

    Attributes:
        about: for people, in one line.
        keys: (N,) of `sample_key`.
        kept: (N,) samples of speech.
        sizes: (N,) samples with padding.
    """

    def __init__(self, clips: Clips, step: int, sees_padding: bool) -> None:
        """step: of the backbone, in samples. Raises EmoshareError for a random crop."""
        self.clips, self.window = clips, replace(clips.window, step=step)
        window = self.window
        if window.crop == "random":
            raise EmoshareError(
                "window.crop=random: every epoch sees other windows, which no store holds; use start or center"
            )
        self.about = f"{clips.name}, {window.seconds:g} s, pad={window.pad}, crop={window.crop}"
        self.variants = clips.variants or [None] * len(clips.paths)
        whole = zip(clips.digests, map(sample_count, clips.seconds), self.variants, strict=True)
        waves = [(sha, n) if v is None else (digest(v, sha), length(v, n)) for sha, n, v in whole]
        self.kept = np.array([window.length(n) for _, n in waves], np.int64)
        self.sizes = np.full_like(self.kept, window.samples) if window.pad == "zeros" else self.kept
        seen = self.sizes if sees_padding else self.kept
        cuts = zip(waves, self.kept.tolist(), seen.tolist(), strict=True)
        self.keys = [sample_key(sha, window.start(n), kept, padded, clips.scale) for (sha, n), kept, padded in cuts]

    def name(self, row: int) -> str:
        """The name of a clip in errors: its file."""
        path, variant = self.clips.paths[row], self.variants[row]
        return str(path) if variant is None else f"{path} ({variant})"

    def read(self, row: int) -> np.ndarray:
        """The samples of a clip (kept,), float32, of which `keys` tells. EmoshareError where they are not to be had."""
        sha256, variant = self.clips.digests[row], self.variants[row]
        wave = audio.read(self.clips.paths[row], sha256=sha256, scale=self.clips.scale)
        return self.window.cut(wave if variant is None else augment(variant, wave, sha256))


class Named(Windows):
    """Whole clips, whose frames a file holds under their names: neither sound nor window makes a difference."""

    def __init__(self, clips: Clips) -> None:
        self.clips, self.window = clips, clips.window
        self.about = f"{clips.name}, whole clips"
        self.variants = [None] * len(clips.paths)
        self.keys = [hashlib.sha256(f"name {name}".encode()).digest()[:KEY_BYTES] for name in clips.names]
        self.kept = self.sizes = np.array([sample_count(seconds) for seconds in clips.seconds], np.int64)
